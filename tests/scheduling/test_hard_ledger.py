"""The ledger, the locks and the worker when things go wrong at once."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection
from django.utils import timezone

from backups.models import BackupRunTarget
from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling import holders, worker, worker_process
from scheduling.choices import LogLevel, RunStatus, RunTrigger
from scheduling.context import RunContext, RunResult
from scheduling.executing import execute_run
from scheduling.ledger import run_claim, run_finish, run_record, runs_mark_lost
from scheduling.registry import get_kind, register_kind
from scheduling.run_log import RunLog
from scheduling.scheduler_process import SchedulerProcess
from scheduling.worker import Worker
from tests.factories import (
    BackupJobFactory,
    BackupRunFactory,
    HostFactory,
    MaintenanceJobFactory,
    MaintenanceRunFactory,
    TargetFactory,
)

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


@pytest.mark.parametrize(
    "figures",
    [{"ratio": float("nan")}, {"thing": object()}],
    ids=["a number that JSON has not", "a value that JSON cannot say"],
)
def test_figures_that_cannot_be_stored_do_not_leave_the_run_running(
    performing: Callable[[Perform], None], figures: dict[str, Any]
) -> None:
    performing(lambda _run, _context: RunResult(message="Two deleted.", figures=figures))
    run = execute_run("maintenance", record(MaintenanceJobFactory()).pk)
    assert run is not None
    assert (run.status, run.result_json) == (RunStatus.SUCCEEDED, {})
    assert run.message == "Two deleted. Its figures could not be stored."


@pytest.mark.parametrize("text", ["nul \0", "lone \udcff", "escape \x1b[2J"], ids=["nul", "surrogate", "escape"])
def test_an_exception_with_text_that_no_database_takes_is_still_a_failed_run(
    performing: Callable[[Perform], None], text: str
) -> None:
    def perform(_run: Any, context: RunContext) -> RunResult:
        context.warning(text)
        raise OSError(text)

    performing(perform)
    run = execute_run("maintenance", record(MaintenanceJobFactory()).pk)
    assert run is not None
    assert run.status == RunStatus.FAILED
    assert "OSError" in run.message
    assert run.message.isprintable()


def test_lines_whose_write_was_done_but_not_confirmed_are_not_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    run = record(MaintenanceJobFactory())
    log = RunLog(log_model=get_kind("maintenance").log_model, run_id=run.pk)
    log.add(LogLevel.INFO, "first")
    write = log._write

    def unconfirmed(batch: Any) -> None:
        write(batch)
        raise OperationalError("the connection was lost after the statement")

    with monkeypatch.context() as patched:
        patched.setattr(log, "_write", unconfirmed)
        with pytest.raises(OperationalError):
            log.flush()
    log.add(LogLevel.INFO, "second")
    log.flush()
    assert list(run.log_lines.values_list("text", flat=True)) == ["first", "second"]


@pytest.mark.django_db(transaction=True)
def test_many_who_ask_and_many_who_claim_never_meet_an_error() -> None:
    job = MaintenanceJobFactory()
    kind = get_kind("maintenance")
    until = time.monotonic() + 2

    def ask(slotted: bool) -> None:
        for second in itertools.count():
            slot = SLOT.replace(second=second % 60) if slotted else None
            record(job, slot=slot, trigger=RunTrigger.SCHEDULE if slotted else RunTrigger.MANUAL)
            if time.monotonic() > until:
                break

    def carry_out() -> None:
        while time.monotonic() < until:
            for run_id in job.runs.queued().values_list("pk", flat=True):
                run = run_claim(kind=kind, run_id=run_id, holder="x")
                if run is not None:
                    assert job.runs.active().count() == 1
                    assert run_finish(kind=kind, run=run, status=RunStatus.SUCCEEDED, result=RunResult(message=""))

    def closing(work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            connection.close()

    works = [partial(ask, n % 2 == 0) for n in range(4)] + [carry_out, carry_out]
    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(closing, work) for work in works]:
            future.result()
    assert job.runs.filter(status="succeeded").exists()


def test_what_is_in_the_way_for_good_is_raised_not_tried_for_ever() -> None:
    job = MaintenanceJobFactory()
    with pytest.raises(IntegrityError):
        record(job, queued_at=None)


def test_runs_whose_target_is_taken_do_not_keep_others_from_their_turn() -> None:
    target = TargetFactory()
    BackupRunTarget.objects.create(
        run=BackupRunFactory(running=True, job=BackupJobFactory(targets=[target])), target=target, target_name="t"
    )
    for _ in range(40):
        BackupRunFactory(job=BackupJobFactory(targets=[target]))
    free = BackupRunFactory()
    without_a_job = BackupRunFactory(job=None)
    assert Worker(size=2)._waiting() == [("backup", free.pk), ("backup", without_a_job.pk)]


def test_a_job_that_is_running_does_not_get_a_second_thread() -> None:
    active = MaintenanceRunFactory(running=True)
    MaintenanceRunFactory(job=active.job)
    assert Worker(size=1)._waiting() == []


def test_a_run_whose_job_was_deleted_meanwhile_fails_and_does_nothing() -> None:
    run = record(MaintenanceJobFactory())
    MaintenanceRun.objects.update(job=None)
    ended = execute_run("maintenance", run.pk)
    assert ended is not None
    assert ended.status == RunStatus.FAILED
    assert "deleted before" in ended.message


@pytest.mark.django_db(transaction=True)
def test_a_run_that_hangs_does_not_keep_the_process_from_ending(
    performing: Callable[[Perform], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STOP_GRACE_SECONDS", 0.2)
    started, release = threading.Event(), threading.Event()

    def hang(_run: Any, _context: RunContext) -> RunResult:
        started.set()
        release.wait(20)
        return RunResult(message="late")

    performing(hang)
    record(MaintenanceJobFactory())
    working = Worker(size=1)
    working.start_queued()
    try:
        assert started.wait(10)
        before = time.monotonic()
        working.close()
        assert time.monotonic() - before < 5
        assert working.busy == 1
        assert all(thread.daemon for thread in working._busy.values())
    finally:
        release.set()
        for thread in working._busy.values():
            thread.join(10)


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_cannot_carry_runs_out_pauses_instead_of_spinning(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(worker, "execute_run", full)
    record(MaintenanceJobFactory())
    working = Worker(size=1)
    assert working.start_queued() == 1
    working.close()
    assert working.start_queued() == 0


def test_the_loop_outlives_what_it_does_not_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "PAUSE_SECONDS", 0)

    def broken() -> int:
        raise PermissionError("holders")

    monkeypatch.setattr(worker_process, "runs_mark_lost", broken)
    SchedulerProcess()._turn()


def test_locks_of_dead_processes_are_swept_away_and_living_ones_stay(data_folder: Path) -> None:
    folder = data_folder / "holders"
    with holders.hold() as name:
        (folder / "dead").touch()
        (folder / "new-young").touch()
        (folder / "new-old").touch()
        os.utime(folder / "new-old", (0, 0))
        runs_mark_lost()
        assert {path.name for path in folder.iterdir()} == {name.rpartition(".")[2], "new-young"}
        assert holders.is_held(name)
    assert not holders.is_held(name)
    assert [path.name for path in folder.iterdir()] == ["new-young"]


@pytest.mark.parametrize(("others", "silent", "held"), [(True, 60, True), (True, 120, False), (False, 60, False)])
def test_the_lock_of_another_data_folder_counts_as_held_while_a_process_there_is_alive(
    monkeypatch: pytest.MonkeyPatch, others: bool, silent: float, held: bool
) -> None:
    """It cannot be seen from here; what its process is moving must not be mended under its hands."""
    monkeypatch.setattr(holders, "other_hosts_possible", lambda: others)
    HostFactory(host="f" * 16, seen_at=timezone.now() - timedelta(seconds=silent))
    assert holders.is_held(f"{'f' * 16}.{'0' * 24}") is held
    assert not holders.is_held(f"{'e' * 16}.{'0' * 24}")
    assert not holders.is_held(f"{holders.host_id()}.{'0' * 24}")
    assert not holders.is_held("")
