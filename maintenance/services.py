"""Maintenance jobs and runs, as pages, commands and the API read and change them."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from backups.services.errors import refuse
from backups.services.jobs import schedule_clean
from backups.services.names import clean_name
from maintenance.choices import JobType
from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling.ledger import runs_clear_way

CLEANUP_NIGHTLY = "retention_cleanup_nightly"
CLEANUP_MANUAL = "retention_cleanup_manual"
PURGE_TRASH = "purge_trash"


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
) -> MaintenanceJob:
    """Add a maintenance job. Raises ValidationError keyed by field."""
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
            job.save()
    except IntegrityError as error:
        raise refuse("key", f"There is a maintenance job with the key “{job.key}” already.") from error
    return job


def job_update(*, job: MaintenanceJob, **changes: Any) -> MaintenanceJob:
    """Change some of `name`, `schedule_cron`, `timezone`, `enabled` and `visible_in_ui`.

    Raises ValidationError keyed by field.
    """
    with transaction.atomic():
        changed = MaintenanceJob.objects.select_for_update().get(pk=job.pk)
        schedule = _clean_schedule(
            changes.pop("schedule_cron", changed.schedule_cron), changes.pop("timezone", changed.timezone)
        )
        if changed.key == CLEANUP_MANUAL and schedule["schedule_cron"]:
            raise refuse("schedule_cron", f"This job is never scheduled. Give the schedule to {CLEANUP_NIGHTLY}.")
        if "name" in changes:
            changes["name"] = clean_name(changes["name"])
        for field, value in {**schedule, **changes}.items():
            setattr(changed, field, value)
        changed.save()
    return changed


def job_delete(*, job: MaintenanceJob) -> None:
    """Forget a job. Its runs stay, under its name. Refused while it runs; a waiting run is cancelled.

    The default jobs cannot be forgotten: pages, commands and the API look them up by key.
    """
    if job.key == CLEANUP_MANUAL:
        raise ValidationError(f"{job.name} stands behind “Run cleanup now” and cannot be deleted.")
    if job.key in (CLEANUP_NIGHTLY, PURGE_TRASH):
        raise ValidationError(f"{job.name} cannot be deleted. Switch its schedule off instead.")
    runs_clear_way(kind_name=MaintenanceRun.KIND, job=job)
    job.delete()


def key_clean(key: str) -> str:
    """A key fit to be looked up by, checked. Raises ValidationError keyed `key`."""
    try:
        validate_slug(key)
    except ValidationError as error:
        raise refuse("key", f"“{key}” cannot be a key. Use letters, digits, hyphens and underscores.") from error
    if len(key) > 64:
        raise refuse("key", f"The key has {len(key)} characters; 64 are the most.")
    return key


def _clean_schedule(schedule_cron: str, timezone: str) -> dict[str, str]:
    try:
        clean = schedule_clean(schedule=schedule_cron, timezone=timezone)
    except ValidationError as error:
        errors = error.message_dict
        if "schedule" in errors:
            errors["schedule_cron"] = errors.pop("schedule")
        raise ValidationError(errors) from error
    return {"schedule_cron": clean["schedule"], "timezone": clean["timezone"]}
