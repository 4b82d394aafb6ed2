"""What a job's row says about when it may start by itself, and whether anything may at present."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from scheduling.cron import load_zone
from scheduling.models import Pause
from scheduling.rules import Rules, rules_of


def job_rules(job: Any) -> Rules:
    """The run window and blackout dates of a job of either kind."""
    return rules_of(zone=job.zone_name, start=job.window_start, end=job.window_end, blackouts=job.blackout_dates or ())


def pause_in_force(now: datetime) -> Pause | None:
    """The pause of everything, while it lasts."""
    return Pause.objects.filter(pk=1, until__gt=now).first()


def pause_reason(job: Any, now: datetime) -> str:
    """Why a job may not start by itself at `now`: a sentence that names the pause; "" when it may."""
    if job.paused_until is not None and job.paused_until > now:
        return f"{job.name} is paused{_by(job.paused_by)} until {_local(job.paused_until, job)}."
    pause = pause_in_force(now)
    if pause is not None:
        why = f" ({pause.reason})" if pause.reason else ""
        return f"Everything is paused{_by(pause.by)} until {_local(pause.until, job)}{why}."
    return ""


def skip_reason(job: Any, now: datetime) -> str:
    """Why a time of the job's schedule passes without a run; "" when it does not."""
    if reason := pause_reason(job, now):
        return reason
    days = job_rules(job).blackout(now)
    return f"{days} is a blackout date of {job.name}." if days is not None else ""


def pause_all(*, until: datetime, by: str, reason: str = "") -> Pause:
    """Let nothing start by itself before `until`. Runs by hand stay possible; what runs goes on."""
    with transaction.atomic():
        pause, _ = Pause.objects.update_or_create(
            pk=1, defaults={"until": until, "by": by, "reason": reason, "since": timezone.now()}
        )
    return pause


def resume_all() -> bool:
    """End the pause of everything; False when there was none."""
    deleted, _ = Pause.objects.filter(pk=1).delete()
    return bool(deleted)


def _by(name: str) -> str:
    return f" by {name}" if name else ""


def _local(moment: datetime, job: Any) -> str:
    return f"{moment.astimezone(load_zone(job.zone_name)):%Y-%m-%d %H:%M} ({job.zone_name})"
