"""Real processes on a real PostgreSQL, each “host” a data folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.conftest import POSTGRES

ROOT = Path(__file__).resolve().parent.parent.parent
LEASE = 6
# What runs leave behind, and what each holds: its job, and its targets.
TRACE = """
CREATE TABLE proof_trace (
    id bigserial PRIMARY KEY, kind text NOT NULL, run_id bigint NOT NULL, fence int NOT NULL, holder text NOT NULL,
    what text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE VIEW proof_run AS
    SELECT 'backup' AS kind, id, job_id, status, fence, started_at, finished_at FROM backups_backuprun
    UNION ALL
    SELECT 'maintenance', id, job_id, status, fence, started_at, finished_at FROM maintenance_maintenancerun;
CREATE VIEW proof_held AS
    SELECT kind, id, kind || ' job ' || job_id AS what FROM proof_run
    UNION ALL SELECT 'backup', run_id, 'target ' || target_id FROM backups_backupruntarget;
"""


class Fleet:
    """Processes of several hosts at one database."""

    def __init__(self, *, url: str, folder: Path, engine: str) -> None:
        self.url, self.folder, self.engine = url, folder, engine
        self.processes: list[subprocess.Popen[str]] = []
        self.rows = psycopg.connect(url, autocommit=True)

    def start(self, host: str, *command: str, url: str = "", **environ: str) -> subprocess.Popen[str]:
        """`manage.py` of the host; what it says goes to a file in its data folder."""
        data = self.folder / host
        data.mkdir(mode=0o700, exist_ok=True)
        with (data / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "manage.py", *command],
                cwd=ROOT,
                text=True,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self.environ, "KEEPWELL_DATA": str(data), "DATABASE_URL": url or self.url, **environ},
            )
        self.processes.append(process)
        return process

    @property
    def environ(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("KEEPWELL_")}
        return {
            **plain,
            "DATABASE_URL": self.url,
            "DJANGO_SETTINGS_MODULE": "tests.hosts.settings",
            "KEEPWELL_DATA": str(self.folder),
            "KEEPWELL_ENGINE": self.engine,
            "KEEPWELL_LEASE_SECONDS": str(LEASE),
        }

    def say(self, program: str) -> str:
        """What a small program prints that runs with Keepwell set up."""
        done = subprocess.run(
            [sys.executable, "-c", f"import django; django.setup()\n{program}"],
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.rows.execute(statement.encode(), values).fetchall()

    def one(self, statement: str, *values: Any) -> Any:
        found = self.rows.execute(statement.encode(), values).fetchone()
        return found[0] if found else None

    def log(self, host: str) -> str:
        return (self.folder / host / "log").read_text()

    def cut(self) -> int:
        """End connections on the server: all but this test's. Returns how many."""
        cut = self.all(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return len(cut)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self.rows.close()


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> float:
    """Seconds until `condition` held."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            pytest.fail(f"{what} did not happen within {seconds} s")
        time.sleep(0.05)
    return time.monotonic() - start


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a migrated database that each test of the module gets a copy of."""
    try:
        server = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        pytest.skip("PostgreSQL does not answer on loopback (KEEPWELL_TEST_POSTGRES names another address)")
    name = f"keepwell_test_{uuid.uuid4().hex[:12]}"
    with server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            url = f"{POSTGRES.rpartition('/')[0]}/{name}"
            environ = {**os.environ, "DATABASE_URL": url, "KEEPWELL_DATA": str(tmp_path_factory.mktemp("migrating"))}
            subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environ, check=True)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(TRACE)
            yield name
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(params=["embedded", "procrastinate"])
def fleet(request: pytest.FixtureRequest, template: str, tmp_path: Path) -> Iterator[Fleet]:
    """A database of this test's own and nothing running yet."""
    name = f"{template}_{uuid.uuid4().hex[:6]}"
    with psycopg.connect(POSTGRES, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        running = Fleet(url=f"{POSTGRES.rpartition('/')[0]}/{name}", folder=tmp_path, engine=request.param)
        try:
            yield running
        finally:
            running.close()
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
