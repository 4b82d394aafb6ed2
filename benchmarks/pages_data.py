"""A million runs for `bench_pages.py`: of both kinds, many jobs, hosts and targets, with words to search for."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

COUNT, SMALL_COUNT = 1_000_000, 100_000
JOBS = 500
MAINTENANCE_SHARE = 10
NEWEST = datetime(2026, 11, 24, 12, tzinfo=UTC)
BOX = 17
BOXES = 3000
FIGURES = json.dumps({"targets": 1, "bytes": 13_314_398_617, "written": 3_328_599_654, "files": 120_331, "notes": []})
# The usual one, another, one that ran a long time ago only, and one that hardly ever runs anything.
HOSTS = ("0123456789abcdef", "1123456789abcdef", "2123456789abcdef", "3123456789abcdef")
ABSENT_HOST = "f123456789abcdef"

STATES = [
    (0.9400, "succeeded", "ok"),
    (0.0200, "succeeded", "warning"),
    (0.0001, "succeeded", "needs_approval"),
    (0.0250, "failed", ""),
    (0.0090, "cancelled", ""),
    (0.0059, "skipped", ""),
]
TRIGGERS = [(0.9400, "schedule"), (0.0300, "manual"), (0.0100, "api"), (0.0190, "after"), (0.0010, "retry")]


def runs(count: int, jobs: list[int], first_id: int = 1) -> Iterator[dict[str, Any]]:
    """Values of `count` runs, oldest first, a minute apart: half of them of the first job, the others of all but the
    last in turn.

    What there is few of is also long ago, the hard case for finding the newest: the oldest thousandth holds the only
    lost runs, the oldest hundredth the only ones of a command, the oldest third the word “vintage” and a host of its
    own. “needle” is in three runs; “even” and “odd” are each in a twentieth, and never together.
    """
    chance = random.Random(1)  # noqa: S311 - a history, not a secret
    states, triggers = [share for share, *_ in STATES], [share for share, _ in TRIGGERS]
    for number in range(count):
        at = NEWEST - timedelta(minutes=count - number)
        _, status, outcome = chance.choices(STATES, states)[0]
        trigger = chance.choices(TRIGGERS, triggers)[0][1]
        host = HOSTS[0] if chance.random() < 0.9 else HOSTS[1]
        if number < count // 1000 and number % 10 == 0:
            status, outcome = "lost", ""
        if number < count // 100 and number % 50 == 0:
            trigger = "command"
        if number < count // 3 and number % 5 == 0:
            host = HOSTS[2]
        if number in (11, count // 7, count // 2):
            host = HOSTS[3]
        job = jobs[number // 2 % max(1, len(jobs) - 1) if number % 2 else 0]
        yield {
            "id": first_id + number,
            "status": status,
            "outcome": outcome,
            "trigger": trigger,
            "requested_by": "anna" if trigger in ("manual", "api") else "",
            "job_name": f"job {job}",
            "job_id": job,
            "slot": at if trigger == "schedule" else None,
            "params": "{}",
            "queued_at": at,
            "started_at": at + timedelta(seconds=1),
            "finished_at": at + timedelta(seconds=chance.randrange(2, 600)),
            "message": _message(number, count, chance),
            "result_json": FIGURES,
            "fence": 1,
            "host": host,
            "holder": f"{host}.0123456789abcdef01234567",
            "queue": "",
            "attempt": 2 if trigger == "retry" else 1,
            "cancelled_by": "",
            "progress": "{}",
        }


def _message(number: int, count: int, chance: random.Random) -> str:
    boxes = " ".join(f"box{chance.randrange(BOXES)}" for _ in range(8))
    words = [f"1 target backed up, 12.4 GiB read, 3.1 GiB written. Nothing to do for you: {boxes}."]
    if number < count // 3:
        words.append("vintage")
    if number in (7, count // 9, count // 5):
        words.append("needle")
    if chance.random() < 0.1:
        words.append("odd" if number % 2 else "even")
    return " ".join(words)


def insert(model: Any, rows: Iterator[dict[str, Any]], **more: Any) -> None:
    """Write rows as Django would have stored them, in batches, past its objects."""
    from django.db import connection

    first = next(rows)
    # Whatever other columns there are hold what a new row has in them.
    more |= {
        field.column: json.dumps(field.get_default())
        if field.get_internal_type() == "JSONField"
        else field.get_default()
        for field in model._meta.concrete_fields
        if field.column not in first and field.column not in more and not field.null and not field.primary_key
    }
    columns = [*first, *more]
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    statement = f"INSERT INTO {model._meta.db_table} ({names}) VALUES ({marks})"  # noqa: S608 - names of our own
    sqlite = connection.vendor == "sqlite"
    values = (
        [
            item.replace(tzinfo=None).isoformat(" ", "microseconds") if sqlite and isinstance(item, datetime) else item
            for item in (*row.values(), *more.values())
        ]
        for row in itertools.chain([first], rows)
    )
    with connection.cursor() as cursor:
        while batch := list(itertools.islice(values, 20_000)):
            cursor.executemany(statement, batch)


def set_up(data: Path) -> tuple[Any, list[int], list[int]]:
    """A signed-in administrator's client, and the ids of backup jobs and of maintenance jobs."""
    from django.contrib.auth.models import User
    from django.test import Client

    from backups.models import BackupJob, Target
    from backups.services.storages import storage_create
    from maintenance.models import MaintenanceJob

    storage = storage_create(name="nas", path=str(data / "nas"))
    BackupJob.objects.bulk_create(BackupJob(name=f"job {number}", storage=storage) for number in range(JOBS))
    Target.objects.bulk_create(
        Target(id=number + 1, name=f"target {number}", config={"paths": [f"/nowhere/{number}"], "exclude": []})
        for number in range(JOBS)
    )
    client = Client(HTTP_HOST="localhost")
    client.force_login(User.objects.create_superuser("admin", password="not used: no form is sent"))  # noqa: S106
    return (
        client,
        list(BackupJob.objects.order_by("pk").values_list("pk", flat=True)),
        [job.pk for job in MaintenanceJob.objects.all()],
    )


def fill(count: int, backup_jobs: list[int], maintenance_jobs: list[int]) -> None:
    """A tenth of the runs is maintenance; three jobs have a run that runs and one that waits."""
    from django.db import connection, transaction

    from backups.models import BackupRun, BackupRunTarget
    from maintenance.models import MaintenanceRun

    share = count // MAINTENANCE_SHARE
    indexes = [
        import_module("backups.migrations.0005_run_search"),
        import_module("maintenance.migrations.0006_run_search"),
    ]
    with connection.schema_editor() as editor:
        for index in indexes:
            index.unindex(None, editor)
    targets = {job: number + 1 for number, job in enumerate(backup_jobs)}
    # Attempts first, as in life: the text of a run is written when it ends. What they point at comes before the commit.
    with transaction.atomic():
        insert(
            BackupRunTarget,
            (
                {"run_id": run["id"], "target_id": targets[run["job_id"]], "target_name": run["job_name"]}
                for run in runs(count - share, backup_jobs)
            ),
            status="succeeded",
            active=False,
            message="",
            summary="{}",
            uid="",
            folder="",
            suffix="",
            unsettled=False,
        )
        insert(BackupRun, runs(count - share, backup_jobs))
        insert(
            MaintenanceRun,
            runs(share, maintenance_jobs),
            job_key="retention_cleanup_nightly",
            job_type="retention_cleanup",
        )
        for number, job in enumerate(backup_jobs[:3]):
            for status in ("running", "queued"):
                at = NEWEST + timedelta(minutes=number)
                state = {"job_id": job, "job_name": f"job {job}", "queued_at": at, "host": HOSTS[0]}
                BackupRun.objects.create(
                    pk=count + 10 * number + (status == "queued"),
                    status=status,
                    started_at=at if status == "running" else None,
                    **state,
                )
    # As the migration does over the runs that there are.
    with connection.schema_editor() as editor:
        for index in indexes:
            index.index(None, editor)
    # PostgreSQL does this by itself after a while. SQLite does not, so there the planner has to do without figures.
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
