"""The scheduler with ten thousand schedules: CPU to start, CPU when idle, and run now until started.

    .venv/bin/python benchmarks/bench_scheduler.py [--small] [--schedules 10000] [--idle 30] [--runs 20]

None of its schedules fires while it is measured. CPU seconds are the process's own, so that what else the machine does
counts little. Prints figures beside their bars.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from project import ROOT, load, scratch_project

START_BAR = 2.0
IDLE_BAR = 0.01
WAIT_BAR = 1.0
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_megabytes(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def prepare(data: Path, schedules: int) -> Any:
    """Make `schedules` backup jobs of one small target that fire half a year from now.

    Returns one more job, without a schedule.
    """
    from backups.models import BackupJob, BackupJobTarget
    from backups.services.jobs import job_create
    from backups.services.storages import storage_create
    from backups.services.targets import target_create

    source = data / "source"
    source.mkdir()
    (source / "file").write_text("a small file")
    storage = storage_create(name="nas", path=str(data / "nas"))
    target = target_create(name="etc", source="files", config={"paths": [str(source)]})
    month = (datetime.now(UTC) + timedelta(days=180)).month
    BackupJob.objects.bulk_create(
        BackupJob(
            name=f"job {number}",
            storage=storage,
            schedule=f"{number % 60} {number // 60 % 24} {1 + number % 28} {month} *",
        )
        for number in range(schedules)
    )
    BackupJobTarget.objects.bulk_create(BackupJobTarget(job=job, target=target) for job in BackupJob.objects.all())
    return job_create(name="by hand", targets=[target], storage=storage)


def start() -> tuple[subprocess.Popen[str], float]:
    """A scheduler, and its CPU seconds until it said that it has started."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run_scheduler"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "the clock is on" in line:
            return process, cpu_seconds(process.pid)
    raise SystemExit("The scheduler did not start.")


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def idle_share(process: subprocess.Popen[str], seconds: float) -> float:
    time.sleep(3)
    before, since = cpu_seconds(process.pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(process.pid) - before) / (time.monotonic() - since)


def latencies(job: Any, runs: int) -> list[float]:
    """Seconds from the request to the run's start, as the database has them."""
    from scheduling.choices import RunTrigger
    from scheduling.dispatch import scheduled_dispatch

    found = []
    for _ in range(runs):
        run = scheduled_dispatch("backup", job.pk, trigger=RunTrigger.MANUAL)
        assert run is not None
        while run.finished_at is None:
            time.sleep(0.05)
            run.refresh_from_db()
        assert run.started_at is not None
        found.append((run.started_at - run.queued_at).total_seconds())
    return sorted(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="1,000 schedules, 15 s idle, 10 runs")
    parser.add_argument("--schedules", type=int)
    parser.add_argument("--idle", type=float, help="seconds; a whole number of half minutes is fairest")
    parser.add_argument("--runs", type=int)
    options = parser.parse_args()
    small = options.small
    schedules = options.schedules or (1_000 if small else 10_000)
    with scratch_project() as data:
        job = prepare(data, schedules)
        process, first = start()
        stop(process)
        process, again = start()
        share = idle_share(process, options.idle or (15 if small else 30))
        waits = latencies(job, options.runs or (10 if small else 20))
        peak = peak_megabytes(process.pid)
        stop(process)
    print(f"{schedules:,} schedules")
    print(f"first start            {first:6.2f} s of CPU    (under {START_BAR:.0f})")
    print(f"start again            {again:6.2f} s of CPU    (under {START_BAR:.0f})")
    print(f"idle                   {share:6.2%} of a core  (under {IDLE_BAR:.0%})")
    print(f"run now, median        {statistics.median(waits):6.3f} s           (under {WAIT_BAR:.0f})")
    print(f"run now, slowest       {waits[-1]:6.3f} s           (under {WAIT_BAR:.0f})")
    print(f"memory, highest        {peak:6.0f} MB")
    good = max(first, again) < START_BAR and share < IDLE_BAR and waits[-1] < WAIT_BAR
    print(f"{'within' if good else 'NOT within'} the promise ({load()})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
