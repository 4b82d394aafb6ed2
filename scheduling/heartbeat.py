from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django_apscheduler.models import DjangoJob

from scheduling.models import SchedulerState
from scheduling.registry import get_kind

ALIVE_FOR = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """Whether the scheduler is at work, and what it does next: for the foot of every page."""

    alive: bool
    seen_at: datetime | None
    next_name: str = ""
    next_at: datetime | None = None

    @property
    def text(self) -> str:
        if self.alive:
            return "Scheduler alive"
        return "Scheduler not running: nothing is backed up or cleaned up. Start it with “make run”."


def scheduler_heartbeat() -> Heartbeat:
    """The scheduler's last sign of life and its next fire; two small queries."""
    state = SchedulerState.objects.first()
    alive = state is not None and timezone.now() - state.seen_at < ALIVE_FOR
    if not alive:
        return Heartbeat(alive=False, seen_at=state.seen_at if state else None)
    following = DjangoJob.objects.filter(next_run_time__isnull=False).order_by("next_run_time").only("id", "next_run_time").first()
    return Heartbeat(
        alive=True,
        seen_at=state.seen_at if state else None,
        next_name=_job_name(following.id) if following else "",
        next_at=following.next_run_time if following else None,
    )


def _job_name(schedule_id: str) -> str:
    kind, _, pk = schedule_id.partition(":")
    job_field = get_kind(kind).run_model._meta.get_field("job")
    job = job_field.related_model._default_manager.filter(pk=pk).first()  # type: ignore[union-attr]
    return str(job) if job else schedule_id
