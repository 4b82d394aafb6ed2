"""Maintenance jobs and runs, as pages, commands and the API read and change them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from backups.services.errors import refuse
from backups.services.jobs import schedule_clean
from backups.services.names import MAX_NAME, clean_name
from maintenance.choices import JobType
from maintenance.models import MaintenanceJob, MaintenanceRun
from maintenance.tasks import TASKS
from scheduling.job_settings import copy_name, followers_clear_way, settings_clean, settings_of
from scheduling.ledger import runs_clear_way, runs_reconsider

CLEANUP_NIGHTLY = "retention_cleanup_nightly"
CLEANUP_MANUAL = "retention_cleanup_manual"
PURGE_TRASH = "purge_trash"
ONLY_BY_HAND = f"This job only runs by hand. Let {CLEANUP_NIGHTLY} run after another job."
MAX_KEY = 64
# Where the jobs' own addresses would be: /maintenance-jobs/new/.
RESERVED_KEYS = ("new",)


def list_jobs(visible_in_ui: bool | None = None) -> QuerySet[MaintenanceJob]:
    """Maintenance jobs by key; only the visible or only the hidden ones when `visible_in_ui` says so."""
    jobs = MaintenanceJob.objects.order_by("key")
    return jobs if visible_in_ui is None else jobs.filter(visible_in_ui=visible_in_ui)


def get_job(job_id: int) -> MaintenanceJob:
    """The job with this id. Raises MaintenanceJob.DoesNotExist."""
    return MaintenanceJob.objects.get(pk=job_id)


def get_job_by_key(key: str) -> MaintenanceJob:
    """The job with this key. Raises MaintenanceJob.DoesNotExist."""
    return MaintenanceJob.objects.get(key=key)


def list_runs(limit: int | None = None) -> QuerySet[MaintenanceRun]:
    """Maintenance runs, newest first; at most `limit` of them."""
    runs = MaintenanceRun.objects.select_related("job").newest_first()
    return runs if limit is None else runs[: max(0, limit)]


def get_run(run_id: int) -> MaintenanceRun:
    """The run with this id. Raises MaintenanceRun.DoesNotExist."""
    return MaintenanceRun.objects.select_related("job").get(pk=run_id)


def job_create(
    *,
    key: str,
    job_type: str,
    name: str = "",
    schedule_cron: str = "",
    timezone: str = "",
    enabled: bool = True,
    visible_in_ui: bool = True,
    **settings: Any,
) -> MaintenanceJob:
    """Add a maintenance job; `settings` are some of `scheduling.job_settings.DEFAULTS`.

    Raises ValidationError keyed by field.
    """
    if job_type not in JobType.values:
        raise refuse("job_type", f"“{job_type}” is not a kind of maintenance. There are: {', '.join(JobType.values)}.")
    job = MaintenanceJob(
        key=key_clean(key),
        job_type=job_type,
        name=clean_name(name or key.replace("_", " ").capitalize()),
        enabled=enabled,
        visible_in_ui=visible_in_ui,
        **_clean_schedule(schedule_cron, timezone),
    )
    try:
        with transaction.atomic():
            _set_settings(job, settings)
            job.save()
    except IntegrityError as error:
        raise refuse("key", f"There is a maintenance job with the key “{job.key}” already.") from error
    return job


def job_update(*, job: MaintenanceJob, **changes: Any) -> MaintenanceJob:
    """Change some of `name`, `schedule_cron`, `timezone`, `enabled`, `visible_in_ui` and the settings of
    `scheduling.job_settings.DEFAULTS`. A run that is going keeps what it began with.

    Raises ValidationError keyed by field, and MaintenanceJob.DoesNotExist.
    """
    with transaction.atomic():
        changed = MaintenanceJob.objects.select_for_update().get(pk=job.pk)
        schedule = _clean_schedule(
            changes.pop("schedule_cron", changed.schedule_cron), changes.pop("timezone", changed.timezone)
        )
        own: dict[str, Any] = {
            field: changes.pop(field) for field in ("name", "enabled", "visible_in_ui") if field in changes
        }
        if changed.key == CLEANUP_MANUAL and schedule["schedule_cron"]:
            raise refuse("schedule_cron", f"This job is never scheduled. Give the schedule to {CLEANUP_NIGHTLY}.")
        if "name" in own:
            own["name"] = clean_name(own["name"])
        _set_settings(changed, changes)
        own |= schedule
        for field, value in own.items():
            setattr(changed, field, value)
        changed.save()
        runs_reconsider(kind_name=MaintenanceRun.KIND, job=changed)
    return changed


def job_copy_key(job: MaintenanceJob) -> str:
    """A key for a copy of the job, such as “cleanup_copy”, that no job has."""
    taken = MaintenanceJob.objects.filter
    return copy_name(job.key, lambda key: taken(key=key).exists(), longest=MAX_KEY, between="_")


def job_copy_name(job: MaintenanceJob) -> str:
    """A name for a copy of the job that no job has."""
    taken = MaintenanceJob.objects.filter
    return copy_name(job.name, lambda name: taken(name=name).exists(), longest=MAX_NAME)


def job_duplicate(*, job: MaintenanceJob) -> MaintenanceJob:
    """Add a copy of the job under a key and name of its own, visible and switched off. Approvals are not copied.

    Raises ValidationError keyed by field.
    """
    return job_create(
        key=job_copy_key(job),
        job_type=job.job_type,
        name=job_copy_name(job),
        schedule_cron=job.schedule_cron,
        timezone=job.timezone,
        enabled=False,
        **settings_of(job),
    )


def job_delete(*, job: MaintenanceJob) -> None:
    """Forget a job. Its runs stay, under its name. Refused while it runs or another job runs after it; a waiting run
    is cancelled.

    The default jobs cannot be forgotten: pages, commands and the API look them up by key.
    """
    if refusal := job_kept_reason(job):
        raise ValidationError(refusal)
    with transaction.atomic():
        followers_clear_way(job)
        runs_clear_way(kind_name=MaintenanceRun.KIND, job=job)
        job.delete()


def job_kept_reason(job: MaintenanceJob) -> str:
    """Why a job cannot be deleted, whatever it does; "" when it can."""
    if job.key == CLEANUP_MANUAL:
        return f"{job.name} stands behind “Run cleanup now” and cannot be deleted."
    if job.key in (CLEANUP_NIGHTLY, PURGE_TRASH):
        return f"{job.name} cannot be deleted. Switch its schedule off instead."
    return ""


def may_retry(job_type: str) -> bool:
    """Whether a failed run of this type may be tried again without a person: never one that deletes."""
    task = TASKS.get(job_type)
    return task is not None and task.may_retry


def settings_of_type_clean(values: Mapping[str, Any], *, job: MaintenanceJob) -> dict[str, Any]:
    """`scheduling.job_settings.settings_clean` with what maintenance adds. Raises ValidationError keyed by field."""
    if job.key == CLEANUP_MANUAL and values.get("run_after"):
        raise refuse("run_after", ONLY_BY_HAND)
    return settings_clean(values, job=job, may_retry=may_retry(job.job_type))


def key_clean(key: str) -> str:
    """A key fit to be looked up by, checked. Raises ValidationError keyed `key`."""
    try:
        validate_slug(key)
    except ValidationError as error:
        raise refuse("key", f"“{key}” cannot be a key. Use letters, digits, hyphens and underscores.") from error
    if len(key) > MAX_KEY:
        raise refuse("key", f"The key has {len(key)} characters; {MAX_KEY} are the most.")
    if key in RESERVED_KEYS:
        raise refuse("key", f"“{key}” is the address of a page. Choose another key.")
    return key


def _set_settings(job: MaintenanceJob, values: Mapping[str, Any]) -> None:
    for field, value in settings_of_type_clean(values, job=job).items():
        setattr(job, field, value)


def _clean_schedule(schedule_cron: str, timezone: str) -> dict[str, str]:
    try:
        clean = schedule_clean(schedule=schedule_cron, timezone=timezone)
    except ValidationError as error:
        errors = error.message_dict
        if "schedule" in errors:
            errors["schedule_cron"] = errors.pop("schedule")
        raise ValidationError(errors) from error
    return {"schedule_cron": clean["schedule"], "timezone": clean["timezone"]}
