"""How a run is run: claimed, its work done in this thread, and closed, whatever happens on the way."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    close_old_connections,
)
from django.utils import timezone

from scheduling import holders
from scheduling.choices import LogLevel, RunStatus
from scheduling.context import Echo, Now, RunContext, RunFailedError, RunResult, RunStoppedError
from scheduling.follow_up import may_be_tried_again
from scheduling.keeper import LiveRun, kept
from scheduling.ledger import run_claim, run_finish
from scheduling.registry import RunKind, get_kind
from scheduling.run_log import RunLog
from scheduling.stopping import SELF_STOP_SECONDS, StopReason, StopSignal, elapsed
from scheduling.units import spoken

if TYPE_CHECKING:
    from scheduling.models import Run

logger = logging.getLogger(__name__)

# What a run of hours has done is worth some minutes of waiting for a database that is being restarted.
FINISH_RETRIES_SECONDS = (0.5, 1, 2, 4, 8, 15, 30, 60, 60, 60)
NOTHING_KEPT = "Nothing half-made was kept."
# A run that was recorded this long after its instant says so.
LATE = timedelta(minutes=1)


def execute_run(
    kind_name: str,
    run_id: int,
    *,
    stop: threading.Event | None = None,
    echo: Echo | None = None,
    now: Now = timezone.now,
) -> Run | None:
    """Claim a queued run, do its work in this thread, and close it: the one way in which any run is run.

    Returns the run as it ended, or None when it could not be claimed. `stop` asks the work to end early (the run is
    then cancelled); `echo` also receives each log line. `now` is the clock by which the run, its log and what it
    makes are stamped.
    """
    kind = get_kind(kind_name)
    with holders.hold() as holder:
        claimed_at = elapsed()
        run = run_claim(kind=kind, run_id=run_id, holder=holder, now=now)
        if run is None:
            return None
        signal = StopSignal(shutdown=stop, time_limit=_time_limit(run))
        run_log = RunLog(log_model=kind.log_model, run_id=run.pk, echo=echo, now=now)
        live = LiveRun(kind=kind, run=run, stop=signal, run_log=run_log)
        context = RunContext(run=run, stop=signal, run_log=run_log, progress=live.progress, now=now)
        with kept(live, claimed_at=claimed_at):
            _say_how_late(context)
            status, result = _perform(kind, context)
            live.is_closing = True
            _close(kind, context, status, result)
    ended: Run = kind.run_model.objects.get(pk=run.pk)
    return ended


def _time_limit(run: Run) -> float | None:
    """Seconds."""
    job: Any = run.job  # type: ignore[attr-defined]  # each kind's own
    return None if job is None or job.time_limit is None else job.time_limit * 60.0


def _say_how_late(context: RunContext) -> None:
    run = context.run
    if run.slot is not None and run.lateness is not None and run.lateness >= LATE:
        context.info(
            f"This run was due at {run.slot:%Y-%m-%d %H:%M} UTC and was recorded {spoken(run.lateness)} later: "
            "Keepwell was not running, or the machine was too busy. Times in between are not made up for."
        )


def _perform(kind: RunKind, context: RunContext) -> tuple[RunStatus, RunResult]:
    try:
        context.checkpoint()
        result = kind.perform(context.run, context)
    except RunStoppedError as error:
        return _stopped(context, error.figures, error.done)
    except RunFailedError as error:
        context.error(str(error))
        if context.stop.reason is not None:
            return _stopped(context, error.figures)
        return RunStatus.FAILED, RunResult(message=str(error), figures=error.figures)
    except Exception as error:  # noqa: BLE001 - logged below, without secrets
        trace = traceback.format_exc()
        hidden = context.run_log.mask.text(trace)
        logger.error("%s run %s failed unexpectedly\n%s", kind.label, context.run.pk, hidden)  # noqa: TRY400 - masked
        context.error(trace)
        if context.stop.reason is not None:
            return _stopped(context, {})
        summary = " ".join(str(error).split())[:300]
        what = f"an unexpected {type(error).__name__}: {summary}"
        message = f"{context.run.job_name} stopped on {what}. The traceback is in the log."
        return RunStatus.FAILED, RunResult(message=message)
    if result.failed and context.stop.reason is not None:
        return _stopped(context, result.figures)
    return (RunStatus.FAILED if result.failed else RunStatus.SUCCEEDED), result


def _stopped(context: RunContext, figures: dict[str, Any], done: str = "") -> tuple[RunStatus, RunResult]:
    """How a run ends that was asked to stop, and has not come to its end: also one that failed on the way, since a
    child process that is ended under it looks like a failure.
    """
    status, message = _why_stopped(context, done or NOTHING_KEPT)
    context.log(LogLevel.ERROR if status == RunStatus.FAILED else LogLevel.WARNING, message)
    interrupted = context.stop.reason == StopReason.SHUTDOWN
    return status, RunResult(message=message, figures=figures, interrupted=interrupted)


def _why_stopped(context: RunContext, done: str) -> tuple[RunStatus, str]:
    run = context.run
    match context.stop.reason:
        case StopReason.CANCEL:
            by = _cancelled_by(run)
            return (
                RunStatus.CANCELLED,
                f"Cancelled{f' by {by}' if by else ''} before it was done. {done}",
            )
        case StopReason.TIME_LIMIT:
            limit = spoken(timedelta(seconds=_time_limit(run) or 0))
            return RunStatus.FAILED, (
                f"{run.job_name} was stopped at its time limit of {limit}. {done} "
                "Give it more time in the job, or find out what made it slow."
            )
        case StopReason.LEASE:
            return RunStatus.FAILED, (
                f"{run.job_name} stopped itself, because it could not tell the database for "
                f"{SELF_STOP_SECONDS:.0f} s that it was alive, so that another host might have taken over: the "
                f"database was away, or this machine slept. {done} Run it again."
            )
    again = " It is tried again by itself." if may_be_tried_again(get_kind(run.kind), run) else ""
    return (
        RunStatus.CANCELLED,
        f"Stopped before it was done, because Keepwell was shut down. {done}{again}",
    )


def _cancelled_by(run: Any) -> str:
    try:
        found: str = type(run).objects.values_list("cancelled_by", flat=True).get(pk=run.pk)
    except (DatabaseError, InterfaceError):
        return ""
    return found


def _close(kind: RunKind, context: RunContext, status: RunStatus, result: RunResult) -> None:
    """Write the end of a run, trying again while the database is busy.

    If it stays away, the released lock lets the run be found lost. Log lines that the database refuses for what is in
    them are left out, and a result is replaced by its message alone: the run must not be left running for that.
    """
    run = context.run
    result = replace(
        result, message=context.run_log.clean(result.message), figures=context.run_log.mask.value(result.figures)
    )
    for delay in (*FINISH_RETRIES_SECONDS, None):
        try:
            with suppress(DataError, IntegrityError):
                context.run_log.flush()
            try:
                run_finish(kind=kind, run=run, status=status, result=result, now=context.now)
            except (DataError, IntegrityError, TypeError, ValueError):
                logger.exception("the figures of %s run %s cannot be stored", kind.label, run.pk)
                bare = RunResult(message=f"{result.message} Its figures could not be stored.", outcome=result.outcome)
                run_finish(kind=kind, run=run, status=status, result=bare, now=context.now)
            return
        except (OperationalError, InterfaceError):
            if delay is None:
                raise
            logger.warning("cannot write the end of %s run %s yet; trying again", kind.label, run.pk, exc_info=True)
            time.sleep(delay)
            close_old_connections()
