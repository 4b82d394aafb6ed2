"""What a job's row says about when it may start by itself, and whether anything may at present."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from scheduling.choices import BY_ITSELF
from scheduling.cron import ScheduleError, load_zone
from scheduling.models import Pause
from scheduling.rules import Rules, rules_of

if TYPE_CHECKING:
    from scheduling.models import Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What keeps a queued run from starting: it waits `until` a moment, or for as long as a pause lasts; with a
    reason to `skip` it never starts.
    """

    until: datetime | None = None
    skip: str = ""


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
    return pause_reason(job, now) or _blackout_reason(job, now)


def _blackout_reason(job: Any, now: datetime) -> str:
    days = job_rules(job).blackout(now)
    return f"{days} is a blackout date of {job.name}." if days is not None else ""


def start_after(job: Any, due: datetime) -> tuple[datetime, str]:
    """When what is due by itself at `due` may start, which is then or when the job's window opens; and why it never
    does, "" when it does.
    """
    starts = job_rules(job).opens_at(due)
    return starts, skip_reason(job, due) or _blackout_reason(job, starts)


def hold_of(run: Run, job: Any, now: datetime) -> Hold | None:
    """What keeps a queued run of `job` from starting at `now`; None when nothing does.

    Looked at again when it is about to start: the job may have been changed since, or the machine been busy past the
    end of the window.
    """
    if run.trigger not in BY_ITSELF or job is None:
        return None
    if not job.enabled:
        return Hold(skip=f"{job.name} was switched off before this run started.")
    try:
        if pause_reason(job, now):
            return Hold()
        if reason := _blackout_reason(job, now):
            return Hold(skip=reason)
        starts = max(job_rules(job).opens_at(now), run.not_before or now)
    except ScheduleError:
        # A zone that this machine does not know any more: raised here it would keep every other run waiting too.
        logger.exception("when %s may start cannot be said, so nothing holds it back", job.name)
        return None
    return Hold(until=starts) if starts > now else None


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
