"""Many hosts on one database, with everything that goes wrong between them."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import ClassVar

import pytest

from tests.hosts.conftest import LEASE, ROOT, Fleet, wait_for

pytestmark = pytest.mark.services

# By the traces that runs left, which a run leaves only under its fence; by the server's clock.
OVERLAPPING_WORK = """
WITH spans AS (SELECT kind, run_id, tstzrange(min(at), max(at), '[]') AS span FROM proof_trace GROUP BY kind, run_id)
SELECT a.what, a.kind, a.id, b.kind, b.id
FROM proof_held a JOIN proof_held b ON a.what = b.what AND (a.kind, a.id) < (b.kind, b.id)
JOIN spans x ON (x.kind, x.run_id) = (a.kind, a.id) JOIN spans y ON (y.kind, y.run_id) = (b.kind, b.id)
WHERE x.span && y.span
"""
# By the rows, whose times are those of the hosts: here one machine's.
OVERLAPPING_ROWS = """
SELECT a.what, a.kind, a.id, b.kind, b.id
FROM proof_held a JOIN proof_held b ON a.what = b.what AND (a.kind, a.id) < (b.kind, b.id)
JOIN proof_run x ON (x.kind, x.id) = (a.kind, a.id) JOIN proof_run y ON (y.kind, y.id) = (b.kind, b.id)
WHERE tstzrange(x.started_at, x.finished_at, '()') && tstzrange(y.started_at, y.finished_at, '()')
AND x.started_at IS NOT NULL AND y.started_at IS NOT NULL
"""
DUPLICATES = "SELECT kind, run_id FROM proof_trace WHERE what = 'begin' GROUP BY kind, run_id HAVING count(*) > 1"
TWICE_CLAIMED = "SELECT kind, id FROM proof_run WHERE fence > 1"
UNFINISHED_SUCCESS = """
SELECT kind, id FROM proof_run r WHERE status = 'succeeded'
AND NOT EXISTS (SELECT 1 FROM proof_trace t WHERE (t.kind, t.run_id, t.what) = (r.kind, r.id, 'end'))
"""
OPEN = "SELECT count(*) FROM proof_run WHERE status IN ('queued', 'running', 'cancelling')"


def feed(fleet: Fleet, runs: int, *queues: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hosts.feeder", str(runs), *queues],
        cwd=ROOT,
        env={**fleet.environ, "PGAPPNAME": "feeder"},
        text=True,
        stdout=subprocess.PIPE,
    )
    fleet.processes.append(process)
    return process


def record(
    fleet: Fleet, *, queue: str = "", seconds: float = 0, job: int | None = None, **values: str
) -> tuple[int, int]:
    """Record a run of a maintenance job, a new one unless `job` is given; returns the ids of job and run."""
    found = fleet.say(
        "from maintenance.models import MaintenanceJob as J\n"
        "from scheduling.dispatch import scheduled_dispatch as d\n"
        f"job = {job} or J.objects.create(key='chore', name='chore', job_type='purge_trash', queue={queue!r}).pk\n"
        f"print(job, d('maintenance', job, trigger='manual', params={{'seconds': {seconds}}}).pk)"
    )
    job_id, run_id = found.split()
    return int(job_id), int(run_id)


def status(fleet: Fleet, run_id: int) -> str:
    return str(fleet.one("SELECT status FROM maintenance_maintenancerun WHERE id = %s", run_id))


def traces(fleet: Fleet, run_id: int) -> list[str]:
    return [what for (what,) in fleet.all("SELECT what FROM proof_trace WHERE run_id = %s ORDER BY id", run_id)]


def is_listening(fleet: Fleet, *hosts: str) -> bool:
    return all("started: queues" in fleet.log(host) for host in hosts)


def test_a_run_is_taken_by_a_worker_of_its_queue_and_by_no_other(fleet: Fleet) -> None:
    fleet.start("nas1", "run_worker", "--queue", "nas1")
    fleet.start("nas2", "run_worker", "--queue", "nas2", "--queue", "default")
    wait_for(lambda: is_listening(fleet, "nas1", "nas2"), 30, "the start of the workers")
    _, run_id = record(fleet, queue="nas1")
    wait_for(lambda: status(fleet, run_id) == "succeeded", 20, "the run")
    host = fleet.one("SELECT host FROM maintenance_maintenancerun WHERE id = %s", run_id)
    assert host == (fleet.folder / "nas1" / "host_id").read_text()
    beats = fleet.all("SELECT role, queues FROM scheduling_host ORDER BY queues::text")
    assert beats == [("worker", ["nas1"]), ("worker", ["nas2", "default"])]


def test_the_message_of_a_run_is_sent_with_the_transaction_that_records_it_or_not_at_all(fleet: Fleet) -> None:
    """A rollback leaves neither; a run that starts later has a message that comes later."""
    fleet.say(
        "from datetime import timedelta\nfrom django.db import transaction\nfrom django.utils import timezone\n"
        "from maintenance.models import MaintenanceJob as J\nfrom scheduling.dispatch import scheduled_dispatch as d\n"
        "job = J.objects.create(key='chore', name='chore', job_type='purge_trash', queue='nas1')\n"
        "try:\n"
        "    with transaction.atomic():\n"
        "        d('maintenance', job.pk, trigger='manual')\n"
        "        raise ValueError\n"
        "except ValueError: pass\n"
        "other = J.objects.create(key='later', name='later', job_type='purge_trash')\n"
        "d('maintenance', other.pk, trigger='retry', not_before=timezone.now() + timedelta(hours=1))\n"
    )
    found = fleet.all(
        "SELECT queue_name, priority, scheduled_at > now() + interval '50 minutes', args->>'kind' "
        "FROM procrastinate_jobs"
    )
    assert found == ([("default", 0, True, "maintenance")] if fleet.engine == "procrastinate" else [])


@pytest.mark.parametrize("fleet", ["procrastinate"], indirect=True)
def test_a_message_that_comes_twice_runs_once(fleet: Fleet) -> None:
    _, run_id = record(fleet, queue="nas1")
    fleet.all(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args) "
        "SELECT queue_name, task_name, args FROM procrastinate_jobs, generate_series(1, 5) RETURNING id"
    )
    for host in ("nas1", "nas2"):
        fleet.start(host, "run_worker", "--queue", "nas1")
    wait_for(
        lambda: fleet.one("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'keepwell.run'") == 0,
        30,
        "delivery",
    )
    assert status(fleet, run_id) == "succeeded"
    assert traces(fleet, run_id) == ["begin", "end"]
    assert fleet.one("SELECT fence FROM maintenance_maintenancerun WHERE id = %s", run_id) == 1


def test_a_run_whose_message_was_lost_is_found_in_the_ledger(fleet: Fleet) -> None:
    _, run_id = record(fleet, queue="nas1")
    fleet.rows.execute("DELETE FROM procrastinate_jobs")
    fleet.start("nas1", "run_worker", "--queue", "nas1")
    wait_for(lambda: status(fleet, run_id) == "succeeded", 30, "the run")


def test_sigterm_ends_a_worker_in_good_order(fleet: Fleet) -> None:
    process = fleet.start("nas1", "run_worker", "--queue", "nas1")
    wait_for(lambda: is_listening(fleet, "nas1"), 30, "the start of the worker")
    _, run_id = record(fleet, queue="nas1", seconds=60)
    wait_for(lambda: status(fleet, run_id) == "running", 20, "the start of the run")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert status(fleet, run_id) == "cancelled"
    assert "Traceback" not in fleet.log("nas1")
    assert fleet.one("SELECT count(*) FROM scheduling_host") == 0


def test_the_runs_of_a_killed_worker_are_lost_to_another_host_when_their_lease_ends(fleet: Fleet) -> None:
    process = fleet.start("nas1", "run_worker", "--queue", "nas1")
    job, run_id = record(fleet, queue="nas1", seconds=60)
    wait_for(lambda: traces(fleet, run_id) == ["begin"], 30, "the start of the run")
    process.kill()
    _, following = record(fleet, job=job)
    fleet.start("nas2", "run_worker", "--queue", "nas1")
    wait_for(lambda: status(fleet, run_id) == "lost", 30, "the loss")
    wait_for(lambda: status(fleet, following) == "succeeded", 30, "the run after it")
    assert traces(fleet, run_id) == ["begin"]


def test_a_killed_worker_that_is_started_again_finds_its_lost_runs_at_once(fleet: Fleet) -> None:
    process = fleet.start("nas1", "run_worker", "--queue", "nas1", KEEPWELL_LEASE_SECONDS="600")
    _, run_id = record(fleet, queue="nas1", seconds=60)
    wait_for(lambda: status(fleet, run_id) == "running", 30, "the start of the run")
    process.kill()
    process.wait()
    fleet.start("nas1", "run_worker", "--queue", "nas1")
    wait_for(lambda: status(fleet, run_id) == "lost", 15, "the loss")


def test_a_worker_that_is_stopped_past_its_lease_and_wakes_changes_nothing(fleet: Fleet) -> None:
    sleeper = fleet.start("nas1", "run_worker", "--queue", "nas1")
    job, run_id = record(fleet, queue="nas1", seconds=LEASE + 4)
    wait_for(lambda: traces(fleet, run_id) == ["begin"], 30, "the start of the run")
    sleeper.send_signal(signal.SIGSTOP)
    fleet.start("nas2", "run_worker", "--queue", "nas1")
    wait_for(lambda: status(fleet, run_id) == "lost", LEASE + 20, "the loss")
    _, following = record(fleet, job=job, seconds=8)
    wait_for(lambda: status(fleet, following) == "running", 20, "the start of the run after it")

    def snapshot() -> list[tuple[object, ...]]:
        return [
            *fleet.all("SELECT * FROM maintenance_maintenancerun WHERE id = %s", run_id),
            *fleet.all("SELECT * FROM proof_trace WHERE run_id = %s", run_id),
        ]

    before = snapshot()
    sleeper.send_signal(signal.SIGCONT)
    wait_for(lambda: status(fleet, following) == "succeeded", 30, "the end of the run after it")
    time.sleep(2)
    assert snapshot() == before
    assert traces(fleet, following) == ["begin", "end"]


def test_workers_whose_connections_are_cut_connect_again_and_go_on(fleet: Fleet) -> None:
    fleet.start("nas1", "run_worker", "--queue", "nas1")
    job, run_id = record(fleet, queue="nas1", seconds=3)
    wait_for(lambda: traces(fleet, run_id) == ["begin"], 30, "the start of the run")
    assert fleet.cut() >= 2
    wait_for(lambda: status(fleet, run_id) not in ("queued", "running"), 30, "the end of the run")
    _, following = record(fleet, job=job)
    wait_for(lambda: status(fleet, following) == "succeeded", 30, "the run after the cut")
    assert traces(fleet, following) == ["begin", "end"]


class Faults:
    """What goes wrong between hosts that work the queues, one thing at a time, at random."""

    QUEUES: ClassVar = {"nas1": ("nas1", "default"), "nas2": ("nas2", "default"), "nas3": ("nas1", "nas2")}

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.workers = {host: self.launch(host) for host in self.QUEUES}
        self.stopped: list[tuple[float, subprocess.Popen[str]]] = []
        self.done: Counter[str] = Counter()
        self.known: list[Callable[[], None]] = [self.kill, self.stop, self.cut]
        if fleet.engine == "procrastinate":
            self.known.append(self.repeat)

    def launch(self, host: str) -> subprocess.Popen[str]:
        queues = [part for queue in self.QUEUES[host] for part in ("--queue", queue)]
        return self.fleet.start(host, "run_worker", *queues)

    def happen(self) -> None:
        fault = random.choice(self.known)
        fault()
        self.done[fault.__name__] += 1
        self.wake(time.monotonic())
        for host, process in self.workers.items():
            # One that cannot stop a run in time ends itself; a service manager starts it again.
            if process.poll() is not None:
                self.done["ended itself"] += 1
                self.workers[host] = self.launch(host)

    def wake(self, now: float) -> None:
        """Let those go on that were stopped for longer than a lease."""
        for due, process in [entry for entry in self.stopped if entry[0] < now]:
            process.send_signal(signal.SIGCONT)
            self.stopped.remove((due, process))

    def kill(self) -> None:
        host = random.choice(list(self.workers))
        self.workers[host].kill()
        self.workers[host].wait()
        self.workers[host] = self.launch(host)

    def stop(self) -> None:
        process = random.choice(list(self.workers.values()))
        if process not in [other for _, other in self.stopped]:
            process.send_signal(signal.SIGSTOP)
            self.stopped.append((time.monotonic() + LEASE * 1.7, process))

    def cut(self) -> None:
        """Some connections, of whichever process but the one that records the runs."""
        self.fleet.all(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND application_name <> 'feeder' "
            "ORDER BY random() LIMIT 4"
        )

    def repeat(self) -> None:
        """Messages that wait, once more."""
        self.fleet.all(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args) SELECT queue_name, task_name, args "
            "FROM procrastinate_jobs WHERE task_name = 'keepwell.run' ORDER BY random() LIMIT 20 RETURNING id"
        )


@pytest.mark.parametrize("runs", [200, pytest.param(10_000, marks=pytest.mark.slow)], ids=lambda runs: f"{runs} runs")
def test_hosts_that_die_stop_and_are_cut_off_run_everything_once(fleet: Fleet, runs: int) -> None:
    faults = Faults(fleet)
    feeder = feed(fleet, runs, "", "nas1", "nas2")
    began, pause = time.monotonic(), 1.0 if runs <= 200 else 4.0
    while feeder.poll() is None:
        time.sleep(random.uniform(pause * 0.7, pause * 1.3))
        faults.happen()
        assert time.monotonic() - began < 60 + runs, "the runs are not recorded"
    assert feeder.communicate()[0].strip() == str(runs)
    wait_for(lambda: faults.wake(time.monotonic()) or not faults.stopped, LEASE * 3, "the last wake-up")
    wait_for(lambda: fleet.one(OPEN) == 0, 60 + LEASE, "the end of every run")
    statuses = dict(fleet.all("SELECT status, count(*) FROM proof_run GROUP BY status"))
    sys.stdout.write(
        f"\n{fleet.engine}: {runs} runs over {len(faults.workers)} hosts in {time.monotonic() - began:.0f} s; "
        f"faults {dict(faults.done)}; {statuses}; {len(fleet.all(DUPLICATES))} duplicate, "
        f"{len(fleet.all(OVERLAPPING_WORK))} overlapping, {fleet.one(OPEN)} stuck\n"
    )
    assert sum(statuses.values()) == runs
    assert fleet.all(DUPLICATES) == fleet.all(TWICE_CLAIMED) == []
    assert fleet.all(OVERLAPPING_WORK) == fleet.all(OVERLAPPING_ROWS) == []
    assert fleet.all(UNFINISHED_SUCCESS) == []
    assert statuses["succeeded"] > runs * 0.5
