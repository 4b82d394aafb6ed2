from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling import holders
from scheduling.choices import RunOutcome, RunStatus, RunTrigger
from scheduling.context import RunContext, RunFailedError, RunResult
from scheduling.executing import execute_run
from scheduling.ledger import (
    run_cancel_queued,
    run_claim,
    run_finish,
    run_record,
    runs_mark_lost,
    runs_recover,
)
from scheduling.registry import get_kind, register_kind
from scheduling.run_log import HEAD_LINES, TAIL_LINES
from tests.factories import BackupRunFactory, HostFactory, MaintenanceJobFactory, MaintenanceRunFactory

pytestmark = pytest.mark.django_db
SLOT = datetime(2026, 11, 24, 3, tzinfo=UTC)
Perform = Callable[[Any, RunContext], RunResult]


@pytest.fixture
def performing() -> Iterator[Callable[[Perform], None]]:
    """Let maintenance runs do something else for one test."""
    kind = get_kind("maintenance")
    yield lambda perform: register_kind(replace(kind, perform=perform))
    register_kind(kind)


def record(job: MaintenanceJob, **values: Any) -> MaintenanceRun:
    kind = get_kind("maintenance")
    values = {"trigger": RunTrigger.MANUAL, **values}
    run = run_record(kind=kind, job=job, job_name=job.name, job_key=job.key, job_type=job.job_type, **values)
    assert isinstance(run, MaintenanceRun)
    return run


def test_a_slot_has_one_run_however_often_it_fires() -> None:
    job = MaintenanceJobFactory()
    first = record(job, slot=SLOT, trigger=RunTrigger.SCHEDULE)
    assert record(job, slot=SLOT, trigger=RunTrigger.SCHEDULE) == first
    assert job.runs.count() == 1


def test_a_slot_whose_run_is_over_is_not_run_again() -> None:
    job = MaintenanceJobFactory()
    first = record(job, slot=SLOT, trigger=RunTrigger.SCHEDULE)
    MaintenanceRun.objects.update(status=RunStatus.RUNNING, started_at=SLOT)
    MaintenanceRun.objects.update(status=RunStatus.SUCCEEDED, finished_at=SLOT)
    assert record(job, slot=SLOT, trigger=RunTrigger.SCHEDULE) == first
    assert job.runs.count() == 1


@pytest.mark.parametrize("factory", [BackupRunFactory, MaintenanceRunFactory], ids=["backup", "maintenance"])
def test_the_database_allows_one_run_for_a_slot(factory: Any) -> None:
    over = {"status": "succeeded", "started_at": SLOT, "finished_at": SLOT, "slot": SLOT}
    run = factory(**over)
    factory(**over)  # another job's
    with pytest.raises(IntegrityError), transaction.atomic():
        factory(job=run.job, **over)


def test_asking_twice_by_hand_gives_the_waiting_run_back() -> None:
    job = MaintenanceJobFactory()
    assert record(job) == record(job)
    assert job.runs.count() == 1


def test_a_schedule_that_meets_a_waiting_run_is_recorded_as_skipped_with_its_reason() -> None:
    job = MaintenanceJobFactory()
    record(job)
    skipped = record(job, slot=SLOT, trigger=RunTrigger.SCHEDULE)
    assert skipped.status == RunStatus.SKIPPED
    assert "still waiting" in skipped.message
    assert skipped.finished_at is not None


@pytest.mark.parametrize("factory", [BackupRunFactory, MaintenanceRunFactory], ids=["backup", "maintenance"])
@pytest.mark.parametrize("status", ["queued", "running", "cancelling"])
def test_the_database_allows_one_waiting_and_one_active_run_of_a_job(factory: Any, status: str) -> None:
    values = {"status": status, "started_at": None if status == "queued" else SLOT}
    run = factory(**values)
    with pytest.raises(IntegrityError), transaction.atomic():
        factory(job=run.job, **values)


@pytest.mark.parametrize("factory", [BackupRunFactory, MaintenanceRunFactory], ids=["backup", "maintenance"])
@pytest.mark.parametrize(
    "values",
    [
        {"status": "succeeded"},
        {"status": "running"},
        {"status": "done"},
        {"status": "failed", "finished_at": SLOT, "outcome": "odd"},
    ],
    ids=["ended without an end", "running without a start", "unknown status", "unknown outcome"],
)
def test_the_database_refuses_a_run_that_contradicts_itself(factory: Any, values: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        factory(**values)


@pytest.mark.django_db(transaction=True)
def test_of_many_claims_one_wins() -> None:
    run = record(MaintenanceJobFactory())
    won: list[str] = []
    start = threading.Barrier(6)

    def claim(name: str) -> None:
        start.wait()
        try:
            if run_claim(kind=get_kind("maintenance"), run_id=run.pk, holder=name):
                won.append(name)
        finally:
            connection.close()

    threads = [threading.Thread(target=claim, args=[f"holder-{n}"]) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    run.refresh_from_db()
    assert (run.status, run.holder, run.fence) == (RunStatus.RUNNING, won[0], 1)


def test_a_holder_whose_fence_has_passed_changes_nothing() -> None:
    kind = get_kind("maintenance")
    run = run_claim(kind=kind, run_id=record(MaintenanceJobFactory()).pk, holder="first")
    assert run is not None
    MaintenanceRun.objects.update(fence=run.fence + 1)
    assert not run_finish(kind=kind, run=run, status=RunStatus.SUCCEEDED, result=RunResult(message="late"))
    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING


@pytest.mark.parametrize("status", [RunStatus.LOST, RunStatus.CANCELLED])
def test_a_run_that_is_over_stays_as_it_ended(status: RunStatus) -> None:
    kind, job = get_kind("maintenance"), MaintenanceJobFactory()
    claimed = run_claim(kind=kind, run_id=record(job).pk, holder="one")
    assert claimed is not None
    MaintenanceRun.objects.update(status=status, finished_at=SLOT, message="It ended.")
    late = RunResult(message="too late")
    assert not run_finish(kind=kind, run=claimed, status=RunStatus.SUCCEEDED, result=late)
    claimed.refresh_from_db()
    assert (claimed.status, claimed.message, claimed.finished_at) == (status, "It ended.", SLOT)


def test_only_a_waiting_run_is_cancelled_before_it_starts() -> None:
    kind, run = get_kind("maintenance"), record(MaintenanceJobFactory())
    assert run_claim(kind=kind, run_id=run.pk, holder="one") is not None
    assert not run_cancel_queued(kind=kind, run_id=run.pk, message="too late")
    run.refresh_from_db()
    assert (run.status, run.message) == (RunStatus.RUNNING, "")


def test_a_run_that_another_process_claimed_meanwhile_is_not_called_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    run = record(MaintenanceJobFactory())
    assert run_claim(kind=get_kind("maintenance"), run_id=run.pk, holder="gone") is not None

    def claimed_again(_name: str) -> bool:
        MaintenanceRun.objects.update(fence=2)
        return False

    monkeypatch.setattr(holders, "is_held", claimed_again)
    assert runs_mark_lost() == 0
    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING


def test_a_run_is_carried_to_its_end(performing: Callable[[Perform], None]) -> None:
    def perform(run: MaintenanceRun, context: RunContext) -> RunResult:
        context.info("working")
        return RunResult(message="All done.", figures={"kept_count": 3}, outcome=RunOutcome.WARNING)

    performing(perform)
    run = execute_run("maintenance", record(MaintenanceJobFactory()).pk)
    assert run is not None
    assert (run.status, run.outcome, run.message, run.result_json) == (
        "succeeded",
        "warning",
        "All done.",
        {"kept_count": 3},
    )
    assert run.started_at and run.finished_at and run.started_at <= run.finished_at
    assert [line.text for line in run.log_lines.all()] == ["working"]


def test_an_unexpected_exception_leaves_a_failed_run_with_its_traceback(performing: Callable[[Perform], None]) -> None:
    def perform(run: MaintenanceRun, context: RunContext) -> RunResult:
        raise ZeroDivisionError("by nought")

    performing(perform)
    run = execute_run("maintenance", record(MaintenanceJobFactory()).pk)
    assert run is not None
    assert run.status == RunStatus.FAILED
    assert "ZeroDivisionError: by nought" in run.message
    assert any("ZeroDivisionError: by nought" in line.text for line in run.log_lines.all())


def test_a_problem_that_the_work_names_is_the_runs_message(performing: Callable[[Perform], None]) -> None:
    def perform(run: MaintenanceRun, context: RunContext) -> RunResult:
        raise RunFailedError("nas is full. Free some space.", {"failed_count": 1})

    performing(perform)
    run = execute_run("maintenance", record(MaintenanceJobFactory()).pk)
    assert run is not None
    assert (run.status, run.message, run.result_json) == (
        "failed",
        "nas is full. Free some space.",
        {"failed_count": 1},
    )


def test_a_run_that_is_told_to_stop_is_cancelled(performing: Callable[[Perform], None]) -> None:
    stop = threading.Event()

    def perform(run: MaintenanceRun, context: RunContext) -> RunResult:
        stop.set()
        context.checkpoint()
        return RunResult(message="never")

    performing(perform)
    run = execute_run("maintenance", record(MaintenanceJobFactory()).pk, stop=stop)
    assert run is not None
    assert run.status == RunStatus.CANCELLED


def test_a_second_execution_of_the_same_run_does_nothing(performing: Callable[[Perform], None]) -> None:
    calls = []

    def perform(run: MaintenanceRun, context: RunContext) -> RunResult:
        calls.append(run.pk)
        return RunResult(message="once")

    performing(perform)
    run = record(MaintenanceJobFactory())
    assert execute_run("maintenance", run.pk) is not None
    assert execute_run("maintenance", run.pk) is None
    assert calls == [run.pk]


def test_a_run_whose_process_is_gone_is_lost_and_one_that_is_held_is_not() -> None:
    gone = MaintenanceRunFactory(running=True, host=holders.host_id(), holder="0" * 24)
    with holders.hold() as name:
        held = MaintenanceRunFactory(running=True, host=holders.host_id(), holder=name)
        assert runs_recover() == 1
        held.refresh_from_db()
        assert held.status == RunStatus.RUNNING
    gone.refresh_from_db()
    assert gone.status == RunStatus.LOST
    assert "Run it again" in gone.message


def test_a_run_of_another_host_is_judged_only_where_there_can_be_no_other_host() -> None:
    """A SQLite file that was copied to another data folder brings no process along; PostgreSQL may serve two hosts."""
    there = {"running": True, "host": "f" * 16, "holder": f"{'f' * 16}.{'0' * 24}"}
    leased = MaintenanceRunFactory(lease_until=timezone.now() + timedelta(minutes=1), **there)
    expired = MaintenanceRunFactory(lease_until=timezone.now() - timedelta(minutes=1), **there)
    lost = runs_recover()
    for run in (leased, expired):
        run.refresh_from_db()
    assert expired.status == RunStatus.LOST
    expected = (1, RunStatus.RUNNING) if connection.vendor == "postgresql" else (2, RunStatus.LOST)
    assert (lost, leased.status) == expected


@pytest.mark.parametrize(("silent", "status"), [(5, RunStatus.RUNNING), (3600, RunStatus.LOST)])
def test_a_run_of_another_host_that_began_without_a_lease_is_judged_by_that_hosts_signs_of_life(
    monkeypatch: pytest.MonkeyPatch, silent: int, status: RunStatus
) -> None:
    """A version of Keepwell that had no leases began it: it must not stay running for ever."""
    monkeypatch.setattr(holders, "other_hosts_possible", lambda: True)
    HostFactory(host="f" * 16, seen_at=timezone.now() - timedelta(seconds=silent))
    run = MaintenanceRunFactory(running=True, host="f" * 16, holder=f"{'f' * 16}.{'0' * 24}")
    runs_mark_lost()
    run.refresh_from_db()
    assert run.status == status


def test_the_log_of_a_lost_run_ends_with_why() -> None:
    run = MaintenanceRunFactory(running=True)
    run.log_lines.create(seq=7, at=timezone.now(), text="at work")
    assert runs_mark_lost() == 1
    assert list(run.log_lines.values_list("seq", "level")) == [(7, "info"), (8, "error")]


def test_a_run_whose_lease_is_renewed_while_it_is_judged_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks may be stopped between looking and marking."""
    run = MaintenanceRunFactory(running=True, lease_until=timezone.now())

    def renew_meanwhile(_name: str) -> bool:
        MaintenanceRun.objects.update(lease_until=timezone.now() + timedelta(minutes=1))
        return False

    monkeypatch.setattr(holders, "is_held", renew_meanwhile)
    assert runs_mark_lost() == 0
    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING


def test_the_log_is_bounded_and_escapes_what_could_forge_a_line(performing: Callable[[Perform], None]) -> None:
    def perform(run: MaintenanceRun, context: RunContext) -> RunResult:
        context.info("name with \x1b[31m and \udce9\n2026 INFO forged")
        for number in range(HEAD_LINES + TAIL_LINES + 50):
            context.info(str(number))
        return RunResult(message="long")

    performing(perform)
    run = execute_run("maintenance", record(MaintenanceJobFactory()).pk)
    assert run is not None
    lines = list(run.log_lines.values_list("text", flat=True))
    assert lines[0] == r"name with \x1b[31m and \xe9"
    assert len(lines) == HEAD_LINES + TAIL_LINES + 1
    assert "left out" in lines[HEAD_LINES]
