from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Subquery
from django.utils import timezone
from django_apscheduler.models import DjangoJob

from scheduling.job_rules import pause_in_force
from scheduling.models import Pause, SchedulerState
from scheduling.registry import get_kind

ALIVE_FOR = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """Whether the scheduler is at work, what it does next, and the pause of everything: for the frame of every page."""

    alive: bool
    seen_at: datetime | None
    next_name: str = ""
    next_at: datetime | None = None
    pause: Pause | None = None

    @property
    def text(self) -> str:
        return "Scheduler alive" if self.alive else "Scheduler not running"

    @property
    def is_overdue(self) -> bool:
        """The next fire has passed: the clock is about to name another."""
        return self.next_at is not None and self.next_at <= timezone.now()


def scheduler_heartbeat() -> Heartbeat:
    """The scheduler's last sign of life and its next fire; two small queries at most, and a third during a pause."""
    now = timezone.now()
    in_force = Pause.objects.filter(pk=1, until__gt=now)
    fires = DjangoJob.objects.filter(next_run_time__isnull=False).order_by("next_run_time")
    state = SchedulerState.objects.annotate(
        next_id=Subquery(fires.values("id")[:1]),
        next_at=Subquery(fires.values("next_run_time")[:1]),
        paused_until=Subquery(in_force.values("until")[:1]),
    ).first()
    pause = pause_in_force(now) if state is None or state.paused_until else None
    if state is None or now - state.seen_at >= ALIVE_FOR:
        return Heartbeat(alive=False, seen_at=state.seen_at if state else None, pause=pause)
    return Heartbeat(
        alive=True,
        seen_at=state.seen_at,
        next_name=_job_name(state.next_id) if state.next_id else "",
        next_at=state.next_at,
        pause=pause,
    )


def _job_name(schedule_id: str) -> str:
    """The name of the job behind an entry of the clock's store; an entry that says nothing to us is shown as it is."""
    kind_name, _, pk = schedule_id.partition(":")
    try:
        run_model: Any = get_kind(kind_name).run_model
    except LookupError:
        return schedule_id
    jobs = run_model._meta.get_field("job").related_model._default_manager
    job = jobs.filter(pk=pk).first() if pk.isdecimal() else None
    return str(job) if job else schedule_id
