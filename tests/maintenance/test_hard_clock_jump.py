"""R12: real cleanups in a process whose clock jumps before, in, and between their deletions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.choices import BackupState
from backups.models import Backup, BackupJob
from backups.models.options import GUARD_FIELDS
from backups.services.moved import BATCH
from backups.services.options import options_update
from maintenance.choices import JobType
from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling.choices import RunOutcome, RunStatus
from tests.factories import MaintenanceJobFactory
from tests.faked_clock import FakedClock
from tests.support import add_backup, assert_catalogue_matches_storage, make_job, now

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = 3
# Of each of two pairs: more than are moved at a time, so that a jump can come within a pair and between the two.
COPIES = BATCH + 15
TO_DELETE = 2 * (COPIES - KEPT)
# Runs the jobs it is asked to. With an offset it moves its own clock in the middle of the run: at the first line of the
# log by which `after` copies have left the states they may have at its start.
CHILD = """
import json, sys
from pathlib import Path
import django
django.setup()
from backups.models import Backup
from scheduling.choices import RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.wall_clock import clock_confirm, clock_jump
from tests.faked_clock import move_clock

for line in sys.stdin:
    request = json.loads(line)
    if "confirm" in request:
        clock_confirm(by=request["confirm"])
    if "run" in request:
        moved_at = []

        def echo(_level, _text):
            done = Backup.objects.exclude(state__in=request["states"]).count()
            if request["offset"] and not moved_at and done >= request["after"]:
                moved_at.append(done)
                move_clock(Path(request["file"]), request["offset"])

        run = scheduled_dispatch(
            "maintenance", request["run"], inline=True, trigger=RunTrigger.COMMAND, echo=echo
        )
        print(json.dumps({"run": run.pk, "moved_at": moved_at}), flush=True)
    else:
        print(json.dumps({"jumped": clock_jump() is not None}), flush=True)
"""


class Child:
    """Keepwell in a process of its own, under a clock of its own."""

    def __init__(self, process: subprocess.Popen[str], clock: FakedClock) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self.clock = clock

    def run(self, job: MaintenanceJob, *, offset: str = "", after: int = 0) -> tuple[MaintenanceRun, int]:
        """The run as it ended, and how many copies it had deleted when it moved the clock; -1 when it did not."""
        states = [BackupState.AVAILABLE]
        if job.job_type == JobType.PURGE_TRASH:
            states.append(BackupState.TRASHED)
        answer = self._ask(run=job.pk, offset=offset, after=after, states=states, file=str(self.clock.file))
        return MaintenanceRun.objects.get(pk=answer["run"]), next(iter(answer["moved_at"]), -1)

    def look(self) -> bool:
        """Whether the clock has jumped, as the scheduler's heartbeat would find."""
        jumped: bool = self._ask()["jumped"]
        return jumped

    def confirm(self) -> None:
        self._ask(confirm="anna")

    def _ask(self, **request: Any) -> dict[str, Any]:
        self._stdin.write(f"{json.dumps(request)}\n")
        self._stdin.flush()
        answer: dict[str, Any] = json.loads(self._stdout.readline())
        return answer


@pytest.fixture(params=[False, True], ids=["wall clock only", "every clock"])
def child(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> Iterator[Child]:
    clock = FakedClock(tmp_path, monotonic=request.param)
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        cwd=ROOT,
        env=clock.environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        running = Child(process, clock)
        assert not running.look()
        yield running
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0


@pytest.fixture
def job(tmp_path: Path, database_url: str) -> BackupJob:
    """Two pairs of daily copies, three of each of which stay; no blast radius: only the clock stops a cleanup."""
    job = make_job(tmp_path, targets=("etc", "home"))
    start = now() - timedelta(hours=1)
    for target in job.targets.all():
        for days in range(COPIES):
            add_backup(job, start - timedelta(days=days), target=target)
    options_update(retention={"keep_last": KEPT}, trash_hours=72, **dict.fromkeys(GUARD_FIELDS))
    return job


@pytest.fixture
def cleanup(job: BackupJob) -> MaintenanceJob:
    return MaintenanceJobFactory(key="by_hand", name="By hand")


@pytest.fixture
def purge(job: BackupJob) -> MaintenanceJob:
    return MaintenanceJobFactory(key="purge", name="Purge", job_type=JobType.PURGE_TRASH)


def gone() -> int:
    return Backup.objects.exclude(state=BackupState.AVAILABLE).count()


def in_trash() -> int:
    return Backup.objects.trashed().count()


def assert_stopped_by_the_clock(run: MaintenanceRun) -> None:
    assert (run.status, run.outcome) == (RunStatus.SUCCEEDED, RunOutcome.NEEDS_APPROVAL), run.message
    lines = "\n".join(run.log_lines.values_list("text", flat=True))
    assert "clock" in f"{run.message}\n{lines}".lower()


def test_a_cleanup_under_a_clock_that_stays_deletes_what_it_should(
    child: Child, job: BackupJob, cleanup: MaintenanceJob
) -> None:
    """What the others are compared with: nothing but the clock keeps these copies."""
    run, _ = child.run(cleanup)
    assert (run.status, run.outcome) == (RunStatus.SUCCEEDED, RunOutcome.OK), run.message
    assert gone() == TO_DELETE
    assert_catalogue_matches_storage(job.storage)


@pytest.mark.parametrize("offset", ["+400d", "-30d"])
@pytest.mark.parametrize("after", [0, 1, BATCH + 1], ids=["before the first deletion", "in a pair", "between pairs"])
def test_nothing_is_deleted_once_the_clock_has_jumped_in_the_middle_of_a_cleanup(
    child: Child, job: BackupJob, cleanup: MaintenanceJob, offset: str, after: int
) -> None:
    run, moved_at = child.run(cleanup, offset=offset, after=after)
    assert after <= moved_at < TO_DELETE, "the clock was moved in the middle"
    assert gone() == moved_at
    assert_stopped_by_the_clock(run)
    assert run.result_json["deleted_count"] == moved_at
    assert_catalogue_matches_storage(job.storage)


@pytest.mark.parametrize("offset", ["+400d", "-30d"])
def test_a_cleanup_after_a_jump_deletes_nothing_until_someone_confirms(
    child: Child, job: BackupJob, cleanup: MaintenanceJob, offset: str
) -> None:
    child.clock.move(offset)
    for _ in range(2):
        run, _ = child.run(cleanup)
        assert_stopped_by_the_clock(run)
        assert gone() == 0
    child.confirm()
    run, _ = child.run(cleanup)
    assert run.status == RunStatus.SUCCEEDED, run.message
    # R6: those of the last thirty days are from the future of a clock that went back, neither counted nor deleted.
    assert gone() == (TO_DELETE if offset == "+400d" else TO_DELETE - 2 * 30)
    assert_catalogue_matches_storage(job.storage)


def test_a_cleanup_goes_on_when_the_clock_has_come_back(child: Child, job: BackupJob, cleanup: MaintenanceJob) -> None:
    run, _ = child.run(cleanup, offset="+400d", after=1)
    assert_stopped_by_the_clock(run)
    assert gone() < TO_DELETE
    child.clock.move("+0")
    run, _ = child.run(cleanup)
    assert run.outcome == RunOutcome.OK, run.message
    assert gone() == TO_DELETE
    assert_catalogue_matches_storage(job.storage)


def test_what_is_in_the_trash_is_not_purged_by_a_clock_that_jumped_ahead(
    child: Child, job: BackupJob, cleanup: MaintenanceJob, purge: MaintenanceJob
) -> None:
    child.run(cleanup)
    child.clock.move("+400d")
    run, _ = child.run(purge)
    assert_stopped_by_the_clock(run)
    assert in_trash() == TO_DELETE
    child.confirm()
    run, _ = child.run(purge)
    assert run.outcome == RunOutcome.OK, run.message
    assert in_trash() == 0
    assert_catalogue_matches_storage(job.storage)


@pytest.mark.parametrize("offset", ["+400d", "-30d"])
@pytest.mark.parametrize("after", [0, 1], ids=["before the first batch", "between two batches"])
def test_nothing_is_purged_once_the_clock_has_jumped_in_the_middle_of_it(
    child: Child, job: BackupJob, cleanup: MaintenanceJob, purge: MaintenanceJob, offset: str, after: int
) -> None:
    child.run(cleanup)
    Backup.objects.trashed().update(trashed_at=now() - timedelta(days=4))
    run, moved_at = child.run(purge, offset=offset, after=after)
    assert after <= moved_at < TO_DELETE, "the clock was moved in the middle"
    assert in_trash() == TO_DELETE - moved_at
    assert_stopped_by_the_clock(run)
    assert_catalogue_matches_storage(job.storage)
