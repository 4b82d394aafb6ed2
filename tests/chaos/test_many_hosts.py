"""Several hosts at one PostgreSQL database: data folders, and so identities, of their own on one machine."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from maintenance.models import MaintenanceJob
from scheduling.choices import RunStatus, RunTrigger
from scheduling.models import SchedulerState
from tests.chaos.crowd import Crowd, all_runs, assert_consistent, crowd, is_quiet, report, wait_for
from tests.factories import BackupJobFactory, MaintenanceJobFactory, TargetFactory
from tests.scheduling.engine import all_at_once, ask

pytestmark = pytest.mark.django_db(transaction=True)
HOSTS = ("nas1", "nas2", "nas3")
LEASE = {"KEEPWELL_LEASE_SECONDS": "6"}


@pytest.fixture
def many(database_url: str, tmp_path: Path) -> Iterator[Crowd]:
    if connection.vendor != "postgresql":
        pytest.skip("a SQLite file serves one host")
    MaintenanceJob.objects.all().delete()
    with crowd(tmp_path / "crowd") as made:
        yield made


def start_all(many: Crowd, **environment: str) -> dict[str, list[Any]]:
    """Three schedulers and six workers on three hosts."""
    started: dict[str, list[Any]] = {"run_scheduler": [], "run_worker": []}
    for host in HOSTS:
        for command, count in (("run_scheduler", 1), ("run_worker", 2)):
            for _ in range(count):
                started[command].append(many.start(command, "--workers", "2", host=host, **environment))
    wait_for(SchedulerState.objects.exists, 90, "the start of a scheduler")
    return started


def some_jobs(count: int) -> list[Any]:
    """Every minute; pairs of them share a target."""
    targets = [TargetFactory() for _ in range(count // 2)]
    jobs: list[Any] = [
        BackupJobFactory(schedule="* * * * *", targets=[targets[number // 2], TargetFactory()])
        for number in range(count)
    ]
    return jobs + [MaintenanceJobFactory(schedule_cron="* * * * *") for _ in range(count)]


def crowd_around(jobs: list[Any], seconds: float) -> None:
    """Requests by hand and over the API, ten at a time, as fast as they are answered."""
    until = time.monotonic() + seconds

    def request() -> None:
        while time.monotonic() < until:
            ask(random.choice(jobs), random.choice([RunTrigger.MANUAL, RunTrigger.API]))
            time.sleep(0.02)

    all_at_once([request] * 4)


def cut_connections() -> int:
    """End every connection to the database but this one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        (count,) = cursor.fetchone()
    return int(count)


@pytest.mark.parametrize("seconds", [10, pytest.param(65, marks=pytest.mark.slow)])
def test_three_schedulers_and_six_workers_run_everything_once(many: Crowd, seconds: int) -> None:
    jobs = some_jobs(8)
    start_all(many, WITNESS_SECONDS="0,0.2")
    crowd_around(jobs, seconds)
    wait_for(is_quiet, 120, "the end of all runs")
    many.stop()
    counts = assert_consistent(many)
    report(f"three schedulers and six workers, {seconds} s", counts, hosts=len({run.host for run in all_runs()}))
    assert set(counts) <= {"succeeded", "skipped"}, many.logs()[-3000:]
    if seconds > 60:
        assert {job.pk for job in jobs} <= {run.job_id for run in all_runs() if run.slot}


def test_a_worker_that_is_killed_is_found_lost_by_another_host_when_its_lease_has_ended(many: Crowd) -> None:
    working = many.start("run_worker", host="nas1", WITNESS_SECONDS="60,60", **LEASE)
    job = BackupJobFactory(retry_count=1, retry_delay=0)
    ask(job)
    wait_for(many.spans, 60, "the start of the run")
    many.start("run_worker", host="nas2", WITNESS_SECONDS="0,0", **LEASE)
    time.sleep(5)
    many.kill(working)
    seconds = wait_for(lambda: job.runs.filter(status="lost").exists(), 30, "finding it lost")
    assert 3 < seconds < 9 + 3  # of a lease of 60 s: under 90
    wait_for(lambda: job.runs.filter(status="succeeded").exists(), 30, "the retry")
    many.stop()
    assert_consistent(many)


@pytest.mark.parametrize("stopped", [3, 12])
def test_a_worker_that_is_stopped_and_goes_on_never_works_beside_another(many: Crowd, stopped: int) -> None:
    """Within its lease it goes on; past it, it ends itself before it does anything more."""
    working = many.start("run_worker", host="nas1", WITNESS_SECONDS="6,6", **LEASE)
    job = BackupJobFactory(retry_count=1, retry_delay=0)
    run = ask(job)
    wait_for(many.spans, 60, "the start of the run")
    other = many.start("run_worker", host="nas2", WITNESS_SECONDS="6,6", **LEASE)
    time.sleep(3)
    working.send_signal(signal.SIGSTOP)
    time.sleep(stopped)
    woken = time.monotonic_ns()
    working.send_signal(signal.SIGCONT)
    wait_for(is_quiet, 60, "the end of all runs")
    many.stop(other)
    many.stop()
    run.refresh_from_db()
    statuses = [found.status for found in job.runs.order_by("pk")]
    if stopped < 6:
        assert statuses == ["succeeded"]
    else:
        assert statuses == [RunStatus.LOST, RunStatus.SUCCEEDED]
        mine = next(span for span in many.spans() if span.pid == working.pid)
        # At most what it was in the middle of when it was stopped.
        assert mine.last < woken + 300_000_000


def test_connections_that_are_cut_lose_no_run_and_repeat_none(many: Crowd) -> None:
    jobs = some_jobs(4)
    start_all(many, WITNESS_SECONDS="0.2,1.5")
    cut = 0
    for _ in range(4):
        for job in random.sample(jobs, 4):
            ask(job)
        time.sleep(1.5)
        cut += cut_connections()
    wait_for(is_quiet, 120, "the end of all runs")
    many.stop()
    counts = assert_consistent(many)
    report("cut connections", counts, cuts=cut)
    assert counts["succeeded"] > 4


@pytest.mark.slow
def test_hosts_that_are_killed_stopped_and_cut_off_at_random_leave_a_true_ledger(many: Crowd) -> None:
    jobs = some_jobs(10)
    for job in jobs:
        type(job).objects.filter(pk=job.pk).update(retry_count=1, retry_delay=0)
    environment = {"WITNESS_SECONDS": "0,1", "WITNESS_FAILS": "0.05", **LEASE}
    started = start_all(many, **environment)
    until, begun = time.monotonic() + 180, timezone.now()
    kills = stops = cuts = 0
    while time.monotonic() < until:
        crowd_around(jobs, random.uniform(0.5, 2))
        command = random.choice(list(started))
        index = random.randrange(len(started[command]))
        process = started[command][index]
        match random.choice(["kill", "stop", "cut"]):
            case "kill":
                many.kill(process)
                started[command][index] = many.start(command, "--workers", "2", host=HOSTS[index % 3], **environment)
                kills += 1
            case "stop":
                process.send_signal(signal.SIGSTOP)
                time.sleep(random.choice([1, 8]))
                process.send_signal(signal.SIGCONT)
                stops += 1
                if process.poll() is not None:
                    started[command][index] = many.start(command, host=HOSTS[index % 3], **environment)
            case _:
                cuts += cut_connections()
    for _ in range(2):  # what ended itself is started again, so that somebody is left to find the lost
        many.start("run_worker", host="nas1", **environment)
    wait_for(is_quiet, 180, "the end of all runs")
    many.stop()
    counts = assert_consistent(many)
    report("killed, stopped and cut off", counts, kills=kills, stops=stops, cuts=cuts, since=f"{begun:%H:%M}")
