"""The one door to running a job, whoever asks."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from scheduling.choices import BY_ITSELF, Overlap, RunTrigger
from scheduling.context import Echo, Now
from scheduling.cron import ScheduleError, parse_cron
from scheduling.executing import execute_run
from scheduling.job_rules import start_after
from scheduling.ledger import run_record
from scheduling.registry import RunKind, get_kind

if TYPE_CHECKING:
    from datetime import datetime

    from scheduling.items import ScheduledItem
    from scheduling.models import Run

logger = logging.getLogger(__name__)


def scheduled_dispatch(kind: str, job_id: int | str, *, inline: bool = False, **request: Any) -> Run | None:
    """Route a request to run a job to its kind's executor (`execute_backup_job`, `execute_maintenance_job`) and
    return the run.

    Called with two plain values by the clock, and with more by everyone else: `trigger`, `requested_by`, `params`,
    and `inline` to run to the end in this process instead of leaving the queued run to the scheduler; then `echo`,
    `stop` and `now` are those of `execute_run`. Returns None when there is no such job any more, or when the clock
    fires a job that has been disabled since. Raises LookupError for an unknown kind.
    """
    return get_kind(kind).execute(int(job_id), inline=inline, **request)


def fire(kind: str, job_id: str) -> None:
    """What the clock calls: a stable name and string arguments, since both live in its job store."""
    scheduled_dispatch(kind, job_id)


def dispatch_run(
    *,
    kind_name: str,
    job: Any,
    job_name: str,
    item: ScheduledItem,
    inline: bool,
    trigger: RunTrigger = RunTrigger.SCHEDULE,
    slot: datetime | None = None,
    requested_by: str = "",
    params: dict[str, Any] | None = None,
    echo: Echo | None = None,
    stop: threading.Event | None = None,
    now: Now = timezone.now,
    skip: str = "",
    not_before: datetime | None = None,
    **extra: Any,
) -> Run | None:
    """What both executors share: record the run, and run it here when `inline`.

    `skip` is a reason to record it as skipped. What starts by itself is skipped too during a pause, on a blackout
    date, and while the run before is going if the job says so.
    """
    kind: RunKind = get_kind(kind_name)
    if trigger in BY_ITSELF and not inline:
        if not (item.is_scheduled if trigger == RunTrigger.SCHEDULE else item.enabled):
            logger.info("%s is disabled or no longer scheduled: nothing recorded", item.id)
            return None
        slot = (slot or _slot(item)) if trigger == RunTrigger.SCHEDULE else None
        due = now()
        starts, reason = start_after(job, max(not_before or due, due))
        not_before = starts if starts > due else not_before
        skip = skip or reason or _overlap(kind, job, trigger)
    run = run_record(
        kind=kind,
        job=job,
        job_name=job_name,
        trigger=trigger,
        slot=slot,
        requested_by=requested_by,
        params=params,
        skip=skip,
        queue=job.queue,
        not_before=None if skip else not_before,
        queued_at=now(),
        **extra,
    )
    if inline:
        return execute_run(kind_name, run.pk, echo=echo, stop=stop, now=now) or kind.run_model.objects.get(pk=run.pk)
    return run


def _overlap(kind: RunKind, job: Any, trigger: RunTrigger) -> str:
    """Why a time of the schedule passes because the run before is still going; "" when it does not."""
    if trigger != RunTrigger.SCHEDULE or job.overlap != Overlap.SKIP:
        return ""
    model: Any = kind.run_model
    active = model.objects.filter(job=job).active().first()
    return "" if active is None else f"Run {active.pk} of {job.name} was still going, and this job skips then."


def _slot(item: ScheduledItem) -> datetime | None:
    """The scheduled instant that just came: APScheduler does not pass it on."""
    try:
        return parse_cron(item.schedule).last_at_or_before(timezone.now(), item.timezone)
    except ScheduleError:
        logger.exception("%s fired with an unusable schedule", item.id)
        return None


def run_again(*, kind_name: str, run: Run, by: str, trigger: RunTrigger = RunTrigger.MANUAL) -> Run | None:
    """Queue a new run of the same job with the same request, naming `run` as its parent; None when the job is gone.

    Raises `AnotherRunWaitsError` when a run of the job waits that does something else.
    """
    job_id: int | None = getattr(run, "job_id", None)
    if job_id is None:
        return None
    return scheduled_dispatch(kind_name, job_id, trigger=trigger, requested_by=by, params=run.params, parent=run)
