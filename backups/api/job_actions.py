# ruff: noqa: ARG001 - every operation is handed the request, whether it needs it or not
"""What is done with a backup job besides changing it: copying and pausing."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Status

from accounts.permissions import requires_api
from backups import models, schemas
from backups.services import jobs
from backups.services.policy_record import policies_recorded
from scheduling.api import PROBLEMS, found
from scheduling.job_schemas import PauseBody
from scheduling.job_settings import job_pause, job_resume

router = Router(tags=["Backup jobs"])


@router.post(
    "/backup-jobs/{job_id}/duplicate", response={201: schemas.BackupJob, **PROBLEMS}, summary="Copy a backup job"
)
@requires_api("backups.add_backupjob")
def duplicate_backup_job(request: HttpRequest, job_id: int) -> Status[Any]:
    """A job like it, under a name of its own and switched off."""
    job = _job(job_id)
    with policies_recorded(by=request.user.get_username()):
        return Status(201, jobs.job_duplicate(job=job))


@router.post("/backup-jobs/{job_id}/pause", response={200: schemas.BackupJob, **PROBLEMS}, summary="Pause a backup job")
@requires_api("backups.change_backupjob")
def pause_backup_job(request: HttpRequest, job_id: int, data: PauseBody) -> Any:
    """Until then it starts nothing by itself; what falls into the pause is skipped. Runs by hand stay possible."""
    return job_pause(job=_job(job_id), until=data.until, by=request.user.get_username())


@router.post(
    "/backup-jobs/{job_id}/resume", response={200: schemas.BackupJob, **PROBLEMS}, summary="Resume a backup job"
)
@requires_api("backups.change_backupjob")
def resume_backup_job(request: HttpRequest, job_id: int) -> Any:
    return job_resume(job=_job(job_id))


def _job(job_id: int) -> models.BackupJob:
    return found(models.BackupJob.objects.all(), "backup job", pk=job_id)
