"""The run list over a million runs, under many filters, against the same page over a hundred runs.

    .venv/bin/python benchmarks/bench_pages.py [--small] [--rounds N] [--work FOLDER]

Pages come through Django's test client with everything that a real request passes: session, permissions, time zone,
templates. "The same page" is one with the same filter over a database that holds a hundred runs, those that the page
of a million shows among them: so both render as many rows, and what differs is the finding of them. Both take turns,
each request on a new connection as the web process has it on SQLite, and medians are compared.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from project import load, scratch_project

BAR = 1.5
MOST_QUERIES = 8
FEW = 100
JOBS = 200
MAINTENANCE_SHARE = 10
NEWEST = datetime(2026, 11, 24, 12, tzinfo=UTC)
MESSAGE = "1 target backed up, 12.4 GiB read, 3.1 GiB written. Nothing to do for you, everything is as it should be."
FIGURES = json.dumps({"targets": 1, "bytes": 13_314_398_617, "written": 3_328_599_654, "files": 120_331, "notes": []})

ROW = re.compile(rb'id="run-[a-z]+-\d+"')

# What there is few of is also long ago: the hard case for finding the newest.
STATES = [
    (0.9400, "succeeded", "ok"),
    (0.0200, "succeeded", "warning"),
    (0.0001, "succeeded", "needs_approval"),
    (0.0250, "failed", ""),
    (0.0090, "cancelled", ""),
    (0.0059, "skipped", ""),
]


def runs(count: int, jobs: list[int]) -> Iterator[dict[str, Any]]:
    """Values of `count` runs, oldest first, a minute apart: half of them of the first job, the others of all in turn.

    The oldest thousandth holds the only lost ones.
    """
    chance = random.Random(1)  # noqa: S311 - a history, not a secret
    weights = [share for share, _, _ in STATES]
    for number in range(count):
        at = NEWEST - timedelta(minutes=count - number)
        _, status, outcome = chance.choices(STATES, weights)[0]
        if number < count // 1000 and number % 10 == 0:
            status, outcome = "lost", ""
        job = jobs[number // 2 % len(jobs) if number % 2 else 0]
        yield {
            "status": status,
            "outcome": outcome,
            "trigger": "schedule",
            "requested_by": "",
            "job_name": f"job {job}",
            "job_id": job,
            "slot": at,
            "params": "{}",
            "queued_at": at,
            "started_at": at + timedelta(seconds=1),
            "finished_at": at + timedelta(seconds=chance.randrange(2, 600)),
            "message": MESSAGE,
            "result_json": FIGURES,
            "fence": 1,
            "host": "0123456789abcdef",
            "holder": "0123456789abcdef.0123456789abcdef01234567",
        }


def insert(model: Any, rows: Iterator[dict[str, Any]], **more: str) -> None:
    """Write rows as Django would have stored them, in batches, past its objects."""
    from django.db import connection, transaction

    first = next(rows)
    columns = [*first, *more]
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    statement = f"INSERT INTO {model._meta.db_table} ({names}) VALUES ({marks})"  # noqa: S608 - names of our own
    values = (
        [
            item.replace(tzinfo=None).isoformat(" ", "microseconds") if isinstance(item, datetime) else item
            for item in row.values()
        ]
        + list(more.values())
        for row in itertools.chain([first], rows)
    )
    with transaction.atomic(), connection.cursor() as cursor:
        while batch := list(itertools.islice(values, 20_000)):
            cursor.executemany(statement, batch)


def set_up(data: Path) -> tuple[Any, list[int], list[int]]:
    """A signed-in administrator's client, and the ids of backup jobs and of maintenance jobs."""
    from django.contrib.auth.models import User
    from django.test import Client

    from backups.models import BackupJob
    from backups.services.storages import storage_create
    from maintenance.models import MaintenanceJob

    storage = storage_create(name="nas", path=str(data / "nas"))
    BackupJob.objects.bulk_create(BackupJob(name=f"job {number}", storage=storage) for number in range(JOBS))
    client = Client(HTTP_HOST="localhost")
    client.force_login(User.objects.create_superuser("admin", password="not used: no form is sent"))  # noqa: S106
    return (
        client,
        list(BackupJob.objects.values_list("pk", flat=True)),
        [job.pk for job in MaintenanceJob.objects.all()],
    )


def fill(count: int, backup_jobs: list[int], maintenance_jobs: list[int]) -> None:
    """A tenth of the runs is maintenance; three jobs have a run that runs and one that waits."""
    from backups.models import BackupRun
    from maintenance.models import MaintenanceRun

    share = count // MAINTENANCE_SHARE
    insert(BackupRun, runs(count - share, backup_jobs))
    insert(
        MaintenanceRun, runs(share, maintenance_jobs), job_key="retention_cleanup_nightly", job_type="retention_cleanup"
    )
    for status in ("running", "queued"):
        for job in backup_jobs[:3]:
            newest = BackupRun.objects.filter(job=job, status="succeeded").values_list("pk", flat=True)[:1]
            BackupRun.objects.filter(pk__in=list(newest)).update(status=status, outcome="", finished_at=None)


class Databases:
    """Two SQLite files with the same jobs and users, one used at a time: `many` runs, or `few` of the same."""

    def __init__(self, data: Path) -> None:
        from django.db import connection

        self.many, self.few = data / "keepwell.sqlite3", data / "few.sqlite3"
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        shutil.copy(self.many, self.few)

    def use(self, path: Path) -> None:
        from django.db import connection

        connection.close()
        connection.settings_dict["NAME"] = str(path)

    def refill(self, wanted: dict[str, list[int]]) -> None:
        """Let `few` hold exactly these runs of `many`: ids by table."""
        from django.db import connection

        self.use(self.few)
        with connection.cursor() as cursor:
            cursor.execute("ATTACH DATABASE %s AS many", [str(self.many)])
            for table, ids in wanted.items():
                marks = ", ".join(["%s"] * len(ids)) or "NULL"
                cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - our own table
                cursor.execute(f"INSERT INTO {table} SELECT * FROM many.{table} WHERE id IN ({marks})", ids)  # noqa: S608


def wanted_runs(filters: dict[str, str]) -> dict[str, list[int]]:
    """The newest `FEW` runs of `many` that the filters leave; others on top where they leave fewer."""
    from scheduling.filters import filtered
    from scheduling.paging import run_page
    from scheduling.registry import all_kinds

    kinds: dict[str, Any] = {kind.kind: kind.run_model for kind in all_kinds()}
    chosen = {name: model.objects.all() for name, model in kinds.items() if filters.get("kind", name) == name}
    job = int(filters["job"]) if "job" in filters else None
    chosen = {name: filtered(runs, status=filters.get("status", ""), job=job) for name, runs in chosen.items()}
    found = run_page(chosen, before=filters.get("before"), size=FEW).runs
    known = {(run.kind, run.pk) for run in found}
    others = run_page({name: model.objects.all() for name, model in kinds.items()}, size=2 * FEW).runs
    found += [run for run in others if (run.kind, run.pk) not in known][: FEW - len(found)]
    return {model._meta.db_table: [run.pk for run in found if run.kind == name] for name, model in kinds.items()}


def all_filters(job: int) -> list[dict[str, str]]:
    from backups.models import BackupRun
    from scheduling.filters import STATUS_FILTERS
    from scheduling.paging import Cursor

    middle = BackupRun.objects.order_by("-queued_at")[BackupRun.objects.count() // 2]
    one_job = {"kind": "backup", "job": str(job)}
    return [
        {},
        {"before": str(Cursor.of(middle))},
        {"kind": "backup"},
        {"kind": "maintenance"},
        *({"status": status} for status in STATUS_FILTERS),
        {"status": "succeeded", "before": str(Cursor.of(middle))},
        {"kind": "maintenance", "status": "failed"},
        one_job,
        *({**one_job, "status": status} for status in STATUS_FILTERS),
    ]


def request_time(client: Any, filters: dict[str, str]) -> tuple[float, int, int]:
    """Seconds of one request on a new connection, its queries, and the rows it shows."""
    from django.db import connection, reset_queries

    connection.close()
    reset_queries()
    begun = time.perf_counter()
    response = client.get("/runs/", filters)
    taken = time.perf_counter() - begun
    assert response.status_code == 200, f"the run list answered {response.status_code}"
    return taken, len(connection.queries_log), len(ROW.findall(response.content))


def compare(client: Any, databases: Databases, filters: dict[str, str], rounds: int) -> bool:
    from django.db import connection

    databases.use(databases.many)
    databases.refill(wanted_runs(filters))
    times: dict[Path, list[float]] = {databases.many: [], databases.few: []}
    rows, queries = {}, 0
    for number in range(rounds + 1):
        for path in times:
            databases.use(path)
            connection.force_debug_cursor = not number
            taken, count, rows[path] = request_time(client, filters)
            queries = max(queries, count)
            connection.force_debug_cursor = False
            if number:
                times[path].append(taken)
    assert rows[databases.many] == rows[databases.few], f"the pages differ: {rows}"
    many, few = (statistics.median(found) for found in times.values())
    good = many <= BAR * few and queries <= MOST_QUERIES
    shown = " ".join(f"{name}={value[:17]}" for name, value in filters.items()) or "no filter"
    print(
        f"{shown:46} {rows[databases.many]:3} rows  {many * 1000:7.1f} ms, {many / few:5.2f} times "
        f"{few * 1000:5.1f} ms, {queries} queries{'' if good else '   <- over'}",
        flush=True,
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="100,000 runs")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--work", type=Path, help="folder for the databases (default: a temporary one)")
    options = parser.parse_args()
    with scratch_project(options.work) as data:
        client, backup_jobs, maintenance_jobs = set_up(data)
        databases = Databases(data)
        count = 100_000 if options.small else 1_000_000
        begun = time.monotonic()
        fill(count, backup_jobs, maintenance_jobs)
        print(
            f"{count:,} runs entered in {time.monotonic() - begun:.0f} s; at most {BAR} times, {MOST_QUERIES} queries"
        )
        results = [compare(client, databases, filters, options.rounds) for filters in all_filters(backup_jobs[0])]
    print(f"{'within' if all(results) else 'NOT within'} the promise ({load()})")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
