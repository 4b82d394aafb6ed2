from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from django.db import connections
from django.utils import timezone

from backups.management.commands.run_backup import Command
from backups.models import Backup, BackupJob, BackupRun, BackupRunTarget
from scheduling import holders
from scheduling.choices import OPEN, RunStatus, RunTrigger
from scheduling.command import system_user
from scheduling.context import RunResult
from scheduling.ledger import run_finish
from scheduling.registry import get_kind
from tests.commands.conftest import Run

Program = Callable[..., subprocess.Popen[str]]


def test_a_backup_is_taken_and_reported(run: Run, nightly: BackupJob) -> None:
    ended = run("run_backup", "nightly")
    assert ended.status == 0
    assert "nightly: succeeded in" in ended.out
    assert "files: 7" in ended.out
    assert "docs: backing up to nas." in ended.err, "log lines are shown on stderr"
    recorded = BackupRun.objects.get()
    assert (recorded.trigger, recorded.requested_by) == (RunTrigger.COMMAND, system_user())
    assert Backup.objects.available().count() == 1


def test_the_report_as_json_is_all_that_is_printed(manage: Run, nightly: BackupJob) -> None:
    ended = manage("run_backup", "nightly", "--json")
    assert (ended.status, ended.err) == (0, "")
    recorded = BackupRun.objects.get()
    assert ended.value["id"] == recorded.pk
    assert (ended.value["status"], ended.value["outcome"]) == ("succeeded", "ok")
    assert ended.value["result"]["backups"] == [Backup.objects.get().uid]
    assert ended.value["finished_at"] > ended.value["started_at"]


def test_a_failed_backup_is_status_1_and_says_why(run: Run, nightly: BackupJob, tree: Path) -> None:
    shutil.rmtree(tree)
    ended = run("run_backup", "nightly", "--json")
    assert ended.status == 1
    assert ended.value["status"] == "failed"
    assert "does not exist" in ended.value["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run_backup",), "the following arguments are required: name"),
        (("run_backup", "nightly", "--loud"), "unrecognized arguments: --loud"),
        (("run_backup", "nigthly"), "no backup job called “nigthly”. Did you mean “nightly”? There are: nightly."),
        (("run_backup", "\x1b[31m"), r"no backup job called “\x1b[31m”"),
    ],
    ids=["no name", "unknown option", "misspelt name", "control characters"],
)
def test_bad_input_is_status_2(manage: Run, nightly: BackupJob, arguments: tuple[str, ...], message: str) -> None:
    ended = manage(*arguments)
    assert ended.status == 2
    assert message in ended.err
    assert not BackupRun.objects.exists()


def test_a_long_list_of_names_is_cut(run: Run, nightly: BackupJob) -> None:
    rows = [BackupJob(name=f"job {number:03}", storage=nightly.storage) for number in range(50)]
    BackupJob.objects.bulk_create(rows)
    ended = run("run_backup", "zzz")
    assert ended.status == 2
    assert "and 31 more" in ended.err


def test_nothing_is_left_waiting_when_the_job_is_running_already(run: Run, nightly: BackupJob) -> None:
    with holders.hold() as holder:
        active = running(nightly, holder)
        ended = run("run_backup", "nightly")
    assert ended.status == 3
    assert f"nightly is already running (run {active.pk})" in ended.err
    assert not BackupRun.objects.exclude(pk=active.pk).filter(status__in=OPEN).exists()
    assert BackupRun.objects.get(status=RunStatus.CANCELLED).message.startswith("Not started: nightly is already")


def test_nothing_is_left_waiting_when_another_job_is_at_the_target(run: Run, nightly: BackupJob) -> None:
    target = nightly.targets.get()
    other = BackupJob.objects.create(name="weekly", storage=nightly.storage)
    with holders.hold() as holder:
        active = running(other, holder)
        BackupRunTarget.objects.create(run=active, target=target, target_name=target.name)
        ended = run("run_backup", "nightly")
    assert ended.status == 3
    assert f"docs is being backed up by weekly (run {active.pk})" in ended.err
    assert not BackupRun.objects.filter(job=nightly, status__in=OPEN).exists()


def test_a_run_that_waited_before_is_run_instead_of_a_second_one(run: Run, nightly: BackupJob) -> None:
    waiting = BackupRun.objects.create(job=nightly, job_name="nightly", trigger=RunTrigger.MANUAL)
    assert run("run_backup", "nightly").status == 0
    assert BackupRun.objects.get().pk == waiting.pk


def test_a_run_that_waited_before_goes_on_waiting_when_the_job_is_busy(run: Run, nightly: BackupJob) -> None:
    waiting = BackupRun.objects.create(job=nightly, job_name="nightly", trigger=RunTrigger.MANUAL)
    with holders.hold() as holder:
        running(nightly, holder)
        assert run("run_backup", "nightly").status == 3
    assert BackupRun.objects.get(pk=waiting.pk).status == RunStatus.QUEUED


def test_a_killed_run_does_not_stand_in_the_way_of_the_next(
    program: Program, manage: Run, nightly: BackupJob, slow_tar: SlowTar
) -> None:
    process = program("run_backup", "nightly", PATH=slow_tar.path)
    slow_tar.wait_until_started()
    process.kill()
    process.communicate(timeout=20)
    assert BackupRun.objects.get().status == RunStatus.RUNNING, "the killed process could not say that it ended"

    ended = manage("run_backup", "nightly")

    assert ended.status == 0, ended.err
    assert sorted(BackupRun.objects.values_list("status", flat=True)) == [RunStatus.LOST, RunStatus.SUCCEEDED]
    assert not BackupRunTarget.objects.filter(active=True).exists()
    files = [path.name for path in (Path(nightly.storage.path) / "docs").iterdir()]
    assert len(files) == 2, f"one artifact and its sidecar, nothing unpublished: {files}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_stops_the_run_and_keeps_nothing_half_made(
    program: Program, nightly: BackupJob, slow_tar: SlowTar, number: signal.Signals
) -> None:
    process = program("run_backup", "nightly", PATH=slow_tar.path)
    slow_tar.wait_until_started()
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1, err
    assert BackupRun.objects.get().status == RunStatus.CANCELLED
    assert list((Path(nightly.storage.path) / "docs").iterdir()) == []


def test_a_database_that_is_not_prepared_is_refused(program: Program, tmp_path: Path) -> None:
    process = program("run_backup", "nightly", DATABASE_URL=f"sqlite:///{tmp_path}/new.sqlite3")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 3
    assert "manage.py migrate" in err


def test_a_run_that_the_scheduler_takes_first_is_waited_for(nightly: BackupJob) -> None:
    """The scheduler looks for queued runs ten times a second, so it may be faster than the command that queued one."""
    kind = get_kind("backup")
    with holders.hold() as holder:
        taken = running(nightly, holder)
        ending = threading.Timer(0.7, finish, (taken,))
        ending.start()
        ended = Command()._follow(kind, taken, threading.Event())
        ending.join()
    assert (ended.pk, ended.status, ended.message) == (taken.pk, RunStatus.SUCCEEDED, "Done.")


def finish(run: BackupRun) -> None:
    result = RunResult(message="Done.")
    run_finish(kind=get_kind("backup"), run=run, status=RunStatus.SUCCEEDED, result=result)
    connections.close_all()


def running(job: BackupJob, holder: str) -> BackupRun:
    """A run of the job in a live process: this one, which holds the lock."""
    return BackupRun.objects.create(
        job=job,
        job_name=job.name,
        status=RunStatus.RUNNING,
        started_at=timezone.now(),
        host=holders.host_id(),
        holder=holder,
    )


class SlowTar:
    """A `tar` that says when it was started and then takes its time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._started = folder / "started"
        real = shutil.which("tar")
        script = folder / "tar"
        script.write_text(
            f'#!/bin/sh\ncase "$*" in *--version*) exec {real} "$@";; esac\n'
            f'echo $$ > "{folder}/pid" && mv "{folder}/pid" "{self._started}"\nexec /bin/sleep 60\n'
        )
        script.chmod(0o755)
        self.path = f"{folder}:{os.environ['PATH']}"

    def wait_until_started(self) -> None:
        deadline = time.monotonic() + 20
        while not self._started.exists():
            assert time.monotonic() < deadline, "the backup did not start"
            time.sleep(0.05)

    def end(self) -> None:
        if self._started.exists():
            with suppress(ProcessLookupError):
                os.kill(int(self._started.read_text()), signal.SIGKILL)


@pytest.fixture
def slow_tar(tmp_path: Path) -> Iterator[SlowTar]:
    tar = SlowTar(tmp_path / "slow")
    yield tar
    tar.end()
