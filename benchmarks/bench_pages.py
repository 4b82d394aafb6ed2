"""The run list over a million runs, under every filter and pair of filters, against the same page over a hundred runs.

    .venv/bin/python benchmarks/bench_pages.py [--small] [--rounds N] [--only TEXT] [--on DATABASE] [--work FOLDER]

Pages come through Django's test client with everything that a real request passes: session, permissions, time zone,
templates. "The same page" is one with the same filter over a database that holds a hundred runs, those that the page
of a million shows among them: so both render as many rows, and what differs is the finding of them. Both take turns;
what is over the bar is measured once more, with more rounds. SQLite first: there all the work is in this process, and
medians of its processor time are compared, which nothing else on the machine can stretch. Then PostgreSQL, in two
databases of its own, when the server at KEEPWELL_TEST_POSTGRES answers: there the shortest times of the clock are.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
from pages_data import ABSENT_HOST, BOX, COUNT, HOSTS, SMALL_COUNT, fill, set_up
from project import load, scratch_project

BAR = 1.5
MOST_QUERIES = 8
FEW = 100
SERVER = os.environ.get("KEEPWELL_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres")


class Databases:
    """Two databases with the same jobs and users, one used at a time: `many` runs, or `few` of the same.

    To be made before there are any.
    """

    def __init__(self) -> None:
        from django.db import connection

        self.many = str(connection.settings_dict["NAME"])
        self.postgresql = connection.vendor == "postgresql"
        self.few = f"{self.many}_few" if self.postgresql else str(Path(self.many).with_name("few.sqlite3"))
        if not self.postgresql:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        if self.postgresql:
            administer(f'DROP DATABASE IF EXISTS "{self.few}"', f'CREATE DATABASE "{self.few}" TEMPLATE "{self.many}"')
        else:
            shutil.copy(self.many, self.few)

    def use(self, name: str) -> None:
        from django.db import connection

        if connection.settings_dict["NAME"] != name:
            connection.close()
            connection.settings_dict["NAME"] = name

    def refill(self, wanted: dict[Any, list[int]]) -> None:
        """Let `few` hold exactly these runs of `many`, with what they are found by: ids by model."""
        self.use(self.many)
        rows = {model: list(model.objects.filter(pk__in=ids)) for model, ids in wanted.items()}
        texts = {model: list(text_model(model).objects.filter(run__in=ids)) for model, ids in wanted.items()}
        attempts = {model: list(attempt_model(model).objects.filter(run__in=ids)) for model, ids in wanted.items()}
        self.use(self.few)
        for model in wanted:
            attempt_model(model).objects.all().delete()
            model.objects.all().delete()
            model.objects.bulk_create(rows[model])
            text_model(model).objects.all().delete()
            text_model(model).objects.bulk_create(texts[model])
            attempt_model(model).objects.bulk_create(attempts[model])


def text_model(model: Any) -> Any:
    return model._meta.get_field("text").related_model


def attempt_model(model: Any) -> Any:
    """That of the log stands in for a kind without targets: it is empty, and has a run as well."""
    names = [related.name for related in model._meta.related_objects]
    return model._meta.get_field("attempts" if "attempts" in names else "log_lines").related_model


def wanted_runs(filters: dict[str, str]) -> dict[Any, list[int]]:
    """The newest `FEW` runs of `many` that the filters leave; others on top where they leave fewer."""
    from datetime import UTC

    from scheduling.paging import run_page
    from scheduling.registry import all_kinds
    from scheduling.run_filter import RunFilter, read_filter

    kinds = all_kinds()
    chosen = read_filter(filters, kinds=kinds, zone=UTC).filter.listings(kinds)
    found = run_page(chosen, before=filters.get("before"), after=filters.get("after"), size=FEW).runs
    known = {(run.kind, run.pk) for run in found}
    others = run_page(RunFilter().listings(kinds), size=2 * FEW).runs
    found += [run for run in others if (run.kind, run.pk) not in known][: FEW - len(found)]
    return {kind.run_model: [run.pk for run in found if run.kind == kind.kind] for kind in kinds}


def values(backup_jobs: list[int]) -> dict[str, list[dict[str, str]]]:
    """What each filter is tried with: what is common, rare, of long ago, and not there."""
    from backups.models import BackupRun

    middle = BackupRun.objects.order_by("-queued_at")[BackupRun.objects.count() // 2].queued_at
    day = f"{middle:%Y-%m-%d}"
    return {
        "kind": [{"kind": "backup"}, {"kind": "maintenance"}],
        "job": [{"kind": "backup", "job": str(job)} for job in (backup_jobs[0], backup_jobs[7], backup_jobs[-1])],
        "target": [{"target": str(target)} for target in (1, 8, 999_999)],
        "host": [{"host": host} for host in (*HOSTS, ABSENT_HOST)],
        "status": [
            {"status": status}
            for status in ("active", "succeeded", "warning", "needs_approval", "failed", "lost", "cancelled", "skipped")
        ],
        "outcome": [{"outcome": outcome} for outcome in ("ok", "warning", "needs_approval")],
        "trigger": [{"trigger": trigger} for trigger in ("schedule", "manual", "api", "command", "retry")],
        "date": [{"to": day}, {"from": day, "to": day}, {"to": "2019-12-31"}],
        "text": [
            {"q": text}
            for text in ("backed", "needle", "vintage", "zyzzyva", "box17", f"box{BOX} box18", "even odd", "up backed")
        ],
    }


def all_filters(backup_jobs: list[int]) -> list[dict[str, str]]:
    """None, deep pages, each value of each filter, and each pair of values of two filters; a few of three."""
    from backups.models import BackupRun
    from scheduling.paging import Cursor

    tried = values(backup_jobs)
    middle = str(Cursor.of(BackupRun.objects.order_by("-queued_at")[BackupRun.objects.count() // 2]))
    found: list[dict[str, str]] = [{}, {"before": middle}, {"after": middle}, {"status": "failed", "before": middle}]
    found += [{"q": "backed", "before": middle}, {"q": "vintage", "after": middle}, {"trigger": "api", "after": middle}]
    found += itertools.chain.from_iterable(tried.values())
    for one, other in itertools.combinations(tried, 2):
        found += [{**a, **b} for a, b in itertools.product(tried[one], tried[other]) if not _clash(a, b)]
    found.append({"q": "box17", "host": HOSTS[0], "trigger": "manual"})
    found.append({"target": "1", "status": "failed", "trigger": "api", "to": "2025-12-31"})
    return found


def _clash(one: dict[str, str], other: dict[str, str]) -> bool:
    return any(name in other and other[name] != value for name, value in one.items())


def request_time(client: Any, filters: dict[str, str]) -> tuple[float, int, int]:
    """Seconds of one request, its queries, and the rows it shows. On SQLite on a new connection, as the web process
    has it; on PostgreSQL on one that has answered before.
    """
    from django.db import connection, reset_queries

    if connection.vendor == "sqlite":
        connection.close()
    else:
        client.get("/runs/", filters)
    reset_queries()
    clock = time.process_time if connection.vendor == "sqlite" else time.perf_counter
    begun = clock()
    response = client.get("/runs/", filters)
    taken = clock() - begun
    assert response.status_code == 200, f"the run list answered {response.status_code} to {filters}"
    return taken, len(connection.queries_log), response.content.count(b'<th scope="row">')


def compare(client: Any, databases: Databases, filters: dict[str, str], rounds: int) -> tuple[float, int, str]:
    """How many times as long the page over many takes, its queries, and both in words."""
    from django.db import connection

    times: dict[str, list[float]] = {databases.many: [], databases.few: []}
    rows, queries = {}, 0
    for number in range(rounds + 1):
        for name in times:
            databases.use(name)
            connection.force_debug_cursor = not number
            taken, count, rows[name] = request_time(client, filters)
            queries = max(queries, count)
            connection.force_debug_cursor = False
            if number:
                times[name].append(taken)
    assert rows[databases.many] == rows[databases.few], f"the pages differ under {filters}: {rows}"
    typical = min if databases.postgresql else statistics.median
    many, few = (typical(found) for found in times.values())
    words = f"{rows[databases.many]:3} rows {many * 1000:7.1f} ms, {many / few:5.2f} times {few * 1000:5.1f} ms"
    return many / few, queries, words


def measure(client: Any, databases: Databases, backup_jobs: list[int], rounds: int, only: str) -> bool:
    from django.conf import settings

    # Queries are counted in each first round; on PostgreSQL a page of its own would be among them otherwise.
    settings.DEBUG = False
    ratios: list[float] = []
    good = True
    filters_tried = [each for each in all_filters(backup_jobs) if only in str(each)]
    for filters in filters_tried:
        databases.use(databases.many)
        databases.refill(wanted_runs(filters))
        ratio, queries, words = compare(client, databases, filters, rounds)
        if ratio > BAR:
            ratio, queries, words = compare(client, databases, filters, 4 * rounds)
        ratios.append(ratio)
        within = ratio <= BAR and queries <= MOST_QUERIES
        good = good and within
        if not within or len(filters) < 2:
            shown = " ".join(f"{name}={value[:17]}" for name, value in filters.items()) or "no filter"
            print(f"{shown:46} {words}, {queries} queries{'' if within else '   <- over'}", flush=True)
    print(
        f"{len(ratios)} addresses: median {statistics.median(ratios):.2f} times, worst {max(ratios):.2f}; "
        f"{sum(ratio > BAR for ratio in ratios)} over {BAR}"
    )
    if databases.postgresql:
        from django.db import connection

        databases.use(databases.many)
        connection.close()
        administer(f'DROP DATABASE IF EXISTS "{databases.few}"')
    return good


def administer(*statements: str) -> None:
    with psycopg.connect(SERVER, autocommit=True) as server:
        for statement in statements:
            server.execute(statement)  # type: ignore[arg-type]  # names of our own


def one_database(options: argparse.Namespace, url: str) -> bool:
    with scratch_project(options.work, database=url) as data:
        client, backup_jobs, maintenance_jobs = set_up(data)
        databases = Databases()
        databases.use(databases.many)
        count = SMALL_COUNT if options.small else COUNT
        begun = time.monotonic()
        fill(count, backup_jobs, maintenance_jobs)
        print(
            f"{'PostgreSQL' if url else 'SQLite'}: {count:,} runs entered in {time.monotonic() - begun:.0f} s; "
            f"at most {BAR} times, {MOST_QUERIES} queries",
            flush=True,
        )
        return measure(client, databases, backup_jobs, options.rounds, options.only)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="100,000 runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="only filters in whose text this is, such as 'host'")
    parser.add_argument("--work", type=Path, help="folder for the databases (default: a temporary one)")
    parser.add_argument("--on", choices=("sqlite", "postgresql"), help="one of the two (default: both)")
    options = parser.parse_args()
    if options.on is None:
        # Settings are read once in a process, so each database has its own.
        results = [
            subprocess.run([sys.executable, *sys.argv, "--on", name], check=False).returncode
            for name in ("sqlite", "postgresql")
        ]
        print(f"{'NOT within' if any(results) else 'within'} the promise ({load()})")
        return int(any(results))
    if options.on == "sqlite":
        return 0 if one_database(options, "") else 1
    try:
        administer('DROP DATABASE IF EXISTS "keepwell_bench_pages"', 'CREATE DATABASE "keepwell_bench_pages"')
    except psycopg.OperationalError as error:
        print(f"Not measured on PostgreSQL, which does not answer: {str(error).strip()}")
        return 0
    try:
        return 0 if one_database(options, f"{SERVER.rpartition('/')[0]}/keepwell_bench_pages") else 1
    finally:
        administer('DROP DATABASE IF EXISTS "keepwell_bench_pages"')


if __name__ == "__main__":
    sys.exit(main())
