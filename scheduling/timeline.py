"""The moments of one run, in the order in which they come. Pure: the moment is always passed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from scheduling.choices import RunStatus, RunTrigger
from scheduling.units import spoken

if TYPE_CHECKING:
    from scheduling.models import Run

NO_BREAK = "\u00a0"
# Less than this after its instant is on time: the clock and the queue take a moment.
ON_TIME = timedelta(seconds=30)
# A wait that is not worth a word.
BRIEF = timedelta(seconds=1)

ENDINGS = {
    RunStatus.SUCCEEDED: "Succeeded",
    RunStatus.FAILED: "Failed",
    RunStatus.CANCELLED: "Cancelled",
    RunStatus.LOST: "Found lost",
    RunStatus.SKIPPED: "Skipped",
}
HEADLINES = {
    "queued": "is waiting to start",
    "running": "is running",
    "cancelling": "is being stopped…",
    "succeeded": "succeeded",
    "warning": "succeeded with a warning",
    "needs_approval": "needs approval",
    "failed": "failed",
    "cancelled": "was cancelled",
    "lost": "was lost",
    "skipped": "was skipped",
}
REASONS = {
    RunTrigger.SCHEDULE: "by the schedule",
    RunTrigger.MANUAL: "by hand",
    RunTrigger.COMMAND: "from the command line",
    RunTrigger.API: "through the API",
    RunTrigger.RETRY: "as a retry",
    RunTrigger.AFTER: "after another job",
}


@dataclass(frozen=True, kw_only=True)
class Moment:
    """`at` is None for what has not come yet. `state` is done, now or ahead; `status` is that of an ending."""

    name: str
    at: datetime | None
    note: str = ""
    late: str = ""
    state: str = "done"
    status: str = ""


def run_timeline(run: Run, now: datetime, *, served: bool = True) -> list[Moment]:
    """Scheduled (if a schedule asked for it), queued, started, finished; `served`: a worker takes from its queue."""
    moments = []
    if run.slot is not None:
        moments.append(Moment(name="Scheduled", at=run.slot))
    late = run.lateness is not None and run.lateness >= ON_TIME
    moments.append(
        Moment(
            name="Queued",
            at=run.queued_at,
            note=_asked(run),
            late=_spoken(run.lateness, "late") if late else "",
            state="now" if run.status == RunStatus.QUEUED else "done",
        )
    )
    if run.started_at is not None:
        waited = run.started_at - run.queued_at
        moments.append(
            Moment(
                name="Started",
                at=run.started_at,
                note=f"waited {_spoken(waited)}" if waited >= BRIEF else "at once",
                state="now" if run.is_active else "done",
            )
        )
    elif run.is_open:
        next_ = "next" if served else "when a worker serves the queue"
        moments.append(Moment(name="Starts", at=run.not_before, note="" if run.not_before else next_, state="ahead"))
    moments.append(_ending(run, now))
    return moments


def _ending(run: Run, now: datetime) -> Moment:
    if run.finished_at is not None:
        took = f"after {_spoken(run.finished_at - run.started_at)}" if run.started_at else "before it started"
        name = ENDINGS.get(RunStatus(run.status), "Finished") if run.status in RunStatus.values else "Finished"
        note = "" if run.status == RunStatus.SKIPPED else took
        return Moment(name=name, at=run.finished_at, note=note, status=run.badge)
    if run.status == RunStatus.CANCELLING:
        return Moment(name="Stops", at=None, note="as soon as it can", state="ahead")
    going = f"going for {_spoken(now - run.started_at)}" if run.started_at else ""
    return Moment(name="Finishes", at=None, note=going, state="ahead")


def _asked(run: Run) -> str:
    how = REASONS.get(RunTrigger(run.trigger), "") if run.trigger in RunTrigger.values else ""
    return f"{how} ({run.requested_by})" if run.requested_by and how else how


def _spoken(value: timedelta | None, after: str = "") -> str:
    seconds = max((value or timedelta()).total_seconds(), 0.0)
    words = f"{seconds:.1f}{NO_BREAK}s" if seconds < 9.95 else spoken(round(seconds), space=NO_BREAK)
    return f"{words} {after}".rstrip()


def headline(run: Run) -> str:
    """What to say of a run first, after the name of its job."""
    if run.badge in HEADLINES:
        return HEADLINES[run.badge]
    return run.badge.replace("_", " ")
