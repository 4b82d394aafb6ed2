"""One host, real processes, and everything that can end or block them."""

from __future__ import annotations

import itertools
import pickle
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from django_apscheduler.models import DjangoJob

from backups.models import BackupJob
from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling.choices import RunStatus, RunTrigger
from scheduling.clock import Clock
from scheduling.dispatch import scheduled_dispatch
from scheduling.models import SchedulerState
from tests.chaos.crowd import ROOT, Crowd, all_runs, assert_consistent, crowd, is_quiet, report, wait_for
from tests.factories import BackupJobFactory, MaintenanceJobFactory
from tests.scheduling.engine import all_at_once, ask
from tests.support import make_job

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def one(database_url: str, tmp_path: Path) -> Iterator[Crowd]:
    MaintenanceJob.objects.all().delete()
    with crowd(tmp_path / "crowd") as made:
        yield made


def scheduler(crowd: Crowd, **environment: str) -> subprocess.Popen[bytes]:
    process = crowd.start("run_scheduler", "--workers", "4", **environment)
    wait_for(lambda: SchedulerState.objects.filter(pid=process.pid).exists(), 60, "the scheduler's start")
    return process


def make_due() -> datetime:
    """Let the clock's store say that every schedule is due since half a minute."""
    Clock().start().stop()
    due = timezone.now() - timedelta(seconds=30)
    rows = list(DjangoJob.objects.all())
    for row in rows:
        row.job_state = pickle.dumps(pickle.loads(row.job_state) | {"next_run_time": due})
        row.next_run_time = due
    DjangoJob.objects.bulk_update(rows, ["job_state", "next_run_time"], batch_size=100)
    return due


@contextmanager
def database_locked() -> Iterator[None]:
    """From outside, as a copy or an editor of the file would."""
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_a_run_by_hand_starts_within_a_second(one: Crowd) -> None:
    scheduler(one)
    waits = []
    for _ in range(10):
        run = ask(BackupJobFactory())
        wait_for(is_quiet, 20, "the run")
        run.refresh_from_db()
        waits.append((run.started_at - run.queued_at).total_seconds())
    one.stop()
    print(f"\nqueued to started: median {sorted(waits)[5]:.3f} s, most {max(waits):.3f} s")  # noqa: T201
    assert sorted(waits)[5] < 1


def test_a_process_that_is_killed_is_found_lost_in_under_five_seconds(one: Crowd, tmp_path: Path) -> None:
    """A command of its own, with a real backup under its hands."""
    job = make_job(tmp_path)
    for number in range(20_000):
        (tmp_path / "source-etc" / f"more-{number}").write_bytes(b"x" * 3000)
    scheduler(one)
    command = subprocess.Popen(
        [sys.executable, "manage.py", "run_backup", job.name],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: job.runs.filter(status="running").exists(), 60, "the start of the command's run")
    command.kill()
    command.wait()
    seconds = wait_for(lambda: job.runs.filter(status="lost").exists(), 20, "finding it lost")
    print(f"\nfound lost after {seconds:.1f} s")  # noqa: T201
    assert seconds < 5
    wait_for(lambda: not list(Path(job.storage.path).rglob("*.part")), 20, "clearing away what it left")


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_scheduler_that_dies_between_due_and_queued_fires_exactly_once(one: Crowd, point: str) -> None:
    job = BackupJobFactory(schedule="0 0 1 1 *")
    due = make_due()
    dying = one.start("run_scheduler", WITNESS_DIES=point)
    assert dying.wait(60) == -signal.SIGKILL, one.logs()
    assert job.runs.count() == (0 if point == "before" else 1)
    assert DjangoJob.objects.get(id=f"backup:{job.pk}").next_run_time == due
    scheduler(one)
    wait_for(lambda: job.runs.filter(status="succeeded").exists(), 20, "the fire")
    time.sleep(2)
    one.stop()
    assert [(run.status, run.trigger) for run in job.runs.all()] == [("succeeded", "schedule")]
    assert_consistent(one)


def test_a_database_that_is_locked_for_15_seconds_loses_nothing(one: Crowd) -> None:
    """While runs are at work, end, and are asked for."""
    if connection.vendor != "sqlite":
        pytest.skip("only a SQLite file can be locked as a whole")
    process = scheduler(one, WITNESS_SECONDS="0.5,3")
    jobs = [BackupJobFactory() for _ in range(8)]
    for job in jobs[:4]:
        ask(job)
    wait_for(lambda: len(one.spans()) == 4, 20, "the start of the runs")
    threads = [threading.Thread(target=lambda job=job: (ask(job), connection.close())) for job in jobs[4:]]
    with database_locked():
        for thread in threads:
            thread.start()
        time.sleep(15)
    for thread in threads:
        thread.join(30)
    wait_for(is_quiet, 60, "the end of all runs")
    assert process.poll() is None
    one.stop()
    counts = assert_consistent(one)
    report("locked for 15 s", counts)
    assert counts == {"succeeded": 8}


@pytest.mark.parametrize("seconds", [1, 6])
def test_a_process_that_is_stopped_and_goes_on_ends_its_run_itself(one: Crowd, seconds: int) -> None:
    """Its file lock says that it lives, however long it does nothing."""
    process = scheduler(one, WITNESS_SECONDS="3,3")
    run = ask(BackupJobFactory(retry_count=1))
    wait_for(one.spans, 20, "the start of the run")
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    other = one.start("run_worker", "--workers", "2")
    time.sleep(4)
    process.send_signal(signal.SIGCONT)
    wait_for(is_quiet, 60, "the end of the run")
    one.stop(other)
    one.stop()
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED
    assert_consistent(one)


def test_twenty_run_now_at_once_are_one_run_while_the_scheduler_is_at_work(one: Crowd) -> None:
    scheduler(one, WITNESS_SECONDS="2,2")
    job = BackupJobFactory()
    all_at_once([lambda: ask(job, requested_by="anna")] * 20)
    wait_for(is_quiet, 30, "the end of the run")
    one.stop()
    assert job.runs.count() == 1


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_runs_that_are_due_at_once_are_all_run_once(one: Crowd, count: int) -> None:
    """Fired by the clock in one minute, real purges of an empty trash."""
    with transaction.atomic():
        for _ in range(count):
            MaintenanceJobFactory(job_type="purge_trash", schedule_cron="0 0 1 1 *")
    make_due()
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run_scheduler"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        runs = MaintenanceRun.objects.filter(trigger="schedule")
        wait_for(lambda: runs.filter(status="succeeded").count() >= count, 300, "the end of all runs")
        seconds = time.monotonic() - start
    finally:
        process.terminate()
        process.wait(30)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(  # noqa: T201
        f"\n{count} runs, from the scheduler's start to the last one's end: {seconds:.0f} s "
        f"({used.ru_utime + used.ru_stime:.0f} s of CPU in this test's children so far)"
    )
    assert runs.count() == runs.values("job").distinct().count() == count
    assert set(runs.values_list("status", "fence")) == {("succeeded", 1)}


def kill_at_random(one: Crowd, seconds: float, rng: random.Random) -> dict[str, Any]:
    """Schedules every minute, a request every second, and one of the processes killed every few seconds."""
    jobs = [
        BackupJobFactory(schedule="* * * * *", retry_count=2, retry_delay=0),
        BackupJobFactory(schedule="* * * * *", overlap="skip"),
        MaintenanceJobFactory(schedule_cron="* * * * *", retry_count=1, retry_delay=0),
        BackupJobFactory(schedule=""),
    ]
    BackupJob.objects.filter(pk=jobs[3].pk).update(run_after=f"backup:{jobs[0].pk}")
    quick = {"WITNESS_SECONDS": "0.05,2", "WITNESS_FAILS": "0.2"}
    started = timezone.now()
    at_work = {"run_scheduler": scheduler(one, **quick), "run_worker": one.start("run_worker", **quick)}
    until, killed, asked = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        time.sleep(rng.uniform(0.2, 1.5))
        job = rng.choice(jobs)
        asked += ask(job, rng.choice([RunTrigger.MANUAL, RunTrigger.API])) is not None
        if rng.random() < 0.3:
            command = rng.choice(list(at_work))
            one.kill(at_work[command])
            at_work[command] = one.start(command, **quick)
            killed += 1
    wait_for(lambda: SchedulerState.objects.filter(pid=at_work["run_scheduler"].pid).exists(), 60, "the last start")
    wait_for(is_quiet, 120, "the end of all runs")
    one.stop()
    return {"jobs": jobs, "started": started, "killed": killed, "asked": asked}


def assert_every_minute(job: Any, since: Any) -> int:
    """Each minute of a job's schedule has its row, but those that passed while there was no scheduler: these have
    one together.
    """
    slots = sorted(job.runs.filter(slot__isnull=False).values_list("slot", flat=True))
    assert all(slot.second == 0 for slot in slots)
    gaps = [later - earlier for earlier, later in itertools.pairwise(slots)]
    assert all(gap <= timedelta(minutes=2) for gap in gaps), gaps
    assert not slots or slots[0] - since <= timedelta(minutes=2)
    return len(slots)


def test_processes_killed_at_random_leave_a_true_ledger(one: Crowd) -> None:
    seen = kill_at_random(one, 25, random.Random(5))
    counts = assert_consistent(one)
    report("killed at random", counts, kills=seen["killed"], requests=seen["asked"])
    assert counts["succeeded"] > 5


@pytest.mark.slow
def test_processes_killed_at_random_for_ten_minutes_leave_a_true_ledger(one: Crowd) -> None:
    seen = kill_at_random(one, 600, random.Random())
    counts = assert_consistent(one)
    fires = [assert_every_minute(job, seen["started"]) for job in seen["jobs"][:3]]
    report("killed at random", counts, kills=seen["killed"], requests=seen["asked"], fires=sum(fires))
    assert min(fires) >= 9
    parents = [run.parent_id for run in all_runs() if run.trigger == "retry"]
    assert len(parents) == len(set(parents)), "tried again twice"


def test_a_request_during_a_restart_is_not_forgotten(one: Crowd) -> None:
    first = scheduler(one)
    one.kill(first)
    run = scheduled_dispatch("backup", BackupJobFactory().pk, trigger=RunTrigger.API)
    scheduler(one)
    wait_for(is_quiet, 30, "the run")
    assert run is not None
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED
