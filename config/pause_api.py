# ruff: noqa: ARG001 - every operation is handed the request, whether it needs it or not
"""Pausing everything, as JSON."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router

from accounts.permissions import requires_api
from scheduling.api import PROBLEMS
from scheduling.job_rules import pause_all, pause_in_force, resume_all
from scheduling.job_schemas import Pause, PauseAllBody
from scheduling.job_settings import until_clean

router = Router(tags=["Pause"])


@router.get("/pause", response={200: Pause, **PROBLEMS}, summary="Whether everything is paused")
@requires_api("scheduling.view_pause")
def get_pause(request: HttpRequest) -> Pause:
    return _state()


@router.post("/pause", response={200: Pause, **PROBLEMS}, summary="Pause everything")
@requires_api("scheduling.change_pause")
def pause(request: HttpRequest, data: PauseAllBody) -> Pause:
    """Until then nothing starts by itself, whatever its schedule; what falls into the pause is skipped.

    What runs goes on, and runs by hand stay possible. Asked again, this changes until when and why.
    """
    pause_all(until=until_clean(data.until), by=request.user.get_username(), reason=data.reason)
    return _state()


@router.post("/pause/resume", response={200: Pause, **PROBLEMS}, summary="Resume everything")
@requires_api("scheduling.change_pause")
def resume(request: HttpRequest) -> Pause:
    """Nothing happens when nothing is paused. Jobs with a pause of their own stay paused."""
    resume_all()
    return _state()


def _state() -> Pause:
    found = pause_in_force(timezone.now())
    if found is None:
        return Pause(paused=False)
    return Pause(paused=True, until=found.until, since=found.since, by=found.by, reason=found.reason)
