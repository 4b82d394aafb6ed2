"""How a maintenance run is recorded and carried out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

from backups.services.job_rows import jobs_in_zones, jobs_revision
from maintenance.models import MaintenanceJob, MaintenanceRun, MaintenanceRunLogLine
from maintenance.shared_schedules import is_cleanup, shared_schedules
from maintenance.tasks import TASKS
from scheduling.context import RunContext, RunFailedError, RunResult
from scheduling.dispatch import dispatch_run
from scheduling.items import ScheduledItem
from scheduling.models import Run
from scheduling.registry import RunKind, register_kind


def execute_maintenance_job(job_id: int, *, inline: bool = True, **request: Any) -> Run | None:
    """Record a run of a maintenance job and, when `inline`, run it to its end here; None when there is no such job."""
    job = MaintenanceJob.objects.filter(pk=job_id).first()
    if job is None:
        return None
    return dispatch_run(
        kind_name=MaintenanceRun.KIND,
        job=job,
        job_name=job.name,
        item=ScheduledItem.from_maintenance_job(job),
        inline=inline,
        job_key=job.key,
        job_type=job.job_type,
        **request,
    )


def preview_maintenance_job(job: MaintenanceJob, params: dict[str, Any] | None = None) -> RunResult:
    """What a run of this job would do now; nothing is recorded and nothing changes."""
    return TASKS[job.job_type].preview(_unsaved_run(job, params or {}))


def perform_maintenance(run: MaintenanceRun, context: RunContext) -> RunResult:
    """Hand a claimed run to the task of its type."""
    if run.job is None:
        raise RunFailedError(f"{run.job_name} was deleted before this run started. Nothing was done.")
    task = TASKS.get(run.job_type)
    if task is None:
        raise RunFailedError(
            f"{run.job_name} is of the type “{run.job_type}”, which this version of Keepwell does not know."
        )
    return task.perform(run, context)


def _unsaved_run(job: MaintenanceJob, params: dict[str, Any]) -> MaintenanceRun:
    return MaintenanceRun(job=job, job_name=job.name, job_key=job.key, job_type=job.job_type, params=params)


def _items() -> Iterator[ScheduledItem]:
    return map(ScheduledItem.from_maintenance_job, jobs_in_zones(MaintenanceJob, "key", "schedule_cron"))


def _nothing(_run: MaintenanceRun) -> None:
    """A maintenance run takes nothing at its start and gives nothing back at its end."""


def _all_of_them(queued: QuerySet[MaintenanceRun]) -> QuerySet[MaintenanceRun]:
    """Maintenance runs of different jobs do not wait for each other."""
    return queued


def _may_retry(run: MaintenanceRun) -> bool:
    """Whatever deletes is never tried again without a person."""
    task = TASKS.get(run.job_type)
    return task is not None and task.may_retry


def _nothing_to_recover() -> None:
    """What a dead cleanup left between two states belongs to the backups, and is mended by them."""


def register() -> None:
    """Make maintenance runs known to the scheduler."""
    register_kind(
        RunKind(
            kind=MaintenanceRun.KIND,
            label="Maintenance",
            run_model=MaintenanceRun,
            log_model=MaintenanceRunLogLine,
            execute=execute_maintenance_job,
            perform=perform_maintenance,
            claim=_nothing,
            release=_nothing,
            recover=_nothing_to_recover,
            ready=_all_of_them,
            items=_items,
            revision=lambda: jobs_revision(MaintenanceJob),
            figures_template="maintenance/run_figures.html",
            may_retry=_may_retry,
            view_permission="maintenance.view_maintenancerun",
            run_permission="maintenance.run_maintenancejob",
            shared_schedules=shared_schedules,
            is_cleanup=is_cleanup,
        )
    )
