"""What is done with a maintenance run: stopping it, and doing the same again."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Status

from accounts.permissions import requires_api
from maintenance import models
from maintenance.schemas import MaintenanceRun
from scheduling.api import PROBLEMS, found
from scheduling.run_requests import cancelled, repeated

router = Router()


@router.post("/runs/{run_id}/cancel", response={202: MaintenanceRun, **PROBLEMS}, summary="Cancel a maintenance run")
@requires_api("maintenance.run_maintenancejob")
def cancel_run(request: HttpRequest, run_id: int) -> Status[Any]:
    """One that waits is cancelled at once; one that runs is asked to stop, and says so itself when it has.

    409 when it had ended.
    """
    return Status(202, cancelled(_run(run_id), by=request.user.get_username()))


@router.post("/runs/{run_id}/again", response={202: MaintenanceRun, **PROBLEMS}, summary="Run a maintenance run again")
@requires_api("maintenance.run_maintenancejob")
def repeat_run(request: HttpRequest, run_id: int) -> Status[Any]:
    """Records a run of the same job with the same request. With such a one waiting already, the answer is that one.

    409 when this one has not ended, its job was deleted, or a run of the job waits that does something else.
    """
    return Status(202, repeated(_run(run_id), by=request.user.get_username()))


def _run(run_id: int) -> models.MaintenanceRun:
    return found(models.MaintenanceRun.objects.all(), "maintenance run", pk=run_id)
