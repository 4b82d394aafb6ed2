"""The one door to running a job, whoever asks."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from scheduling.choices import RunTrigger
from scheduling.context import Echo, Now
from scheduling.cron import ScheduleError, parse_cron
from scheduling.ledger import execute_run, run_record
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
    **extra: Any,
) -> Run | None:
    """What both executors share: record the run, and run it here when `inline`."""
    kind: RunKind = get_kind(kind_name)
    if trigger == RunTrigger.SCHEDULE and not inline:
        if not item.is_scheduled:
            logger.info("%s is disabled or no longer scheduled: nothing recorded", item.id)
            return None
        slot = slot or _slot(item)
    run = run_record(
        kind=kind,
        job=job,
        job_name=job_name,
        trigger=trigger,
        slot=slot,
        requested_by=requested_by,
        params=params,
        queued_at=now(),
        **extra,
    )
    if inline:
        return execute_run(kind_name, run.pk, echo=echo, stop=stop, now=now) or kind.run_model.objects.get(pk=run.pk)
    return run


def _slot(item: ScheduledItem) -> datetime | None:
    """The scheduled instant that just came: APScheduler does not pass it on."""
    try:
        return parse_cron(item.schedule).last_at_or_before(timezone.now(), item.timezone)
    except ScheduleError:
        logger.exception("%s fired with an unusable schedule", item.id)
        return None
