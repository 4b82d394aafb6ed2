"""Why a queued run has not started: everything that is in its way, in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from scheduling.choices import BY_ITSELF, RunStatus, RunTrigger
from scheduling.cron import ScheduleError, load_zone
from scheduling.engine.delivery import DEFAULT_QUEUE
from scheduling.holders import SILENT_SECONDS
from scheduling.job_rules import pause_reason
from scheduling.models import Host
from scheduling.units import spoken

if TYPE_CHECKING:
    from scheduling.models import Run
    from scheduling.registry import RunKind

NO_BREAK = "\u00a0"


@dataclass(frozen=True, kw_only=True)
class Wait:
    """One thing in the way: a sentence, with the run that it is about, if any; or the lack of a live worker."""

    text: str
    run: Run | None = None
    needs_worker: bool = False


def run_waits(run: Run, kind: RunKind, now: datetime) -> list[Wait]:
    """What a queued run waits for. Empty when it starts as soon as a worker is free."""
    job: Any = getattr(run, "job", None)
    waits = []
    if job is not None and run.trigger in BY_ITSELF and (reason := pause_reason(job, now)):
        waits.append(Wait(text=f"{reason} It starts when the pause is over."))
    if run.not_before is not None and run.not_before > now:
        waits.append(Wait(text=_until(run, job, run.not_before, now)))
        # What is in its way now may be long gone by then.
        return waits
    if job is not None:
        model: Any = kind.run_model
        active = model.objects.filter(job=job).active().first()
        if active is not None:
            waits.append(Wait(text=f"Waits for run {active.pk} of the same job to end.", run=active))
        waits += [
            Wait(text=f"Waits for {taken.what}, which run {taken.run.pk} of {taken.run.job_name} is at.", run=taken.run)
            for taken in kind.taken(run)
        ]
    if (unserved := _unserved(run, now)) is not None:
        waits.append(unserved)
    return waits


def add_waits(runs: Iterable[Run], now: datetime) -> None:
    """Gives queued runs of a list that wait for a moment their words, as `waits`: known from the row alone, since a
    list has no queries to spend on one run. What else is in the way of one its own page says.
    """
    for run in runs:
        if run.status == RunStatus.QUEUED and run.not_before is not None and run.not_before > now:
            shown: Any = run
            shown.waits = _until(run, None, run.not_before, now)


def _until(run: Run, job: Any, not_before: datetime, now: datetime) -> str:
    due = _distance((not_before - now).total_seconds())
    when = _clock(not_before, now)
    opens = job is not None and job.window_start is not None and _is_opening(job, not_before)
    if run.trigger == RunTrigger.RETRY:
        of = f" of {job.retry_count}" if job is not None and job.retry_count >= run.attempt - 1 else ""
        window = ", when its run window opens" if opens else ""
        return f"Retry {run.attempt - 1}{of} in {due} ({when}{window})."
    if opens:
        return f"Waits until {when}, its run window opens then (in {due})."
    return f"Waits until {when} (in {due})."


def _distance(seconds: float) -> str:
    """Rounded up to minutes under an hour: the last thing to be wrong is a wait that lasts longer than it said."""
    whole = ceil(seconds)
    if 60 < whole < 3600:
        return f"{ceil(whole / 60)}{NO_BREAK}min"
    return spoken(whole, space=NO_BREAK)


def _is_opening(job: Any, moment: datetime) -> bool:
    """Whether the job's window opens at this moment, give or take what a change of the clock leaves out."""
    try:
        local = moment.astimezone(load_zone(job.zone_name))
    except ScheduleError:
        return False
    return bool(local.time().replace(second=0, microsecond=0, tzinfo=None) == job.window_start)


def _clock(moment: datetime, now: datetime) -> str:
    """The time in the reader's zone; with the day unless that is today."""
    local = timezone.localtime(moment)
    if local.date() == timezone.localdate(now):
        return f"{local:%H:%M}"
    return f"{local:%a} {local.day} {local:%b}, {local:%H:%M}"


def _unserved(run: Run, now: datetime) -> Wait | None:
    """A queue that no live host takes runs from; nothing is said of the default queue before there was a host."""
    queue = run.queue or DEFAULT_QUEUE
    hosts = list(Host.objects.order_by("-seen_at")[:200])
    silent_since = now - timedelta(seconds=SILENT_SECONDS)
    serving = [host for host in hosts if isinstance(host.queues, list) and queue in host.queues]
    if any(host.seen_at > silent_since for host in serving) or (queue == DEFAULT_QUEUE and not serving):
        return None
    if not serving:
        return Wait(
            text=f"Waits for a worker of the queue {queue}: no host serves it. Start one there.", needs_worker=True
        )
    return Wait(
        needs_worker=True,
        text=f"Waits for a worker of the queue {queue}: {serving[0].hostname}, which serves it, has been silent for "
        f"{spoken(now - serving[0].seen_at, space=NO_BREAK)}.",
    )
