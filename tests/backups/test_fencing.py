"""A backup run that another host took for lost while its process slept: what it wakes up to do must not be seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import OperationalError, connection, transaction

from backups.choices import AttemptStatus
from backups.models import Backup, BackupJob, BackupRun, BackupRunTarget
from backups.services import running
from backups.services.recovery import backups_recover
from backups.storage.staged import Staged
from scheduling import fencing
from scheduling.choices import ACTIVE, RunStatus, RunTrigger
from scheduling.context import RunContext, RunStoppedError
from scheduling.dispatch import scheduled_dispatch
from scheduling.fencing import RunFence
from scheduling.registry import get_kind
from scheduling.run_log import RunLog
from scheduling.stopping import LEASE_SECONDS, StopReason, StopSignal, elapsed
from tests.support import assert_catalogue_matches_storage, files_in, make_job, now

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]


def lose(run: BackupRun) -> None:
    """What another host does with a run whose lease has ended."""
    kind = get_kind("backup")
    with transaction.atomic():
        lost = BackupRun.objects.filter(pk=run.pk, status__in=ACTIVE)
        assert lost.update(status=RunStatus.LOST, message="It was lost.", finished_at=now())
        kind.release(run)


def run_job(job: BackupJob) -> BackupRun:
    run = scheduled_dispatch("backup", job.pk, inline=True, trigger=RunTrigger.MANUAL)
    assert isinstance(run, BackupRun)
    return run


def active_run() -> BackupRun:
    return BackupRun.objects.get(status__in=ACTIVE)


@pytest.mark.parametrize("recovered", [False, True], ids=["not yet recovered", "recovered"])
@pytest.mark.parametrize(
    "when", ["before its name is known", "while it reads", "while it syncs", "before it publishes"]
)
def test_a_run_that_was_lost_before_it_published_publishes_nothing(
    when: str, recovered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    owner, name = {
        "before its name is known": (running, "_announce"),
        "while it reads": (running, "write_archive"),
        "while it syncs": (Staged, "sync"),
        "before it publishes": (Staged, "publish"),
    }[when]
    original = getattr(owner, name)

    def asleep(*args: object, **kwargs: object) -> object:
        lose(active_run())
        if recovered:
            backups_recover()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, asleep)
    published_anyway = when == "before it publishes" and not recovered
    run = run_job(job)
    run.refresh_from_db()
    assert (run.status, run.message) == (RunStatus.LOST, "It was lost.")
    attempt = run.attempts.get()
    assert (attempt.status, attempt.active, attempt.message) == (AttemptStatus.LOST, False, "It was lost.")
    assert not Backup.objects.exists()
    assert bool(files_in(job.storage)) == published_anyway
    # What was whole is recovery's to enter, once, and what was not leaves nothing.
    backups_recover()
    assert Backup.objects.count() == published_anyway
    assert not run.attempts.get().unsettled
    assert_catalogue_matches_storage(job.storage)


@pytest.mark.parametrize("recovered", [False, True], ids=["not yet recovered", "recovered"])
def test_a_run_that_was_lost_after_it_published_leaves_its_copy_to_recovery(
    recovered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    publish = Staged.publish

    def then_sleep(self: Staged, sidecar: dict[str, object]) -> None:
        publish(self, sidecar)
        lose(active_run())
        if recovered:
            backups_recover()

    monkeypatch.setattr(Staged, "publish", then_sleep)
    run = run_job(job)
    assert run.status == RunStatus.LOST
    assert Backup.objects.count() == recovered
    backups_recover()
    assert Backup.objects.count() == 1
    attempt = run.attempts.get()
    assert (attempt.status, attempt.unsettled) == (AttemptStatus.WARNING, False)
    assert "entered afterwards" in attempt.message
    assert_catalogue_matches_storage(job.storage)


def test_a_run_that_failed_after_it_was_lost_does_not_end_its_attempt_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)

    def broken(*_: object, **__: object) -> None:
        lose(active_run())
        raise OSError("the disk went with it")

    monkeypatch.setattr(running, "write_archive", broken)
    run = run_job(job)
    assert (run.status, run.attempts.get().status) == (RunStatus.LOST, AttemptStatus.LOST)


def test_a_run_that_was_lost_does_not_go_on_to_its_next_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path, targets=("a", "b"))
    write = running.write_archive

    def asleep(*args: object, **kwargs: object) -> object:
        lose(active_run())
        return write(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "write_archive", asleep)
    run = run_job(job)
    assert [attempt.started_at is not None for attempt in run.attempts.all()] == [True, False]
    assert {attempt.status for attempt in run.attempts.all()} == {AttemptStatus.LOST}


def test_an_unfinished_file_that_someone_removed_fails_the_attempt_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, but the run is still this process's: somebody tidied up by hand."""
    job = make_job(tmp_path)
    sync = Staged.sync

    def tidied(self: Staged) -> None:
        sync(self)
        for part in Path(job.storage.path).rglob("*.part"):
            part.unlink()

    monkeypatch.setattr(Staged, "sync", tidied)
    run = run_job(job)
    assert run.status == RunStatus.FAILED
    assert "was not published: someone removed its unfinished file" in run.message
    assert files_in(job.storage) == set()
    assert not run.attempts.get().unsettled


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    kind = get_kind("backup")
    job = make_job(tmp_path, name="fenced", targets=("fenced",))
    run = BackupRun.objects.create(job=job, job_name="fenced", status="running", started_at=now(), fence=3)
    return RunContext(run=run, stop=StopSignal(), run_log=RunLog(log_model=kind.log_model, run_id=run.pk))


@pytest.mark.parametrize(
    "change", [{"status": RunStatus.LOST, "finished_at": now()}, {"fence": 4}], ids=["lost", "claimed anew"]
)
def test_a_fence_sees_that_the_run_is_anothers(change: dict[str, object], context: RunContext) -> None:
    fence = RunFence(context=context)
    fence.confirm()
    assert context.stop.reason is None
    BackupRun.objects.filter(pk=context.run.pk).update(**change)
    with pytest.raises(RunStoppedError):
        fence.confirm()
    assert context.stop.reason == StopReason.LEASE


def test_a_process_that_slept_past_its_lease_sees_it_by_the_clock_alone(context: RunContext) -> None:
    fence = RunFence(context=context)
    context.stop.ask(StopReason.CANCEL)
    context.stop.renewed(elapsed())
    fence.check()
    context.stop.renewed(elapsed() - LEASE_SECONDS)
    with pytest.raises(RunStoppedError):
        fence.check()


def test_a_database_that_is_away_for_a_moment_does_not_cost_a_finished_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    monkeypatch.setattr(fencing, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(connection, "close", lambda: None)
    confirm, tries = fencing.run_confirm, []

    def away_at_first(**values: object) -> None:
        tries.append(values)
        # The first is for the announcement.
        if 1 < len(tries) < 5:
            raise OperationalError("the database is being restarted")
        confirm(**values)  # type: ignore[arg-type]

    monkeypatch.setattr(fencing, "run_confirm", away_at_first)
    assert run_job(job).status == RunStatus.SUCCEEDED
    assert_catalogue_matches_storage(job.storage)


SLOW_TAR = """#!/bin/bash
[ "$1" = --version ] && exec /bin/tar --version
/bin/tar "$@" | { head -c 20000; touch %(folder)s/reading; while [ ! -e %(folder)s/go ]; do sleep 0.05; done; cat; }
exit 0
"""


@pytest.mark.django_db(transaction=True)
def test_a_stopped_process_that_goes_on_after_its_run_was_lost_publishes_nothing(
    tmp_path: Path, database_url: str, data_folder: Path
) -> None:
    """A real process: SIGSTOP in the middle of its copy, past its lease, and SIGCONT after another took over."""
    job = make_job(tmp_path)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "tar").write_text(SLOW_TAR % {"folder": folder})
    (folder / "tar").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "KEEPWELL_LEASE_SECONDS": "6",
    }
    with subprocess.Popen(
        [sys.executable, "manage.py", "run_backup", job.name],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        try:
            wait_for(lambda: (folder / "reading").exists())
            child.send_signal(signal.SIGSTOP)
            run = active_run()
            (unfinished,) = Path(job.storage.path).rglob("*.part")
            lose(run)
            backups_recover()
            assert not unfinished.exists()
            time.sleep(7)
            (folder / "go").touch()
        finally:
            child.send_signal(signal.SIGCONT)
        said, _ = child.communicate(timeout=30)
    # Where other hosts can be, its keeper may be quicker than its run, and ends the whole process.
    assert child.returncode in (1, 70), said
    assert ("stopped itself" in said) == (child.returncode == 1)
    run.refresh_from_db()
    assert (run.status, run.attempts.get().status) == (RunStatus.LOST, AttemptStatus.LOST)
    assert files_in(job.storage) == set()
    assert not Backup.objects.exists()
    assert not BackupRunTarget.objects.filter(unsettled=True).exists()


def wait_for(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
