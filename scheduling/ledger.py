"""The run ledger: every transition of a run, as a conditional update that names what it expects."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction
from django.db.models import BooleanField, Case, F, When
from django.utils import timezone

from scheduling import holders
from scheduling.choices import ACTIVE, BY_ITSELF, LogLevel, RunStatus, RunTrigger
from scheduling.context import Now, RunResult, RunStoppedError
from scheduling.database_clock import database_now
from scheduling.deadlocks import is_deadlock, through_deadlocks
from scheduling.engine.delivery import run_deliver
from scheduling.follow_up import run_follow_up
from scheduling.job_rules import Hold, hold_of
from scheduling.registry import RunKind, all_kinds, get_kind
from scheduling.stopping import LEASE_SECONDS

if TYPE_CHECKING:
    from datetime import datetime

    from scheduling.models import Run

logger = logging.getLogger(__name__)

RECORD_ATTEMPTS = 5
# The same request by the same person within this time is the same click.
SAME_CLICK = timedelta(seconds=3)
CLICKED = (RunTrigger.MANUAL, RunTrigger.API)
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
    request by hand gives the waiting run back and a scheduled one is recorded as skipped. A waiting run that is held
    back (by a pause, a window, the delay of a retry) makes way for a request by hand, which nothing holds back. What
    someone asks for twice within `SAME_CLICK` is one run, also when that has started in between. Raises
    `AnotherRunWaitsError` when the waiting run has other `params`: it would not do what is asked for.
    """
    model: Any = kind.run_model
    at: datetime = extra.get("queued_at") or timezone.now()
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
            return _create(kind, values, skip, at)
        except IntegrityError:
            if attempt == RECORD_ATTEMPTS - 1:
                raise
        found = _in_the_way(model, job, slot)
        if found is not None and slot is None and found.params != values["params"]:
            raise AnotherRunWaitsError(
                f"{job_name} is waiting to start already (run {found.pk}), with something else to do. "
                "Try again when that has run."
            )
        # Another request may change what is in the way at any of these steps: then once more, from the start.
        with suppress(IntegrityError), transaction.atomic():
            if found is None:
                if slot is not None and model.objects.filter(job=job).queued().exists():
                    return _create(
                        kind, values, f"An earlier run of {job_name} was still waiting, so this one was not added.", at
                    )
            elif slot is not None or trigger in BY_ITSELF or hold_of(found, job, at) is None:
                return found
            else:
                way = f"{job_name} was started by hand{f' by {requested_by}' if requested_by else ''} instead."
                if _skip_queued(kind=kind, run_id=found.pk, message=way, at=at, leads_on=False):
                    return _create(kind, values, "", at)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _create(kind: RunKind, values: dict[str, Any], skip: str, at: datetime) -> Run:
    model: Any = kind.run_model
    state: dict[str, Any] = {"status": RunStatus.QUEUED}
    if skip:
        state = {"status": RunStatus.SKIPPED, "finished_at": at, "message": skip}
    with transaction.atomic():
        if values["requested_by"] and values["trigger"] in CLICKED and (clicked := _same_click(kind, values, at)):
            return clicked
        created: Run = model.objects.create(**state, **values)
        run_deliver(created)
        if skip:
            run_follow_up(kind=kind, run=created, status=RunStatus.SKIPPED, now=lambda: at)
    return created


def _same_click(kind: RunKind, values: dict[str, Any], at: datetime) -> Run | None:
    _lock_job(kind, pk=values["job"].pk)
    model: Any = kind.run_model
    same = {name: values.get(name) for name in ("job", "trigger", "requested_by", "parent")}
    runs = model.objects.open().filter(**same, queued_at__gt=at - SAME_CLICK, queued_at__lte=at + SAME_CLICK)
    return next((run for run in runs if run.params == values["params"]), None)


def _in_the_way(model: Any, job: Any, slot: datetime | None) -> Run | None:
    """The run that already is what was asked for: that of the slot, or by hand the one that waits."""
    runs = model.objects.filter(job=job)
    found: Run | None = (runs.queued() if slot is None else runs.filter(slot=slot)).first()
    return found


def run_claim(*, kind: RunKind, run_id: int, holder: str, now: Now = timezone.now) -> Run | None:
    """Turn a queued run into a running one for `holder`.

    None when it is no longer queued, when what it needs is taken, or when it may not start yet: then it stays queued,
    for the next opening of its job's run window if that is what it waits for. One that may not start at all any more
    is skipped, with the reason.
    """
    model: Any = kind.run_model
    at = now()
    try:
        with transaction.atomic():
            _lock_job(kind, runs=run_id)
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
            hold = hold_of(run, run.job, at)  # type: ignore[attr-defined]  # each kind's own
            if hold is not None:
                raise _HeldBackError(hold)  # noqa: TRY301 - what rolls the claim back
            kind.claim(run)
            # Read again now that all is held: a wait for the run before, or for a process to go on, is no part of it.
            run.started_at = now()
            model.objects.filter(pk=run_id).update(started_at=run.started_at)
            return run
    except IntegrityError:
        return None
    except OperationalError as error:
        if not is_deadlock(error):
            raise
        return None
    except _HeldBackError as held:
        if held.hold.skip:
            _skip_queued(kind=kind, run_id=run_id, message=held.hold.skip, at=at)
        elif held.hold.until is not None:
            model.objects.filter(pk=run_id, status=RunStatus.QUEUED).update(not_before=held.hold.until)
        return None


def _lock_job(kind: RunKind, **which: int) -> None:
    """Let claims and ends of one job's runs follow each other: at once, each could wait for the other's index entry."""
    if connection.features.has_select_for_update_of:
        jobs = kind.job_model.objects.filter(**which).order_by()
        list(jobs.select_for_update(no_key=True, of=("self",)).values_list("pk"))


class _HeldBackError(Exception):
    def __init__(self, hold: Hold) -> None:
        super().__init__()
        self.hold = hold


def _skip_queued(*, kind: RunKind, run_id: int, message: str, at: datetime, leads_on: bool = True) -> bool:
    """Skip a run that waits; False when it has started or ended. `leads_on`: nothing comes in its place."""
    model: Any = kind.run_model
    with transaction.atomic():
        skipped = model.objects.filter(pk=run_id, status=RunStatus.QUEUED).update(
            status=RunStatus.SKIPPED, message=message, finished_at=at
        )
        if skipped and leads_on:
            run_follow_up(kind=kind, run=model.objects.get(pk=run_id), status=RunStatus.SKIPPED, now=lambda: at)
    return bool(skipped)


def run_finish(*, kind: RunKind, run: Run, status: RunStatus, result: RunResult, now: Now = timezone.now) -> bool:
    """Close an active run of this holder's fence; False when it is not this holder's any more.

    What follows from it, a retry or the jobs that run after this one, is recorded in the same transaction.
    """
    return _end(
        kind=kind,
        run=run,
        now=now,
        status=status,
        interrupted=result.interrupted,
        outcome=result.outcome if status == RunStatus.SUCCEEDED else "",
        message=result.message,
        result_json=result.figures,
    )


def _end(
    *,
    kind: RunKind,
    run: Run,
    status: RunStatus,
    now: Now,
    interrupted: bool = False,
    unchanged: dict[str, Any] | None = None,
    **values: Any,
) -> bool:
    """End an active run of the fence that `run` has, give back what it took, and record what follows.

    Only while it still has what `unchanged` names.
    """
    only = unchanged or {}
    return through_deadlocks(
        lambda: _end_once(kind=kind, run=run, status=status, now=now, only=only, interrupted=interrupted, values=values)
    )


def _end_once(
    *,
    kind: RunKind,
    run: Run,
    status: RunStatus,
    now: Now,
    only: dict[str, Any],
    interrupted: bool,
    values: dict[str, Any],
) -> bool:
    model: Any = kind.run_model
    with transaction.atomic():
        _lock_job(kind, runs=run.pk)
        held = model.objects.filter(pk=run.pk, fence=run.fence, **only)
        values = values | {"status": status, "finished_at": now()}
        # Two updates rather than a look beforehand: what a person asked to stop is not tried again, even when it
        # failed before it had heard of that.
        ended = held.filter(status=RunStatus.RUNNING).update(**values)
        was_cancelled = not ended and bool(held.filter(status=RunStatus.CANCELLING).update(**values))
        if not ended and not was_cancelled:
            return False
        kind.release(run)
        run_follow_up(kind=kind, run=run, status=status, now=now, may_retry=not was_cancelled, interrupted=interrupted)
    return True


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
    with transaction.atomic():
        cancelled = model.objects.filter(pk=run_id, status=RunStatus.QUEUED).update(
            status=RunStatus.CANCELLED, message=message, cancelled_by=by, finished_at=timezone.now()
        )
        if cancelled:
            cancelled_run = model.objects.get(pk=run_id)
            run_follow_up(kind=kind, run=cancelled_run, status=RunStatus.CANCELLED, now=timezone.now)
    return bool(cancelled)


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


def runs_reconsider(*, kind_name: str, job: Any) -> None:
    """Let what waits of a job that was changed start when the job now says; the claim looks at its window again."""
    model: Any = get_kind(kind_name).run_model
    now = timezone.now()
    for run in model.objects.filter(job=job, trigger__in=BY_ITSELF, not_before__gt=now).queued():
        tried_again = run.queued_at + timedelta(minutes=job.retry_delay)
        waits = run.trigger == RunTrigger.RETRY and tried_again > now
        model.objects.filter(pk=run.pk, status=RunStatus.QUEUED).update(not_before=tried_again if waits else None)


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
            try:
                # Its holder may have renewed the lease since it was read.
                marked = _end(
                    kind=kind,
                    run=run,
                    status=RunStatus.LOST,
                    now=timezone.now,
                    unchanged={"lease_until": run.lease_until},
                    message=LOST_MESSAGE,
                )
            except (OperationalError, InterfaceError):
                raise
            except Exception:
                logger.exception("%s run %s is lost, and cannot be marked as such", kind.label, run.pk)
                continue
            if marked:
                lost += 1
                _say_lost(kind, run)
                logger.warning("%s run %s (%s) is lost: its process is gone", kind.label, run.pk, run.job_name)
    holders.sweep()
    return lost


def _say_lost(kind: RunKind, run: Run) -> None:
    """End the log of a lost run with why: its own process could not."""
    log_model: Any = kind.log_model
    last = log_model.objects.filter(run_id=run.pk).order_by("-seq").values_list("seq", flat=True).first()
    line = log_model(run_id=run.pk, seq=(last or 0) + 1, at=timezone.now(), level=LogLevel.ERROR, text=LOST_MESSAGE)
    log_model.objects.bulk_create([line], ignore_conflicts=True)


def _is_alive(run: Any) -> bool:
    # Without a lease it was started by a version that had none.
    if run.host in ("", holders.host_id()) or run.lease_until is None:
        return holders.is_held(run.holder)
    return holders.other_hosts_possible() and not run.lease_expired


def runs_mend() -> None:
    """Let each kind mend what dead processes left half done; looks at storages, so it may wait for one that hangs."""
    for kind in all_kinds():
        kind.recover()
