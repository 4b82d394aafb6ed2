from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from backups.models import BackupJob, BackupRun, Storage, Target
from backups.retention.policy import PolicyError
from backups.services.errors import refuse
from backups.services.names import MAX_NAME, clean_name
from backups.services.options import retention_clean
from backups.services.protections import holds_clear_way
from scheduling.cron import ScheduleError, load_zone, parse_cron
from scheduling.job_settings import copy_name, followers_clear_way, settings_clean, settings_of
from scheduling.ledger import runs_clear_way, runs_reconsider


def job_create(
    *,
    name: str,
    targets: Collection[Target],
    storage: Storage,
    schedule: str = "",
    timezone: str = "",
    enabled: bool = True,
    retention: Mapping[str, Any] | None = None,
    **settings: Any,
) -> BackupJob:
    """Add a backup job; `settings` are some of `scheduling.job_settings.DEFAULTS`.

    Raises ValidationError keyed by field; a policy's errors are keyed `retention.<rule>`.
    """
    with transaction.atomic():
        return _save(BackupJob(), name, targets, storage, schedule, timezone, enabled, retention, settings)


def job_update(
    *,
    job: BackupJob,
    name: str,
    targets: Collection[Target],
    storage: Storage,
    schedule: str,
    timezone: str,
    enabled: bool,
    retention: Mapping[str, Any] | None,
    **settings: Any,
) -> BackupJob:
    """Change a backup job; of `settings` (`scheduling.job_settings.DEFAULTS`) those left out stay.

    A run that is going keeps what it began with. Raises ValidationError keyed by field, a policy's errors keyed
    `retention.<rule>`, and BackupJob.DoesNotExist.
    """
    with transaction.atomic():
        changed = BackupJob.objects.select_for_update().get(pk=job.pk)
        return _save(changed, name, targets, storage, schedule, timezone, enabled, retention, settings)


def job_set(*, job: BackupJob, **settings: Any) -> BackupJob:
    """Change some of a job's settings (`scheduling.job_settings.DEFAULTS`) and nothing else.

    Raises ValidationError keyed by field, and BackupJob.DoesNotExist.
    """
    with transaction.atomic():
        changed = BackupJob.objects.select_for_update().get(pk=job.pk)
        clean = settings_clean(settings, job=changed)
        for field, value in clean.items():
            setattr(changed, field, value)
        changed.save(update_fields=[*clean, "updated_at"])
        runs_reconsider(kind_name=BackupRun.KIND, job=changed)
    return changed


def job_set_enabled(*, job: BackupJob, enabled: bool) -> BackupJob:
    """Switch off or on what a job starts by itself; runs by hand stay possible. Raises BackupJob.DoesNotExist."""
    changed = BackupJob.objects.get(pk=job.pk)
    changed.enabled = enabled
    changed.save(update_fields=["enabled", "updated_at"])
    return changed


def job_copy_name(job: BackupJob) -> str:
    """A name for a copy of the job, such as “nightly copy”, that no job has."""
    return copy_name(job.name, lambda name: BackupJob.objects.filter(name=name).exists(), longest=MAX_NAME)


def job_duplicate(*, job: BackupJob) -> BackupJob:
    """Add a copy of the job under a name of its own, switched off. Holds and approvals stay with the job itself.

    Raises ValidationError keyed by field.
    """
    return job_create(
        name=job_copy_name(job),
        targets=list(job.targets.all()),
        storage=job.storage,
        schedule=job.schedule,
        timezone=job.timezone,
        enabled=False,
        retention=job.retention,
        **settings_of(job),
    )


def job_delete(*, job: BackupJob) -> None:
    """Forget a job. Its runs and backups stay, under its name. Refused while it runs, is held, or another job runs
    after it; a waiting run is cancelled.
    """
    with transaction.atomic():
        holds_clear_way(job=job)
        followers_clear_way(job)
        runs_clear_way(kind_name=BackupRun.KIND, job=job)
        job.delete()


def schedule_clean(*, schedule: str, timezone: str) -> dict[str, str]:
    """A schedule ("" for by hand only) and zone ("" for the default), checked.

    Raises ValidationError keyed by field.
    """
    errors: dict[str, list[str]] = {}
    text, zone = schedule.strip(), timezone.strip()
    try:
        text = parse_cron(text).text if text else ""
    except ScheduleError as error:
        errors["schedule"] = [str(error)]
    try:
        if zone:
            load_zone(zone)
    except ScheduleError as error:
        errors["timezone"] = [str(error)]
    if errors:
        raise ValidationError(errors)
    return {"schedule": text, "timezone": zone}


def storage_inside_source(*, target: Target, storage: Storage) -> str:
    """Why `target` cannot be kept in `storage`: a backup would then contain the backups before it. "" when it can."""
    for path in target.paths:
        if PurePath(storage.path).is_relative_to(path):
            return (
                f"The storage {storage.name} ({storage.path}) lies inside {path}, which belongs to {target.name}: "
                "each backup would contain the ones before it. Choose another storage or narrower paths."
            )
    return ""


def _still_there(targets: Collection[Target], storage: Storage) -> None:
    """Raise ValidationError when what a form chose was deleted since; what is there stays until the job is saved."""
    wanted = [target.pk for target in targets]
    there = set(Target.objects.select_for_update().filter(pk__in=wanted).order_by("pk").values_list("pk", flat=True))
    if gone := [target.name for target in targets if target.pk not in there]:
        raise refuse("targets", f"{', '.join(gone)} was deleted a moment ago. Choose again.")
    if not Storage.objects.select_for_update().filter(pk=storage.pk).exists():
        raise refuse("storage", f"{storage.name} was deleted a moment ago. Choose another.")


def _save(
    job: BackupJob,
    name: str,
    targets: Collection[Target],
    storage: Storage,
    schedule: str,
    timezone: str,
    enabled: bool,
    retention: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
) -> BackupJob:
    job.name = clean_name(name)
    _still_there(targets, storage)
    if not targets:
        raise refuse("targets", "Choose at least one target to back up.")
    for target in targets:
        if problem := storage_inside_source(target=target, storage=storage):
            raise refuse("storage", problem)
    clean = schedule_clean(schedule=schedule, timezone=timezone)
    try:
        job.retention = None if retention is None else retention_clean(retention)
    except PolicyError as error:
        raise ValidationError({f"retention.{field}": [message] for field, message in error.errors.items()}) from error
    for field, value in settings_clean(settings, job=job).items():
        setattr(job, field, value)
    job.storage, job.schedule, job.timezone, job.enabled = storage, clean["schedule"], clean["timezone"], enabled
    taken = f"There is a backup job called “{job.name}” already."
    if BackupJob.objects.exclude(pk=job.pk).filter(name=job.name).exists():
        raise refuse("name", taken)
    try:
        with transaction.atomic():
            job.save()
            job.targets.set(targets)
            runs_reconsider(kind_name=BackupRun.KIND, job=job)
    except IntegrityError as error:
        raise refuse("name", taken) from error
    return job
