"""Backups that are stopped while a child process reads: in every way, wherever it hangs, and soon."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connections

from backups.archive import Stopped
from backups.choices import AttemptStatus
from backups.models import Backup, BackupJob, BackupRun
from backups.sources.heeding import heeding
from scheduling import executing, stopping
from scheduling.choices import RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.executing import execute_run
from scheduling.keeper import Keeper, LiveRun, live_runs
from scheduling.ledger import run_cancel
from scheduling.registry import get_kind
from scheduling.stopping import SELF_STOP_SECONDS, StopReason, elapsed
from tests.support import files_in, make_job

pytestmark = pytest.mark.django_db(transaction=True)

# From the click to the end of the run. The keeper looks once a second.
SOON = 4.0
VERSION = '[ "$1" = --version ] && { echo "tar (GNU tar) 1.35"; exit; }'
# Neither it nor its own child heeds SIGTERM.
HANG = 'echo $$ > "$PIDS"; trap "" TERM; sleep 3600 & echo $! >> "$PIDS"; wait; sleep 3600'
WHERE = {
    "before it says its version": f"{HANG}",
    "before the first byte": f"{VERSION}; {HANG}",
    "in the middle": f"{VERSION}; head -c 3000000 /dev/zero; {HANG}",
    "after the last byte": f"{VERSION}; head -c 3000000 /dev/zero; exec >&-; {HANG}",
}


class Hanging:
    """A tar that is first on the PATH and does not end by itself."""

    def __init__(self, folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self._pids = folder / "pids"
        (folder / "tar").write_text(f"#!/bin/bash\nPIDS={self._pids}\n{body}\n")
        (folder / "tar").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def wait(self) -> None:
        until(lambda: self._pids.exists() and len(self._pids.read_text().split()) == 2)

    @property
    def survivors(self) -> list[str]:
        pids = self._pids.read_text().split()
        return [pid for pid in pids if Path(f"/proc/{pid}").exists() and _state(pid) != "Z"]


def _state(pid: str) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def running(job: BackupJob, stop: threading.Event | None = None) -> Iterator[tuple[BackupRun, threading.Thread]]:
    """A run of the job in a thread of this process, as a worker runs it, with a keeper beside it."""
    run = scheduled_dispatch("backup", job.pk, trigger=RunTrigger.MANUAL)
    assert isinstance(run, BackupRun)

    def work() -> None:
        try:
            execute_run("backup", run.pk, stop=stop)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    with Keeper(give_up=lambda _status: None):
        thread.start()
        try:
            yield run, thread
        finally:
            for live in live_runs():
                live.stop.ask(StopReason.SHUTDOWN)
            thread.join(30)


def live() -> LiveRun:
    (found,) = live_runs()
    return found


def assert_nothing_left(job: BackupJob, run: BackupRun, status: AttemptStatus = AttemptStatus.CANCELLED) -> None:
    attempt = run.attempts.get()
    assert (attempt.status, attempt.active, attempt.unsettled) == (status, False, False)
    assert files_in(job.storage) == set()
    assert not Backup.objects.exists()


@pytest.mark.parametrize("where", WHERE)
def test_a_cancelled_backup_ends_soon_wherever_its_child_hangs(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    tar = Hanging(tmp_path / "bin", WHERE[where], monkeypatch)
    with running(job) as (run, thread):
        tar.wait()
        clicked = time.monotonic()
        assert run_cancel(kind=get_kind("backup"), run_id=run.pk, by="anna") == RunStatus.CANCELLING
        thread.join(30)
        taken = time.monotonic() - clicked
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED
    assert run.message == "Cancelled by anna before it was done. Nothing half-made was kept."
    assert tar.survivors == []
    assert_nothing_left(job, run)
    assert taken < SOON


def lose_lease() -> None:
    live().stop.renewed(elapsed() - SELF_STOP_SECONDS - 1)


@pytest.mark.parametrize(
    ("reason", "status", "says"),
    [
        (StopReason.TIME_LIMIT, RunStatus.FAILED, "time limit of 1 s"),
        (StopReason.LEASE, RunStatus.FAILED, "stopped itself"),
        (StopReason.SHUTDOWN, RunStatus.CANCELLED, "Keepwell was shut down"),
    ],
)
def test_other_reasons_end_a_hanging_child_as_soon(
    reason: StopReason, status: RunStatus, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    tar = Hanging(tmp_path / "bin", WHERE["in the middle"], monkeypatch)
    shutdown = threading.Event()
    if reason == StopReason.TIME_LIMIT:
        monkeypatch.setattr(executing, "_time_limit", lambda _run: 1.0)
    with running(job, shutdown) as (run, thread):
        tar.wait()
        began = time.monotonic()
        if reason == StopReason.SHUTDOWN:
            shutdown.set()
        elif reason == StopReason.LEASE:
            lose_lease()
        thread.join(30)
        taken = time.monotonic() - began
    run.refresh_from_db()
    assert run.status == status
    assert says in run.message
    assert tar.survivors == []
    assert_nothing_left(job, run)
    assert taken < SOON + 1


def test_a_child_is_ended_even_when_the_run_itself_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper does it: SIGTERM, then SIGKILL for what ignores that, to the whole group."""
    monkeypatch.setattr(stopping, "TERMINATE_AFTER_SECONDS", 0.5)
    monkeypatch.setattr(stopping, "KILL_AFTER_SECONDS", 1.0)
    job = make_job(tmp_path)
    tar = Hanging(tmp_path / "bin", WHERE["before the first byte"], monkeypatch)
    gate, held = threading.Event(), threading.Event()

    def hang(_stream: object, _view: object, _stop: object) -> int:
        held.set()
        gate.wait(20)
        raise Stopped

    monkeypatch.setattr("backups.archive.writer._fill", hang)
    with running(job) as (run, _thread):
        held.wait(20)
        tar.wait()
        run_cancel(kind=get_kind("backup"), run_id=run.pk, by="anna")
        until(lambda: tar.survivors == [], SOON + 1)
        gate.set()
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED


def test_a_cancelled_run_of_several_targets_says_what_it_had_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path, targets=("a", "b"))
    tar = Hanging(tmp_path / "bin", f'[[ "$*" != *source-b* ]] && exec /bin/tar "$@"; {HANG}', monkeypatch)
    with running(job) as (run, thread):
        tar.wait()
        run_cancel(kind=get_kind("backup"), run_id=run.pk, by="anna")
        thread.join(30)
    run.refresh_from_db()
    assert run.message == (
        "Cancelled by anna before it was done. 1 of 2 targets had been backed up until then. "
        "Nothing half-made was kept."
    )
    assert [attempt.status for attempt in run.attempts.all()] == [AttemptStatus.SUCCEEDED, AttemptStatus.CANCELLED]
    assert (run.result_json["succeeded_count"], run.result_json["failed_count"]) == (1, 0)
    assert Backup.objects.get().target_name == "a"


def test_progress_is_seen_while_a_backup_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path)
    execute_run("backup", scheduled_dispatch("backup", job.pk, trigger=RunTrigger.MANUAL).pk)  # type: ignore[union-attr]
    last = Backup.objects.get()
    body = f'{VERSION}; for n in $(seq 200); do echo "n/$n"; done > "$INDEX"; head -c 3000000 /dev/zero; {HANG}'
    index = 'for a in "$@"; do [[ $a == --index-file=* ]] && INDEX=${a#--index-file=}; done'
    tar = Hanging(tmp_path / "bin", f"{index}; {body}", monkeypatch)
    with running(job) as (run, _thread):
        tar.wait()
        until(lambda: bool(BackupRun.objects.get(pk=run.pk).progress.get("bytes")))
        found = BackupRun.objects.get(pk=run.pk).progress
    assert found["step"] == "Backing up etc"
    assert 2_000_000 < found["bytes"] <= 3_000_000
    assert found["files"] == 200
    assert found["estimated"] is True
    # The copy before was smaller: nothing is known of this one's end any more.
    assert last.source_bytes < found["bytes"]
    assert "bytes_total" not in found


def test_work_that_hangs_for_good_is_left_behind() -> None:
    stop, forever = threading.Event(), threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        heeding(stop, forever.wait)
    assert time.monotonic() - began < 2
    forever.set()


def test_work_that_ends_gives_what_it_found_or_why_not() -> None:
    assert heeding(threading.Event(), lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        heeding(threading.Event(), lambda: 1 // 0)
