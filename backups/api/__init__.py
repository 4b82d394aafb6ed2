# ruff: noqa: ARG001 - every operation is handed the request, whether it needs it or not
"""Storages, targets, backup jobs, their runs, and the options, as JSON."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Router, Status
from ninja.errors import HttpError

from accounts.permissions import requires_api
from backups import models, schemas
from backups.api.copies import router as copies_router
from backups.api.job_actions import router as job_actions_router
from backups.api.run_actions import router as run_actions_router
from backups.services import jobs, options, storages, targets
from backups.services.errors import refuse
from backups.services.policy_record import policies_recorded
from scheduling.api import PROBLEMS, ByName, LogLine, LogPage, Page, RunFilters, found
from scheduling.choices import RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.registry import get_kind

router = Router()
router.add_router("", copies_router)
router.add_router("", job_actions_router)
router.add_router("", run_actions_router)


# --- Storages -----------------------------------------------------------------------------------------------------


@router.get("/storages", response={200: Page[schemas.Storage], **PROBLEMS}, tags=["Storages"], summary="List storages")
@requires_api("backups.view_storage")
def list_storages(request: HttpRequest, page: Query[ByName]) -> dict[str, Any]:
    return _page(page.page(models.Storage.objects.all()))


@router.post("/storages", response={201: schemas.Storage, **PROBLEMS}, tags=["Storages"], summary="Add a storage")
@requires_api("backups.add_storage")
def create_storage(request: HttpRequest, data: schemas.StorageCreate) -> Status[Any]:
    """Makes the folder when its parent exists, and writes the sentinel file into it."""
    return Status(201, storages.storage_create(**data.model_dump()))


@router.get(
    "/storages/{storage_id}", response={200: schemas.Storage, **PROBLEMS}, tags=["Storages"], summary="Get a storage"
)
@requires_api("backups.view_storage")
def get_storage(request: HttpRequest, storage_id: int) -> models.Storage:
    return _storage(storage_id)


@router.patch(
    "/storages/{storage_id}", response={200: schemas.Storage, **PROBLEMS}, tags=["Storages"], summary="Change a storage"
)
@requires_api("backups.change_storage")
def update_storage(request: HttpRequest, storage_id: int, data: schemas.StorageUpdate) -> models.Storage:
    storage = _storage(storage_id)
    values = {"name": storage.name, "path": storage.path, **data.model_dump(exclude_unset=True)}
    return storages.storage_update(storage=storage, **values)


@router.delete(
    "/storages/{storage_id}", response={204: None, **PROBLEMS}, tags=["Storages"], summary="Forget a storage"
)
@requires_api("backups.delete_storage")
def delete_storage(request: HttpRequest, storage_id: int) -> Status[None]:
    """Its folder is left as it is. Refused (409) while a job or a backup refers to it."""
    storages.storage_delete(storage=_storage(storage_id))
    return Status(204, None)


# --- Targets ------------------------------------------------------------------------------------------------------


@router.get("/targets", response={200: Page[schemas.Target], **PROBLEMS}, tags=["Targets"], summary="List targets")
@requires_api("backups.view_target")
def list_targets(request: HttpRequest, page: Query[ByName]) -> dict[str, Any]:
    return _page(page.page(models.Target.objects.all()))


@router.post("/targets", response={201: schemas.Target, **PROBLEMS}, tags=["Targets"], summary="Add a target")
@requires_api("backups.add_target")
def create_target(request: HttpRequest, data: schemas.TargetCreate) -> Status[Any]:
    return Status(201, targets.target_create(**data.model_dump()))


@router.get(
    "/targets/{target_id}", response={200: schemas.Target, **PROBLEMS}, tags=["Targets"], summary="Get a target"
)
@requires_api("backups.view_target")
def get_target(request: HttpRequest, target_id: int) -> models.Target:
    return _target(target_id)


@router.patch(
    "/targets/{target_id}", response={200: schemas.Target, **PROBLEMS}, tags=["Targets"], summary="Change a target"
)
@requires_api("backups.change_target")
def update_target(request: HttpRequest, target_id: int, data: schemas.TargetUpdate) -> models.Target:
    target = _target(target_id)
    values = {"name": target.name, "config": target.config, **data.model_dump(exclude_unset=True)}
    return targets.target_update(target=target, **values)


@router.delete("/targets/{target_id}", response={204: None, **PROBLEMS}, tags=["Targets"], summary="Forget a target")
@requires_api("backups.delete_target")
def delete_target(request: HttpRequest, target_id: int) -> Status[None]:
    """Its backups and history stay. Refused (409) while a job names it."""
    targets.target_delete(target=_target(target_id))
    return Status(204, None)


# --- Backup jobs --------------------------------------------------------------------------------------------------


@router.get(
    "/backup-jobs",
    response={200: Page[schemas.BackupJob], **PROBLEMS},
    tags=["Backup jobs"],
    summary="List backup jobs",
)
@requires_api("backups.view_backupjob")
def list_backup_jobs(request: HttpRequest, page: Query[ByName]) -> dict[str, Any]:
    return _page(page.page(models.BackupJob.objects.prefetch_related("job_targets")))


@router.post(
    "/backup-jobs", response={201: schemas.BackupJob, **PROBLEMS}, tags=["Backup jobs"], summary="Add a backup job"
)
@requires_api("backups.add_backupjob")
def create_backup_job(request: HttpRequest, data: schemas.BackupJobCreate) -> Status[Any]:
    values = data.model_dump()
    chosen, storage = _targets(values.pop("target_ids")), _chosen_storage(values.pop("storage_id"))
    with policies_recorded(by=request.user.get_username()):
        return Status(201, jobs.job_create(targets=chosen, storage=storage, **values))


@router.get(
    "/backup-jobs/{job_id}",
    response={200: schemas.BackupJob, **PROBLEMS},
    tags=["Backup jobs"],
    summary="Get a backup job",
)
@requires_api("backups.view_backupjob")
def get_backup_job(request: HttpRequest, job_id: int) -> models.BackupJob:
    return _job(job_id)


@router.patch(
    "/backup-jobs/{job_id}",
    response={200: schemas.BackupJob, **PROBLEMS},
    tags=["Backup jobs"],
    summary="Change a backup job",
)
@requires_api("backups.change_backupjob")
def update_backup_job(request: HttpRequest, job_id: int, data: schemas.BackupJobUpdate) -> models.BackupJob:
    job, changes = _job(job_id), data.model_dump(exclude_unset=True)
    target_ids, storage_id = changes.pop("target_ids", None), changes.pop("storage_id", None)
    kept = {name: getattr(job, name) for name in ("name", "schedule", "timezone", "enabled", "retention")}
    with policies_recorded(by=request.user.get_username()):
        return jobs.job_update(
            job=job,
            targets=list(job.targets.all()) if target_ids is None else _targets(target_ids),
            storage=job.storage if storage_id is None else _chosen_storage(storage_id),
            **{**kept, **changes},
        )


@router.delete(
    "/backup-jobs/{job_id}", response={204: None, **PROBLEMS}, tags=["Backup jobs"], summary="Delete a backup job"
)
@requires_api("backups.delete_backupjob")
def delete_backup_job(request: HttpRequest, job_id: int) -> Status[None]:
    """Its runs and backups stay, under its name, and no cleanup touches them any more. Refused (409) while it runs."""
    jobs.job_delete(job=_job(job_id))
    return Status(204, None)


@router.post(
    "/backup-jobs/{job_id}/run",
    response={202: schemas.BackupRun, **PROBLEMS},
    tags=["Backup jobs"],
    summary="Run a backup job now",
)
@requires_api("backups.run_backupjob")
def run_backup_job(request: HttpRequest, job_id: int) -> Status[Any]:
    """Records a run, which the scheduler starts. With one waiting already, the answer is that one."""
    run = scheduled_dispatch(
        models.BackupRun.KIND,
        _job(job_id).pk,
        trigger=RunTrigger.API,
        requested_by=request.user.get_username(),
    )
    if run is None:
        raise HttpError(404, f"The backup job {job_id} was deleted just now.")
    return Status(202, run)


# --- Backup runs --------------------------------------------------------------------------------------------------


@router.get(
    "/backup-runs",
    response={200: Page[schemas.BackupRun], **PROBLEMS},
    tags=["Backup runs"],
    summary="List backup runs",
)
@requires_api("backups.view_backuprun")
def list_backup_runs(request: HttpRequest, filters: Query[RunFilters]) -> dict[str, Any]:
    """Runs, newest first."""
    return _page(filters.page_of(get_kind(models.BackupRun.KIND)))


@router.get(
    "/backup-runs/{run_id}",
    response={200: schemas.BackupRunDetail, **PROBLEMS},
    tags=["Backup runs"],
    summary="Get a backup run",
)
@requires_api("backups.view_backuprun")
def get_backup_run(request: HttpRequest, run_id: int) -> models.BackupRun:
    """With what happened to each target."""
    return _run(run_id)


@router.get(
    "/backup-runs/{run_id}/log",
    response={200: Page[LogLine], **PROBLEMS},
    tags=["Backup runs"],
    summary="Read a backup run's log",
)
@requires_api("backups.view_backuprun")
def get_backup_run_log(request: HttpRequest, run_id: int, lines: Query[LogPage]) -> dict[str, Any]:
    """Lines oldest first. To follow a run, ask again with the last line's `seq` as `after`."""
    return _page(lines.page(models.BackupRunLogLine.objects.filter(run=_run(run_id))))


# --- Options ------------------------------------------------------------------------------------------------------


@router.get(
    "/settings/options", response={200: schemas.Options, **PROBLEMS}, tags=["Options"], summary="Get the options"
)
@requires_api("backups.view_options")
def get_options(request: HttpRequest) -> models.Options:
    return models.Options.load()


@router.patch(
    "/settings/options", response={200: schemas.Options, **PROBLEMS}, tags=["Options"], summary="Change the options"
)
@requires_api("backups.change_options")
def update_options(request: HttpRequest, data: schemas.OptionsUpdate) -> models.Options:
    with policies_recorded(by=request.user.get_username()):
        return options.options_update(**data.model_dump(exclude_unset=True))


def _page(page: tuple[list[Any], str | None]) -> dict[str, Any]:
    items, cursor = page
    return {"items": items, "next": cursor}


def _storage(storage_id: int) -> models.Storage:
    return found(models.Storage.objects.all(), "storage", pk=storage_id)


def _target(target_id: int) -> models.Target:
    return found(models.Target.objects.all(), "target", pk=target_id)


def _job(job_id: int) -> models.BackupJob:
    return found(models.BackupJob.objects.all(), "backup job", pk=job_id)


def _run(run_id: int) -> models.BackupRun:
    return found(models.BackupRun.objects.all(), "backup run", pk=run_id)


def _chosen_storage(storage_id: int) -> models.Storage:
    storage = models.Storage.objects.filter(pk=storage_id).first()
    if storage is None:
        raise refuse("storage_id", f"There is no storage {storage_id}.")
    return storage


def _targets(target_ids: list[int]) -> list[models.Target]:
    chosen: QuerySet[models.Target] = models.Target.objects.filter(pk__in=target_ids)
    by_id = {target.pk: target for target in chosen}
    if unknown := [str(target_id) for target_id in dict.fromkeys(target_ids) if target_id not in by_id]:
        raise refuse("target_ids", f"There is no target {', '.join(unknown[:10])}.")
    return list(by_id.values())
