"""The threads beside a run: leases, cancels, progress, and the stop of a holder that cannot renew."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from scheduling import holders, keeper, ledger, stopping
from scheduling.choices import RunStatus, RunTrigger
from scheduling.context import RunContext, RunResult, RunStoppedError
from scheduling.executing import execute_run
from scheduling.keeper import Keeper, live_runs
from scheduling.ledger import run_cancel, runs_mark_lost
from scheduling.models import Host
from scheduling.registry import get_kind
from scheduling.stopping import elapsed
from tests.factories import BackupJobFactory
from tests.scheduling.engine import KINDS, RUNS, ask, make_job

pytestmark = pytest.mark.django_db(transaction=True)
Changed = Callable[..., None]


class Work:
    """A run's work that goes on until it is stopped, or told to end; carried out in a thread."""

    def __init__(self, *, cooperative: bool = True) -> None:
        self.started, self.end = threading.Event(), threading.Event()
        self.context: RunContext | None = None
        self._cooperative = cooperative
        self._thread = threading.Thread(target=self._carry_out, daemon=True)
        self._run: Any = None

    def perform(self, _run: Any, context: RunContext) -> RunResult:
        self.context = context
        self.started.set()
        until = time.monotonic() + 30
        while not self.end.wait(0.02) and time.monotonic() < until:
            if self._cooperative:
                context.checkpoint()
        return RunResult(message="Done.")

    def start(self, run: Any) -> None:
        self._run = run
        self._thread.start()
        assert self.started.wait(20)

    def join(self, seconds: float = 25) -> Any:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "it did not end"
        self._run.refresh_from_db()
        return self._run

    def _carry_out(self) -> None:
        try:
            execute_run(self._run.kind, self._run.pk)
        finally:
            connection.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of four seconds, renewed five times a second."""
    monkeypatch.setattr(stopping, "LEASE_SECONDS", 4.0)
    monkeypatch.setattr(keeper, "LEASE_SECONDS", 4.0)
    monkeypatch.setattr(ledger, "LEASE_SECONDS", 4.0)
    monkeypatch.setattr(stopping, "SELF_STOP_SECONDS", 1.5)
    monkeypatch.setattr(keeper, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(keeper, "CANCEL_POLL_SECONDS", 0.1)


@contextmanager
def database_busy(table: str) -> Iterator[None]:
    """Nobody else can write to the table."""
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, timeout=20)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")
        return
    parameters = {key: connection.get_connection_params()[key] for key in ("dbname", "user", "host", "port")}
    with psycopg.connect(**parameters) as other:
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()


@pytest.fixture
def work(kind_changed: Changed) -> Iterator[Work]:
    made = Work()
    for kind in KINDS:
        kind_changed(kind, perform=made.perform)
    yield made
    made.end.set()


@pytest.mark.parametrize("kind", KINDS)
def test_leases_are_renewed_while_a_run_is_at_work_on_a_connection_of_their_own(
    kind: str, quick: None, work: Work
) -> None:
    run = ask(make_job(kind))
    with Keeper():
        work.start(run)
        run.refresh_from_db()
        first = run.lease_until
        time.sleep(1)
        run.refresh_from_db()
        assert run.lease_until > first
        assert timedelta(seconds=3) < run.lease_until - timezone.now() < timedelta(seconds=5)
        work.end.set()
        assert work.join().status == RunStatus.SUCCEEDED
    assert Host.objects.filter(host=holders.host_id(), pid=os.getpid()).exists()
    assert not live_runs()


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancel_is_heard_in_about_a_second(kind: str, work: Work) -> None:
    run = ask(make_job(kind))
    with Keeper():
        work.start(run)
        assert run_cancel(kind=get_kind(kind), run_id=run.pk, by="anna") == RunStatus.CANCELLING
        start = time.monotonic()
        ended = work.join()
        assert time.monotonic() - start < 3
    assert (ended.status, ended.cancelled_by) == (RunStatus.CANCELLED, "anna")
    assert ended.message == "Cancelled by anna before it was done. Nothing half-made was kept."
    assert [line.text for line in ended.log_lines.all()] == [ended.message]


def test_a_run_that_ends_before_it_has_heard_of_a_cancel_has_succeeded(work: Work) -> None:
    run = ask(BackupJobFactory())
    work.start(run)  # without a keeper nobody hears
    run_cancel(kind=get_kind("backup"), run_id=run.pk, by="anna")
    work.end.set()
    assert work.join().status == RunStatus.SUCCEEDED


def test_a_holder_that_cannot_renew_goes_on_where_it_is_alone(
    quick: None, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that slept, or a database that was busy for a minute, costs no backup."""
    monkeypatch.setattr(holders, "other_hosts_possible", lambda: False)
    run = ask(BackupJobFactory())
    with Keeper():
        work.start(run)
        with database_busy(RUNS["backup"]._meta.db_table):
            time.sleep(2.5)
        assert work.context is not None
        assert not work.context.stop.is_set()
        work.end.set()
        assert work.join().status == RunStatus.SUCCEEDED


@pytest.mark.parametrize("kind", KINDS)
def test_a_holder_that_cannot_renew_stops_itself_where_another_host_could_take_over(
    kind: str, quick: None, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "other_hosts_possible", lambda: True)
    run = ask(make_job(kind))
    with Keeper():
        work.start(run)
        with database_busy(RUNS[kind]._meta.db_table):
            start = time.monotonic()
            assert work.context is not None
            while not work.context.stop.is_set():
                assert time.monotonic() - start < 10
                time.sleep(0.01)
            waited = time.monotonic() - start
        ended = work.join()
    assert 1.0 < waited < 2.5
    assert ended.status == RunStatus.FAILED
    assert "stopped itself" in ended.message


def test_a_database_that_is_busy_for_a_moment_stops_nothing(quick: None, work: Work) -> None:
    run = ask(BackupJobFactory())
    with Keeper():
        work.start(run)
        with database_busy("backups_backuprun"):
            time.sleep(0.8)
        time.sleep(0.5)
        work.end.set()
        assert work.join().status == RunStatus.SUCCEEDED


@pytest.mark.parametrize("asked_before", [False, True], ids=["by the lease alone", "cancelled before"])
def test_a_process_whose_work_does_not_stop_gives_up_before_its_lease_ends(
    quick: None, kind_changed: Changed, asked_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then another host may start the same: whatever it was asked to stop for at first."""
    work, given_up = Work(cooperative=False), threading.Event()
    kind_changed("backup", perform=work.perform)
    monkeypatch.setattr(holders, "other_hosts_possible", lambda: True)
    run = ask(BackupJobFactory())
    with Keeper(give_up=lambda _status: given_up.set()):
        work.start(run)
        if asked_before:
            assert run_cancel(kind=get_kind("backup"), run_id=run.pk, by="anna") == RunStatus.CANCELLING
            time.sleep(0.5)
        with database_busy("backups_backuprun"):
            start = time.monotonic()
            assert given_up.wait(10)
            assert 2.5 < time.monotonic() - start < 4
        work.end.set()
        work.join()


def test_a_process_gives_up_for_good() -> None:
    program = (
        "import django; django.setup()\n"
        "from scheduling import holders, keeper, stopping\n"
        "holders.other_hosts_possible = lambda: True\n"
        "from types import SimpleNamespace\n"
        "stop = stopping.StopSignal()\n"
        "stop.renewed(stopping.elapsed() - 1000)\n"
        "live = keeper.LiveRun(kind=None, run=SimpleNamespace(pk=1), stop=stop, run_log=None)\n"
        "keeper.Keeper.is_on = False\n"
        "with keeper.kept(live, claimed_at=0):\n"
        "    keeper.Keeper()._watch()\n"
        "print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (70, ""), done.stderr


def test_a_run_that_only_waits_to_write_down_its_end_does_not_end_the_process(
    quick: None, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = threading.Event()
    monkeypatch.setattr(holders, "other_hosts_possible", lambda: True)
    run = ask(BackupJobFactory())
    with Keeper(give_up=lambda _status: given_up.set()):
        work.start(run)
        with database_busy("backups_backuprun"):
            work.end.set()
            assert not given_up.wait(4.5)
        assert work.join().status == RunStatus.SUCCEEDED


@pytest.mark.parametrize("status", [RunStatus.LOST, RunStatus.CANCELLED])
def test_a_holder_whose_run_was_ended_by_another_stops_and_changes_nothing(
    work: Work, status: RunStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its next renewal, long before it would stop itself for want of one."""
    monkeypatch.setattr(keeper, "RENEW_SECONDS", 0.2)
    run = ask(BackupJobFactory())
    with Keeper():
        work.start(run)
        RUNS["backup"].objects.update(status=status, finished_at=timezone.now(), message="Taken away.")
        ended = work.join(10)
    assert (ended.status, ended.message) == (status, "Taken away.")


def test_a_run_that_was_asked_to_stop_and_fails_on_the_way_was_stopped(kind_changed: Changed) -> None:
    """A child process that is ended under it looks like a failure."""
    started = threading.Event()

    def perform(_run: Any, context: RunContext) -> RunResult:
        started.set()
        assert context.stop.wait(20)
        raise OSError("tar was ended by SIGTERM")

    kind_changed("backup", perform=perform)
    run = ask(BackupJobFactory(retry_count=3))
    with Keeper():
        thread = threading.Thread(target=lambda: (execute_run("backup", run.pk), connection.close()))
        thread.start()
        assert started.wait(20)
        run_cancel(kind=get_kind("backup"), run_id=run.pk, by="anna")
        thread.join(20)
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED
    assert any("SIGTERM" in line.text for line in run.log_lines.all())
    assert not run.retries.exists()


def test_a_run_that_overruns_its_time_is_stopped_and_failed_and_tried_again(
    kind_changed: Changed,
) -> None:
    work = Work()
    kind_changed("backup", perform=work.perform)
    run = ask(BackupJobFactory(time_limit=1, retry_count=1, name="nightly"))
    with Keeper():
        work.start(run)
        assert work.context is not None
        assert not work.context.stop.is_set()
        deadline = work.context.stop._deadline
        assert deadline is not None
        assert 50 < deadline - elapsed() <= 60
        work.context.stop._deadline = elapsed()
        ended = work.join()
    assert ended.status == RunStatus.FAILED
    assert ended.message.startswith("nightly was stopped at its time limit of 1 min.")
    assert ended.retries.count() == 1


@pytest.mark.parametrize(
    ("kind", "trigger", "again"),
    [
        ("backup", RunTrigger.SCHEDULE, True),
        ("backup", RunTrigger.MANUAL, True),
        ("backup", RunTrigger.COMMAND, False),
        ("maintenance", RunTrigger.SCHEDULE, False),
    ],
)
def test_a_shutdown_cancels_what_runs_and_tries_it_again_at_once_unless_it_deletes(
    kind_changed: Changed, kind: str, trigger: RunTrigger, again: bool
) -> None:
    """A host that is restarted at night must not cost the night's backup, whatever the job says of retries."""
    shutdown = threading.Event()

    def perform(_run: Any, context: RunContext) -> RunResult:
        shutdown.set()
        context.checkpoint()
        raise AssertionError("it was asked to stop")

    kind_changed(kind, perform=perform)
    job = make_job(kind)
    run = execute_run(kind, ask(job, trigger, slot=timezone.now()).pk, stop=shutdown)
    assert run is not None
    assert run.status == RunStatus.CANCELLED
    assert "Keepwell was shut down" in run.message
    assert ("It is tried again by itself." in run.message) is again
    assert list(run.retries.values_list("status", "attempt", "not_before")) == ([("queued", 1, None)] if again else [])


def test_nothing_is_begun_after_the_stop(kind_changed: Changed) -> None:
    def perform(_run: Any, _context: RunContext) -> RunResult:
        raise AssertionError("it was asked to stop before it began")

    kind_changed("backup", perform=perform)
    shutdown = threading.Event()
    shutdown.set()
    run = execute_run("backup", ask(BackupJobFactory()).pk, stop=shutdown)
    assert run is not None
    assert run.status == RunStatus.CANCELLED


def test_progress_is_written_at_most_once_a_second(kind_changed: Changed, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[float] = []
    report = keeper.LiveRun.report
    monkeypatch.setattr(keeper.LiveRun, "report", lambda live: (written.append(time.monotonic()), report(live)))

    def perform(run: Any, context: RunContext) -> RunResult:
        until = time.monotonic() + 3.5
        while time.monotonic() < until:
            context.progress.add(bytes=1000)
            context.info("a line")
            time.sleep(0.002)
        return RunResult(message="Done.")

    kind_changed("backup", perform=perform)
    with Keeper():
        run = execute_run("backup", ask(BackupJobFactory()).pk)
    assert run is not None
    assert 2 <= len(written) <= 5
    assert all(later - earlier > 0.9 for earlier, later in itertools.pairwise(written))
    assert run.progress["bytes"] > 100_000
    assert run.progress["rate"] > 0


def test_what_the_database_does_not_take_is_tried_again_and_the_other_runs_are_not_kept_from_it(
    kind_changed: Changed,
) -> None:
    runs = [ask(BackupJobFactory()), ask(BackupJobFactory())]
    seen = threading.Barrier(3)

    def perform(_run: Any, context: RunContext) -> RunResult:
        context.progress.update(step="reading", items=3)
        seen.wait(20)
        assert context.stop.wait(0) is False
        threading.Event().wait(2.5)
        return RunResult(message="Done.")

    kind_changed("backup", perform=perform)
    threads = [
        threading.Thread(target=lambda pk=run.pk: (execute_run("backup", pk), connection.close())) for run in runs
    ]
    with Keeper():
        for thread in threads:
            thread.start()
        seen.wait(20)
        for thread in threads:
            thread.join(20)
    for run in runs:
        run.refresh_from_db()
        assert (run.status, run.progress["step"]) == (RunStatus.SUCCEEDED, "reading")


def test_a_run_is_stopped_for_nobody_when_it_confirms_that_it_is_lost(kind_changed: Changed) -> None:
    def perform(run: Any, _context: RunContext) -> RunResult:
        RUNS["backup"].objects.update(holder="gone")
        assert runs_mark_lost() == 1
        raise RunStoppedError

    kind_changed("backup", perform=perform)
    run = execute_run("backup", ask(BackupJobFactory()).pk)
    assert run is not None
    assert run.status == RunStatus.LOST
