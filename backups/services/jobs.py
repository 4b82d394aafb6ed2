from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from backups.models import BackupJob, BackupRun, Storage, Target
from backups.retention.policy import PolicyError
from backups.services.errors import refuse
from backups.services.names import clean_name
from backups.services.options import retention_clean
from backups.services.protections import holds_clear_way
from scheduling.cron import ScheduleError, load_zone, parse_cron
from scheduling.ledger import runs_clear_way


def job_create(
    *,
    name: str,
    targets: Collection[Target],
    storage: Storage,
    schedule: str = "",
    timezone: str = "",
    enabled: bool = True,
    retention: Mapping[str, Any] | None = None,
) -> BackupJob:
    """Add a backup job. Raises ValidationError keyed by field; a policy's errors are keyed `retention.<rule>`."""
    return _save(BackupJob(), name, targets, storage, schedule, timezone, enabled, retention)


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
) -> BackupJob:
    """Change a backup job. Raises ValidationError keyed by field; a policy's errors are keyed `retention.<rule>`."""
    return _save(BackupJob.objects.get(pk=job.pk), name, targets, storage, schedule, timezone, enabled, retention)


def job_set_enabled(*, job: BackupJob, enabled: bool) -> BackupJob:
    """Switch a job's schedule on or off; runs by hand stay possible."""
    changed = BackupJob.objects.get(pk=job.pk)
    changed.enabled = enabled
    changed.save(update_fields=["enabled", "updated_at"])
    return changed


def job_delete(*, job: BackupJob) -> None:
    """Forget a job. Its runs and backups stay, under its name. Refused while it runs or is held; a waiting run is
    cancelled.
    """
    with transaction.atomic():
        holds_clear_way(job=job)
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


def _save(
    job: BackupJob,
    name: str,
    targets: Collection[Target],
    storage: Storage,
    schedule: str,
    timezone: str,
    enabled: bool,
    retention: Mapping[str, Any] | None,
) -> BackupJob:
    job.name = clean_name(name)
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
    job.storage, job.schedule, job.timezone, job.enabled = storage, clean["schedule"], clean["timezone"], enabled
    taken = f"There is a backup job called “{job.name}” already."
    if BackupJob.objects.exclude(pk=job.pk).filter(name=job.name).exists():
        raise refuse("name", taken)
    try:
        with transaction.atomic():
            job.save()
            job.targets.set(targets)
    except IntegrityError as error:
        raise refuse("name", taken) from error
    return job
