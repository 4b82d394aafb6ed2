"""The real scheduler process, watched from outside."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection

from backups.models import BackupRun
from backups.services.jobs import job_set_enabled
from maintenance.models import MaintenanceJob
from scheduling.choices import ProcessRole, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.models import Host, SchedulerState
from tests.factories import MaintenanceJobFactory
from tests.support import make_job

ROOT = Path(__file__).resolve().parent.parent.parent
Start = Callable[[], subprocess.Popen[str]]


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Seconds until `condition` held."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            pytest.fail(f"{what} did not happen within {seconds} s")
        time.sleep(0.01)
    return time.monotonic() - start


@pytest.fixture
def start(database_url: str) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def launch() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "run_scheduler"],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def alive() -> bool:
    return SchedulerState.objects.exists()


def test_sigterm_stops_it_cleanly(start: Start) -> None:
    process = start()
    wait_for(alive, 30, "the scheduler's start")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "scheduler stopped" in output
    assert "Traceback" not in output
    assert not alive()


def test_a_second_scheduler_on_the_same_data_is_refused_or_stands_by(start: Start) -> None:
    first = start()
    wait_for(alive, 30, "the scheduler's start")
    second = start()
    if connection.vendor == "sqlite":
        output, _ = second.communicate(timeout=30)
        assert second.returncode == 3
        assert "already running" in output
        return
    wait_for(
        lambda: Host.objects.filter(pid=second.pid, role=ProcessRole.STANDBY).exists(), 30, "the other to stand by"
    )
    assert SchedulerState.objects.get().pid == first.pid


def test_a_queued_run_is_started_soon_and_carried_out(start: Start, tmp_path: Path) -> None:
    start()
    wait_for(alive, 30, "the scheduler's start")
    job = make_job(tmp_path)
    run = scheduled_dispatch("backup", job.pk, trigger=RunTrigger.MANUAL)
    assert run is not None
    wait_for(lambda: BackupRun.objects.filter(pk=run.pk, started_at__isnull=False).exists(), 5, "the start of the run")
    wait_for(lambda: BackupRun.objects.filter(pk=run.pk, status="succeeded").exists(), 30, "the end of the run")
    run.refresh_from_db()
    # The bar is one second; a loaded test machine gets three.
    assert run.started_at is not None
    assert (run.started_at - run.queued_at).total_seconds() < 3


def test_sigterm_during_a_backup_cancels_it_and_keeps_nothing_half_made(start: Start, tmp_path: Path) -> None:
    process = start()
    job = make_job(tmp_path)
    for number in range(20_000):
        (tmp_path / "source-etc" / f"more-{number}").write_bytes(b"x" * 3000)
    scheduled_dispatch("backup", job.pk, trigger=RunTrigger.MANUAL)
    wait_for(lambda: BackupRun.objects.filter(status="running").exists(), 30, "the start of the run")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    run = BackupRun.objects.get(parent=None)
    assert run.status in ("cancelled", "succeeded")
    assert [again.status for again in run.retries.all()] == (["queued"] if run.status == "cancelled" else [])
    assert not list(Path(job.storage.path).rglob("*.part"))


@pytest.mark.slow
def test_a_schedule_fires_by_itself_and_a_change_takes_effect_without_a_restart(start: Start, tmp_path: Path) -> None:
    MaintenanceJob.objects.all().delete()
    start()
    wait_for(alive, 30, "the scheduler's start")
    job = make_job(tmp_path, schedule="* * * * *")
    cleanup = MaintenanceJobFactory(schedule_cron="* * * * *")
    wait_for(lambda: job.runs.filter(status="succeeded").exists(), 70, "the scheduled backup")
    wait_for(lambda: cleanup.runs.filter(status="succeeded").exists(), 10, "the scheduled cleanup")
    assert job.runs.get().slot is not None
    job_set_enabled(job=job, enabled=False)
    time.sleep(65)
    assert job.runs.count() == 1
