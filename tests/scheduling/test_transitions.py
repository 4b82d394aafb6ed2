"""Every way from one state of a run to another, through the ledger and straight at the database, for both kinds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from scheduling import holders
from scheduling.choices import ACTIVE, OPEN, TERMINAL, TRANSITIONS, RunStatus, RunTrigger
from scheduling.context import RunResult, RunStoppedError
from scheduling.ledger import run_cancel, run_cancel_queued, run_confirm, runs_mark_lost
from scheduling.registry import get_kind
from tests.scheduling.engine import (
    KINDS,
    RUN_FACTORIES,
    RUNS,
    SLOT,
    all_at_once,
    claim,
    finish,
    in_state,
    make_job,
    record,
)

pytestmark = [pytest.mark.django_db, pytest.mark.parametrize("kind", KINDS)]
PAIRS = [pair for pair in itertools.product(RunStatus, RunStatus) if pair[0] != pair[1]]
LEGAL = {(before, after) for before, afters in TRANSITIONS.items() for after in afters}
# What the design draws, written down once more: the table in the code is to be this one.
DRAWN = {
    ("queued", "running"),
    ("queued", "cancelled"),
    ("queued", "skipped"),
    ("running", "cancelling"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("running", "lost"),
    ("cancelling", "succeeded"),
    ("cancelling", "failed"),
    ("cancelling", "cancelled"),
    ("cancelling", "lost"),
}


def test_the_transitions_in_the_code_are_those_that_are_drawn(kind: str) -> None:
    assert {(before.value, after.value) for before, after in LEGAL} == DRAWN


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_the_database_takes_legal_transitions_and_no_other(kind: str, before: RunStatus, after: RunStatus) -> None:
    run = in_state(kind, before)
    change = RUNS[kind].objects.filter(pk=run.pk)
    values = {"status": after, "started_at": SLOT, "finished_at": SLOT}
    if (before, after) in LEGAL:
        assert change.update(**values) == 1
    else:
        with pytest.raises(IntegrityError, match="a run cannot go"), transaction.atomic():
            change.update(**values)
    run.refresh_from_db()
    assert run.status == (after if (before, after) in LEGAL else before)


@pytest.mark.parametrize("status", TERMINAL)
def test_a_status_that_stays_is_no_transition(kind: str, status: RunStatus) -> None:
    run = in_state(kind, status)
    assert RUNS[kind].objects.filter(pk=run.pk).update(status=status, job=None) == 1


def test_raw_sql_is_refused_as_well(kind: str) -> None:
    run = in_state(kind, RunStatus.SUCCEEDED)
    table = RUNS[kind]._meta.db_table
    with (
        pytest.raises(IntegrityError, match="a run cannot go"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"UPDATE {table} SET status = 'queued' WHERE id = %s", [run.pk])  # noqa: S608 - our own name


def test_the_trigger_is_there_after_all_migrations(kind: str) -> None:
    """SQLite drops it with the table whenever a migration makes the table anew."""
    table = RUNS[kind]._meta.db_table
    question = (
        "SELECT count(*) FROM pg_trigger WHERE tgname = %s"
        if connection.vendor == "postgresql"
        else "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name = %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(question, [f"{table}_transition"])
        assert cursor.fetchone() == (1,)


# --- Each service, from each state ----------------------------------------------------------------


def _claim(run: Any) -> object:
    return claim(run)


def _succeed(run: Any) -> object:
    return finish(run)


def _fail(run: Any) -> object:
    return finish(run, RunStatus.FAILED)


def _cancel(run: Any) -> object:
    return run_cancel(kind=get_kind(run.kind), run_id=run.pk, by="anna")


def _cancel_queued(run: Any) -> object:
    return run_cancel_queued(kind=get_kind(run.kind), run_id=run.pk, message="Not today.")


def _lose(_run: Any) -> object:
    return runs_mark_lost()


SERVICES: dict[Callable[[Any], object], dict[RunStatus, RunStatus]] = {
    _claim: {RunStatus.QUEUED: RunStatus.RUNNING},
    _succeed: {RunStatus.RUNNING: RunStatus.SUCCEEDED, RunStatus.CANCELLING: RunStatus.SUCCEEDED},
    _fail: {RunStatus.RUNNING: RunStatus.FAILED, RunStatus.CANCELLING: RunStatus.FAILED},
    _cancel: {RunStatus.QUEUED: RunStatus.CANCELLED, RunStatus.RUNNING: RunStatus.CANCELLING},
    _cancel_queued: {RunStatus.QUEUED: RunStatus.CANCELLED},
    _lose: {RunStatus.RUNNING: RunStatus.LOST, RunStatus.CANCELLING: RunStatus.LOST},
}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.__name__)
@pytest.mark.parametrize("before", RunStatus)
def test_a_service_does_its_own_transition_and_says_no_to_every_other(
    kind: str, before: RunStatus, service: Callable[[Any], object]
) -> None:
    run = in_state(kind, before, host=holders.host_id(), holder=f"{holders.host_id()}.{'0' * 24}")
    unchanged = dict(RUNS[kind].objects.values().get(pk=run.pk))
    after = SERVICES[service].get(before)
    assert bool(service(run)) == (after is not None)
    values = dict(RUNS[kind].objects.values().get(pk=run.pk))
    if after is None:
        assert values == unchanged
    else:
        assert values["status"] == after
        assert (values["finished_at"] is not None) == (after in TERMINAL)
        assert (values["started_at"] is not None) == (before in ACTIVE or after in ACTIVE)


def test_a_cancelled_run_says_who_cancelled_it(kind: str) -> None:
    waiting, running = record(make_job(kind)), claim(record(make_job(kind)))
    for run in (waiting, running):
        _cancel(run)
        run.refresh_from_db()
        assert run.cancelled_by == "anna"
    assert waiting.message == "Cancelled by anna before it started. Nothing was done."
    assert running.status == RunStatus.CANCELLING
    assert run_cancel(kind=get_kind(kind), run_id=running.pk, by="ben") is None
    running.refresh_from_db()
    assert running.cancelled_by == "anna"
    assert run_cancel(kind=get_kind(kind), run_id=10**9, by="ben") is None


# --- The fence ------------------------------------------------------------------------------------


def test_an_old_holder_can_change_nothing(kind: str) -> None:
    old = claim(record(make_job(kind)))
    RUNS[kind].objects.filter(pk=old.pk).update(fence=old.fence + 1)
    unchanged = dict(RUNS[kind].objects.values().get(pk=old.pk))
    assert not finish(old)
    assert not finish(old, RunStatus.FAILED, result=RunResult(message="late"))
    with pytest.raises(RunStoppedError), transaction.atomic():
        run_confirm(kind=get_kind(kind), run=old)
    assert dict(RUNS[kind].objects.values().get(pk=old.pk)) == unchanged


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.CANCELLING])
def test_a_holder_confirms_its_run_until_it_has_ended(kind: str, status: RunStatus) -> None:
    run = claim(record(make_job(kind)))
    RUNS[kind].objects.filter(pk=run.pk).update(status=status)
    with transaction.atomic():
        run_confirm(kind=get_kind(kind), run=run)
    assert finish(run)
    with pytest.raises(RunStoppedError), transaction.atomic():
        run_confirm(kind=get_kind(kind), run=run)


# --- Constraints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", RunStatus)
@pytest.mark.parametrize("other", RunStatus)
def test_a_job_has_one_waiting_and_one_active_run_and_any_number_that_are_over(
    kind: str, status: RunStatus, other: RunStatus
) -> None:
    first = in_state(kind, status)
    is_refused = {status, other} in ({RunStatus.QUEUED}, set(ACTIVE)) or (status == other and status in OPEN)
    if is_refused:
        with pytest.raises(IntegrityError), transaction.atomic():
            in_state(kind, other, job=first.job)
    else:
        assert in_state(kind, other, job=first.job).job == first.job


@pytest.mark.parametrize("status", RunStatus)
def test_a_slot_has_one_run_in_whatever_state(kind: str, status: RunStatus) -> None:
    first = in_state(kind, RunStatus.SKIPPED, slot=SLOT)
    with pytest.raises(IntegrityError), transaction.atomic():
        in_state(kind, status, job=first.job, slot=SLOT)
    in_state(kind, status, slot=SLOT)  # another job's
    # The same instant in another zone is the same slot.
    with pytest.raises(IntegrityError), transaction.atomic():
        in_state(kind, status, job=first.job, slot=SLOT.astimezone(timezone.get_fixed_timezone(330)))


def test_runs_of_deleted_jobs_do_not_stand_in_each_others_way(kind: str) -> None:
    for _ in range(2):
        for status in OPEN:
            RUN_FACTORIES[kind](job=None, status=status, started_at=SLOT, slot=SLOT)


def test_a_skipped_run_needs_an_end_and_a_running_one_a_start(kind: str) -> None:
    for status, values in (("skipped", {"finished_at": None}), ("cancelling", {"started_at": None})):
        with pytest.raises(IntegrityError), transaction.atomic():
            in_state(kind, RunStatus(status), **values)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_record_one_slot_one_makes_the_run(kind: str) -> None:
    job = make_job(kind)
    found: list[int] = []
    all_at_once([lambda: found.append(record(job, RunTrigger.SCHEDULE, slot=SLOT).pk)] * 12)
    assert job.runs.count() == 1
    assert set(found) == {job.runs.get().pk}


@pytest.mark.django_db(transaction=True)
def test_many_slots_at_once_make_one_waiting_run_and_a_skipped_one_for_each_other(kind: str) -> None:
    job = make_job(kind)
    slots = [SLOT.replace(minute=minute) for minute in range(12)]
    all_at_once([lambda slot=slot: record(job, RunTrigger.SCHEDULE, slot=slot) for slot in slots])
    assert job.runs.filter(status="queued").count() == 1
    assert job.runs.filter(status="skipped", message__contains="still waiting").count() == 11
    assert set(job.runs.values_list("slot", flat=True)) == set(slots)
