"""The run ledger: every transition of a run, as a conditional update that names what it expects, and `execute_run`
around them.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import BooleanField, Case, F, When
from django.utils import timezone

from scheduling import holders
from scheduling.choices import ACTIVE, BY_ITSELF, RunStatus, RunTrigger
from scheduling.context import Now, RunResult, RunStoppedError
from scheduling.database_clock import database_now
from scheduling.follow_up import run_follow_up
from scheduling.job_rules import job_rules, pause_reason
from scheduling.registry import RunKind, all_kinds, get_kind
from scheduling.stopping import LEASE_SECONDS

if TYPE_CHECKING:
    from datetime import datetime

    from scheduling.models import Run

logger = logging.getLogger(__name__)

FINISH_RETRIES_SECONDS = (0.5, 2, 8)
RECORD_ATTEMPTS = 5
# A run that was recorded this long after its instant says so.
LATE = timedelta(minutes=1)
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
    skip: str = "",
    **extra: Any,
) -> Run:
    """Record a queued run of `job`, or with a reason to `skip` a skipped one, and return it.

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
    state: dict[str, Any] = {"status": RunStatus.QUEUED}
    if skip:
        state = {"status": RunStatus.SKIPPED, "finished_at": timezone.now(), "message": skip}
    for attempt in range(RECORD_ATTEMPTS):
        try:
            with transaction.atomic():
                created: Run = model.objects.create(**state, **values)
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
    """Turn a queued run into a running one for `holder`.

    None when it is no longer queued, when what it needs is taken, or when it may not start yet: then it stays queued,
    for the next opening of its job's run window if that is what it waits for.
    """
    model: Any = kind.run_model
    at = now()
    try:
        with transaction.atomic():
            claimed = (
                model.objects.filter(pk=run_id, status=RunStatus.QUEUED)
                .exclude(not_before__gt=at)
                .update(
                    status=RunStatus.RUNNING,
                    started_at=at,
                    host=holders.host_id(),
                    holder=holder,
                    fence=F("fence") + 1,
                    lease_until=database_now(ahead=LEASE_SECONDS),
                )
            )
            if not claimed:
                return None
            run: Run = model.objects.select_related("job").get(pk=run_id)
            _refuse_early_start(run, at)
            kind.claim(run)
            return run
    except IntegrityError:
        return None
    except _TooEarlyError as early:
        if early.not_before is not None:
            model.objects.filter(pk=run_id, status=RunStatus.QUEUED).update(not_before=early.not_before)
        return None


class _TooEarlyError(Exception):
    def __init__(self, not_before: datetime | None) -> None:
        super().__init__()
        self.not_before = not_before


def _refuse_early_start(run: Run, at: datetime) -> None:
    job: Any = run.job  # type: ignore[attr-defined]  # each kind's own
    if run.trigger not in BY_ITSELF or job is None:
        return
    if pause_reason(job, at):
        raise _TooEarlyError(None)
    opens_at = job_rules(job).opens_at(at)
    if opens_at > at:
        raise _TooEarlyError(opens_at)


def run_finish(*, kind: RunKind, run: Run, status: RunStatus, result: RunResult, now: Now = timezone.now) -> bool:
    """Close an active run of this holder's fence; False when it is not this holder's any more.

    What follows from it, a retry or the jobs that run after this one, is recorded in the same transaction.
    """
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
            run_follow_up(kind=kind, run=run, status=status, now=now)
    return bool(closed)


def run_confirm(*, kind: RunKind, run: Run) -> None:
    """Inside a transaction: make sure that the run is still this holder's, and stays so until the transaction ends.

    Raises `RunStoppedError` when it was called lost meanwhile: then nothing of its work may become visible.
    """
    model: Any = kind.run_model
    held = model.objects.select_for_update().filter(pk=run.pk, status__in=ACTIVE, fence=run.fence)
    if held.first() is None:
        raise RunStoppedError


def run_cancel_queued(*, kind: RunKind, run_id: int, message: str, by: str = "") -> bool:
    """Cancel a run that has not started; False when it has."""
    model: Any = kind.run_model
    updated: int = model.objects.filter(pk=run_id, status=RunStatus.QUEUED).update(
        status=RunStatus.CANCELLED, message=message, cancelled_by=by, finished_at=timezone.now()
    )
    return bool(updated)


def run_cancel(*, kind: RunKind, run_id: int, by: str) -> RunStatus | None:
    """Cancel a queued run at once, or ask a running one to stop; None when it had ended, or was being stopped, already.

    The process that is at a running run hears of it within about a second.
    """
    message = f"Cancelled by {by} before it started. Nothing was done."
    if run_cancel_queued(kind=kind, run_id=run_id, message=message, by=by):
        return RunStatus.CANCELLED
    model: Any = kind.run_model
    asked = model.objects.filter(pk=run_id, status=RunStatus.RUNNING).update(
        status=RunStatus.CANCELLING, cancelled_by=by
    )
    return RunStatus.CANCELLING if asked else None


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
    """Mark runs whose process is dead as lost; returns how many. Touches the database only.

    A run of this data folder is judged by its file lock, one of another host by its lease.
    """
    lost = 0
    for kind in all_kinds():
        model: Any = kind.run_model
        expired = Case(When(lease_until__lt=database_now(), then=True), default=False, output_field=BooleanField())
        for run in model.objects.active().select_related("job").annotate(lease_expired=expired):
            if _is_alive(run):
                continue
            with transaction.atomic():
                marked = model.objects.filter(pk=run.pk, status__in=ACTIVE, fence=run.fence).update(
                    status=RunStatus.LOST, message=LOST_MESSAGE, finished_at=timezone.now()
                )
                if marked:
                    kind.release(run)
                    run_follow_up(kind=kind, run=run, status=RunStatus.LOST)
            if marked:
                lost += 1
                logger.warning("%s run %s (%s) is lost: its process is gone", kind.label, run.pk, run.job_name)
    holders.sweep()
    return lost


def _is_alive(run: Any) -> bool:
    if run.host in ("", holders.host_id()):
        return holders.is_held(run.holder)
    return holders.other_hosts_possible() and not run.lease_expired


def runs_mend() -> None:
    """Let each kind mend what dead processes left half done; looks at storages, so it may wait for one that hangs."""
    for kind in all_kinds():
        kind.recover()
