# ruff: noqa: ARG001 - every operation is handed the request, whether it needs it or not
"""What is done with a maintenance job besides changing it: copying and pausing."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Status

from accounts.permissions import requires_api
from maintenance import models, services
from maintenance.schemas import MaintenanceJob
from scheduling.api import PROBLEMS, found
from scheduling.job_schemas import PauseBody
from scheduling.job_settings import job_pause, job_resume

router = Router()


@router.post("/jobs/{job_id}/duplicate", response={201: MaintenanceJob, **PROBLEMS}, summary="Copy a maintenance job")
@requires_api("maintenance.add_maintenancejob")
def duplicate_job(request: HttpRequest, job_id: int) -> Status[Any]:
    """A job like it, under a key and name of its own and switched off."""
    return Status(201, services.job_duplicate(job=_job(job_id)))


@router.post("/jobs/{job_id}/pause", response={200: MaintenanceJob, **PROBLEMS}, summary="Pause a maintenance job")
@requires_api("maintenance.change_maintenancejob")
def pause_job(request: HttpRequest, job_id: int, data: PauseBody) -> Any:
    """Until then it starts nothing by itself; what falls into the pause is skipped. Runs by hand stay possible."""
    return job_pause(job=_job(job_id), until=data.until, by=request.user.get_username())


@router.post("/jobs/{job_id}/resume", response={200: MaintenanceJob, **PROBLEMS}, summary="Resume a maintenance job")
@requires_api("maintenance.change_maintenancejob")
def resume_job(request: HttpRequest, job_id: int) -> Any:
    return job_resume(job=_job(job_id))


def _job(job_id: int) -> models.MaintenanceJob:
    return found(models.MaintenanceJob.objects.all(), "maintenance job", pk=job_id)
