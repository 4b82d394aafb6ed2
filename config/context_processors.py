from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from config import __version__
from scheduling.heartbeat import scheduler_heartbeat


def frame(_request: HttpRequest) -> dict[str, Any]:
    """What surrounds every page: the version, and the scheduler's heartbeat for people who are signed in."""
    return {"app_version": __version__, "scheduler_state": SimpleLazyObject(scheduler_heartbeat)}
