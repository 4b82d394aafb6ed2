"""The run ledger: every transition of a run, as a conditional update that names what it expects, and `execute_run`
around them.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import DatabaseError, DataError, IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from scheduling import holders
from scheduling.choices import ACTIVE, RunStatus, RunTrigger
from scheduling.context import Echo, Now, RunContext, RunFailedError, RunResult, RunStoppedError
from scheduling.registry import RunKind, all_kinds, get_kind
from scheduling.run_log import RunLog, printable_line

if TYPE_CHECKING:
    from datetime import datetime

    from scheduling.models import Run

logger = logging.getLogger(__name__)

FINISH_RETRIES_SECONDS = (0.5, 2, 8)
RECORD_ATTEMPTS = 5
LOST_MESSAGE = (
    "The process that ran this ended before it could record how it went (killed, crashed, or the machine restarted). "
    "Run it again."
)


class AnotherRunWaitsError(ValidationError):
    """A run of the job waits that was asked to do something else; nothing was recorded."""


def run_record(
    *,
    kind: RunKind,
    job: Any,
    job_name: str,
    trigger: RunTrigger,
    slot: datetime | None = None,
    requested_by: str = "",
    params: dict[str, Any] | None = None,
    **extra: Any,
) -> Run:
    """Record a queued run of `job` and return it.

    The table's constraints decide: a slot that has its run already gives that run back; with another run waiting, a
    request by hand gives the waiting run back and a scheduled one is recorded as skipped. Raises
    `AnotherRunWaitsError` when the waiting run has other `params`: it would not do what is asked for.
    """
    model: Any = kind.run_model
    values = {
        "job": job,
        "job_name": job_name,
        "trigger": trigger,
        "slot": slot,
        "requested_by": requested_by,
        "params": params or {},
        **extra,
    }
    for attempt in range(RECORD_ATTEMPTS):
        try:
            with transaction.atomic():
                created: Run = model.objects.create(status=RunStatus.QUEUED, **values)
                return created
        except IntegrityError:
            if attempt == RECORD_ATTEMPTS - 1:
                raise
        found = _in_the_way(model, job, slot)
        if found is not None and slot is None and found.params != values["params"]:
            raise AnotherRunWaitsError(
                f"{job_name} is waiting to start already (run {found.pk}), with something else to do. "
                "Try again when that has run."
            )
        if found is not None:
            return found
        # Either a run is waiting and this one is to be skipped, or what was in the way has just gone: then once more.
        with suppress(IntegrityError), transaction.atomic():
            if model.objects.filter(job=job).queued().exists():
                skipped: Run = model.objects.create(
                    status=RunStatus.SKIPPED,
                    finished_at=timezone.now(),
                    message=f"An earlier run of {job_name} was still waiting, so this one was not added.",
                    **values,
                )
                return skipped
    raise AssertionError("unreachable: the last attempt returns or raises")


def _in_the_way(model: Any, job: Any, slot: datetime | None) -> Run | None:
    """The run that already is what was asked for: that of the slot, or by hand the one that waits."""
    runs = model.objects.filter(job=job)
    found: Run | None = (runs.queued() if slot is None else runs.filter(slot=slot)).first()
    return found


def run_claim(*, kind: RunKind, run_id: int, holder: str, now: Now = timezone.now) -> Run | None:
    """Turn a queued run into a running one for `holder`; None when it is no longer queued or what it needs is taken."""
    model: Any = kind.run_model
    try:
        with transaction.atomic():
            claimed = model.objects.filter(pk=run_id, status=RunStatus.QUEUED).update(
                status=RunStatus.RUNNING,
                started_at=now(),
                host=holders.host_id(),
                holder=holder,
                fence=F("fence") + 1,
            )
            if not claimed:
                return None
            run: Run = model.objects.select_related("job").get(pk=run_id)
            kind.claim(run)
            return run
    except IntegrityError:
        return None


def run_finish(*, kind: RunKind, run: Run, status: RunStatus, result: RunResult, now: Now = timezone.now) -> bool:
    """Close an active run of this holder's fence; False when it is not this holder's any more."""
    model: Any = kind.run_model
    with transaction.atomic():
        closed: int = model.objects.filter(pk=run.pk, status__in=ACTIVE, fence=run.fence).update(
            status=status,
            outcome=result.outcome if status == RunStatus.SUCCEEDED else "",
            message=result.message,
            result_json=result.figures,
            finished_at=now(),
        )
        if closed:
            kind.release(run)
    return bool(closed)


def run_cancel_queued(*, kind: RunKind, run_id: int, message: str) -> bool:
    """Cancel a run that has not started; False when it has."""
    model: Any = kind.run_model
    updated: int = model.objects.filter(pk=run_id, status=RunStatus.QUEUED).update(
        status=RunStatus.CANCELLED, message=message, finished_at=timezone.now()
    )
    return bool(updated)


def runs_clear_way(*, kind_name: str, job: Any) -> None:
    """Cancel what waits of a job that is about to be deleted. Raises ValidationError while it runs."""
    kind = get_kind(kind_name)
    model: Any = kind.run_model
    runs = model.objects.filter(job=job)
    if runs.active().exists():
        raise ValidationError(f"{job.name} is running. Wait for it to end, then delete it.")
    for run_id in runs.queued().values_list("pk", flat=True):
        run_cancel_queued(kind=kind, run_id=run_id, message=f"{job.name} was deleted before this run started.")


def runs_recover() -> int:
    """Mark runs of dead processes as lost, and let each kind mend what they left; returns how many were lost."""
    lost = runs_mark_lost()
    runs_mend()
    return lost


def runs_mark_lost() -> int:
    """Mark runs whose process is dead as lost; returns how many. Touches the database only."""
    lost = 0
    for kind in all_kinds():
        model: Any = kind.run_model
        for run in model.objects.active():
            if holders.is_held(run.holder):
                continue
            with transaction.atomic():
                marked = model.objects.filter(pk=run.pk, status__in=ACTIVE, fence=run.fence).update(
                    status=RunStatus.LOST, message=LOST_MESSAGE, finished_at=timezone.now()
                )
                if marked:
                    kind.release(run)
            if marked:
                lost += 1
                logger.warning("%s run %s (%s) is lost: its process is gone", kind.label, run.pk, run.job_name)
    holders.sweep()
    return lost


def runs_mend() -> None:
    """Let each kind mend what dead processes left half done; looks at storages, so it may wait for one that hangs."""
    for kind in all_kinds():
        kind.recover()


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
        run = run_claim(kind=kind, run_id=run_id, holder=holder, now=now)
        if run is None:
            return None
        run_log = RunLog(log_model=kind.log_model, run_id=run.pk, echo=echo, now=now)
        with _live_log(run_log):
            context = RunContext(run=run, stop=stop or threading.Event(), run_log=run_log, now=now)
            status, result = _perform(kind, context)
        _close(kind, context, status, result)
    ended: Run = kind.run_model.objects.get(pk=run.pk)
    return ended


def _perform(kind: RunKind, context: RunContext) -> tuple[RunStatus, RunResult]:
    try:
        result = kind.perform(context.run, context)
    except RunStoppedError as error:
        message = "Stopped before it was done, because Keepwell was shut down. Nothing half-made was kept."
        context.warning(message)
        return RunStatus.CANCELLED, RunResult(message=message, figures=error.figures)
    except RunFailedError as error:
        context.error(str(error))
        return RunStatus.FAILED, RunResult(message=str(error), figures=error.figures)
    except Exception as error:
        logger.exception("%s run %s failed unexpectedly", kind.label, context.run.pk)
        context.error(traceback.format_exc())
        summary = " ".join(str(error).split())[:300]
        what = f"an unexpected {type(error).__name__}: {summary}"
        message = f"{context.run.job_name} stopped on {what}. The traceback is in the log."
        return RunStatus.FAILED, RunResult(message=message)
    return (RunStatus.FAILED if result.failed else RunStatus.SUCCEEDED), result


def _close(kind: RunKind, context: RunContext, status: RunStatus, result: RunResult) -> None:
    """Write the end of a run, trying again while the database is busy.

    If it stays away, the released lock lets the run be found lost. A result that the database refuses for what is in
    it is replaced by its message alone: the run must not be left running for that.
    """
    run = context.run
    result = replace(result, message=printable_line(result.message))
    for delay in (*FINISH_RETRIES_SECONDS, None):
        try:
            context.run_log.flush()
            try:
                run_finish(kind=kind, run=run, status=status, result=result, now=context.now)
            except (DataError, IntegrityError, TypeError, ValueError):
                logger.exception("the figures of %s run %s cannot be stored", kind.label, run.pk)
                bare = RunResult(message=f"{result.message} Its figures could not be stored.", outcome=result.outcome)
                run_finish(kind=kind, run=run, status=status, result=bare, now=context.now)
            return
        except DatabaseError:
            if delay is None:
                raise
            logger.warning("cannot write the end of %s run %s yet; trying again", kind.label, run.pk, exc_info=True)
            time.sleep(delay)


_live_logs: set[RunLog] = set()
_live_logs_lock = threading.Lock()


@contextmanager
def _live_log(run_log: RunLog) -> Iterator[None]:
    """Let `flush_live_logs` see the log while its run is running."""
    with _live_logs_lock:
        _live_logs.add(run_log)
    try:
        yield
    finally:
        with _live_logs_lock:
            _live_logs.discard(run_log)


def flush_live_logs() -> None:
    """Write the pending lines of every run that is running in this process; the worker calls it about once a second."""
    with _live_logs_lock:
        logs = list(_live_logs)
    for run_log in logs:
        try:
            run_log.flush()
        except DatabaseError:
            logger.warning("cannot write log lines yet", exc_info=True)
