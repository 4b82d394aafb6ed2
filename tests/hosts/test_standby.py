"""Several schedulers on one PostgreSQL database: one is active, the others take over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.conftest import ROOT, Fleet, wait_for
from tests.hosts.proxy import Proxy

pytestmark = [pytest.mark.services, pytest.mark.parametrize("fleet", ["embedded"], indirect=True)]
TAKE_OVER_SECONDS = 10


def is_active(fleet: Fleet, process: subprocess.Popen[str]) -> bool:
    """By its own beat, which only the active one writes."""
    return bool(
        fleet.one(
            "SELECT 1 FROM scheduling_schedulerstate WHERE pid = %s AND seen_at > now() - interval '6 seconds'",
            process.pid,
        )
    )


def roles(fleet: Fleet) -> list[str]:
    return [role for (role,) in fleet.all("SELECT role FROM scheduling_host ORDER BY role")]


def pair(fleet: Fleet, url: str = "") -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """An active scheduler and one that stands by."""
    active = fleet.start("nas1", "run_scheduler", url=url)
    wait_for(lambda: is_active(fleet, active), 30, "the start of the scheduler")
    standby = fleet.start("nas2", "run_scheduler")
    wait_for(lambda: roles(fleet) == ["scheduler", "standby"], 30, "the start of the standby")
    return active, standby


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)


def end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    assert process.wait(20) == 0


@pytest.mark.parametrize("fault", [kill, stop, end])
def test_a_standby_takes_over_within_ten_seconds(fleet: Fleet, fault: Callable[[subprocess.Popen[str]], None]) -> None:
    active, standby = pair(fleet)
    fault(active)
    took = wait_for(lambda: is_active(fleet, standby), TAKE_OVER_SECONDS, "the take-over")
    sys.stdout.write(f"\ntaken over {took:.1f} s after {fault.__name__}\n")


def test_a_stopped_scheduler_that_wakes_stands_by(fleet: Fleet) -> None:
    active, standby = pair(fleet)
    active.send_signal(signal.SIGSTOP)
    wait_for(lambda: is_active(fleet, standby), TAKE_OVER_SECONDS, "the take-over")
    active.send_signal(signal.SIGCONT)
    wait_for(lambda: "the clock is off" in fleet.log("nas1"), 5, "the end of the old clock")
    wait_for(lambda: roles(fleet) == ["scheduler", "standby"], 10, "the new order")
    time.sleep(6)
    assert is_active(fleet, standby)
    assert not is_active(fleet, active)
    kill(standby)
    wait_for(lambda: is_active(fleet, active), TAKE_OVER_SECONDS, "the way back")


def test_a_scheduler_whose_lock_is_cut_stops_its_clock_within_seconds(fleet: Fleet) -> None:
    active, standby = pair(fleet)
    cut = fleet.all(
        "SELECT pg_terminate_backend(lock.pid) FROM pg_locks lock JOIN pg_database db ON db.oid = lock.database "
        "WHERE lock.locktype = 'advisory' AND lock.granted AND db.datname = current_database()"
    )
    assert len(cut) == 1
    wait_for(lambda: "the clock is off" in fleet.log("nas1"), 3, "the end of the clock")
    wait_for(lambda: roles(fleet) == ["scheduler", "standby"], 10, "one of them being active")
    wait_for(lambda: is_active(fleet, active) != is_active(fleet, standby), TAKE_OVER_SECONDS, "a single one beating")


def test_a_scheduler_that_the_network_leaves_alone_stops_its_clock_and_another_takes_over(fleet: Fleet) -> None:
    """Nothing closes its connections: what it sends is swallowed."""
    proxy = Proxy(fleet.url)
    try:
        _active, standby = pair(fleet, proxy.url)
        proxy.silent.set()
        took = wait_for(lambda: is_active(fleet, standby), TAKE_OVER_SECONDS, "the take-over")
        assert "this is not the active scheduler any more" in fleet.log("nas1")
        sys.stdout.write(f"\ntaken over {took:.1f} s after the network went silent\n")
    finally:
        proxy.close()


def test_a_standby_works_its_queues_and_does_not_fire(fleet: Fleet) -> None:
    _, _ = pair(fleet)
    fleet.say(
        "from maintenance.models import MaintenanceJob as J\nfrom scheduling.dispatch import scheduled_dispatch as d\n"
        "for n in range(40):\n"
        "    job = J.objects.create(key=f'chore{n}', name=f'chore {n}', job_type='purge_trash')\n"
        "    d('maintenance', job.pk, trigger='manual', params={'seconds': 0.3})\n"
    )
    done = "SELECT count(*) FROM maintenance_maintenancerun WHERE status = 'succeeded'"
    wait_for(lambda: fleet.one(done) == 40, 30, "the runs")
    hosts = fleet.all("SELECT DISTINCT host FROM maintenance_maintenancerun")
    assert len(hosts) == 2
    assert "the clock is on" not in fleet.log("nas2")


def test_a_second_scheduler_of_the_same_data_folder_stands_by_too(fleet: Fleet) -> None:
    active = fleet.start("nas1", "run_scheduler")
    wait_for(lambda: is_active(fleet, active), 30, "the start of the scheduler")
    fleet.start("nas1", "run_scheduler")
    wait_for(lambda: roles(fleet) == ["scheduler", "standby"], 30, "the start of the standby")


@pytest.mark.slow
def test_each_minute_has_one_run_whichever_scheduler_fires(fleet: Fleet) -> None:
    """Two clocks for a moment, as after a wake-up: a slot has one run."""
    fleet.say(
        "from maintenance.models import MaintenanceJob as J\n"
        "J.objects.all().delete()\n"
        "J.objects.create(key='often', name='often', job_type='purge_trash', schedule_cron='* * * * *', enabled=True)"
    )
    active, _ = pair(fleet)
    second = 60 - time.time() % 60
    time.sleep(max(0.0, second - 2))
    stop(active)
    time.sleep(8.5)
    active.send_signal(signal.SIGCONT)
    slots = "SELECT count(*), count(DISTINCT slot) FROM maintenance_maintenancerun WHERE slot IS NOT NULL"
    wait_for(lambda: fleet.all(slots)[0][0] >= 1, 10, "the run of the minute")
    time.sleep(2)
    count, distinct = fleet.all(slots)[0]
    assert count == distinct >= 1


def test_a_second_host_is_refused_on_sqlite(fleet: Fleet, tmp_path: Path) -> None:
    """With a message that says where to go; further processes of the first host are welcome."""
    file = f"sqlite:///{tmp_path / 'shared.sqlite3'}"

    def manage(host: str, *command: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / host).mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env={
                **os.environ,
                "KEEPWELL_DATA": str(tmp_path / host),
                "DATABASE_URL": file,
                "KEEPWELL_PORT": "8796",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert manage("nas1", "migrate", "-v0").returncode == 0
    first = fleet.start("nas1", "run_scheduler", url=file, KEEPWELL_ENGINE="embedded")
    wait_for(lambda: "clock is on" in fleet.log("nas1"), 30, "the start of the scheduler")
    for command in (
        ("run_scheduler",),
        ("run_worker", "--queue", "nas2"),
        ("serve",),
        ("run_maintenance", "purge_trash"),
    ):
        refused = manage("nas2", *command)
        assert refused.returncode == 3, (command, refused.stderr)
        assert "PostgreSQL" in refused.stderr, command
        assert "Traceback" not in refused.stderr, command
    fleet.start("nas1", "run_worker", "--queue", "nas1", url=file, KEEPWELL_ENGINE="embedded")
    wait_for(lambda: "worker started" in fleet.log("nas1"), 30, "the start of the worker beside it")
    assert manage("nas1", "run_maintenance", "purge_trash").returncode == 0
    first.terminate()
    assert first.wait(30) == 0
