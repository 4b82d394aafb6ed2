"""Runs the tests that touch the database once more, on PostgreSQL: `python -m tests.on_postgresql [arguments]`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parent.parent
SERVER = os.environ.get("KEEPWELL_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres")
FOLDERS = ("accounts", "admin", "api", "backups", "chaos", "commands", "maintenance", "pages", "scheduling")


def main(arguments: list[str]) -> int:
    """0 when all pass, or when there is no server and this is not continuous integration."""
    try:
        psycopg.connect(SERVER, connect_timeout=3).close()
    except psycopg.OperationalError as error:
        print(f"Not tested on PostgreSQL, which does not answer ({SERVER}): {str(error).strip()}")  # noqa: T201
        return 1 if os.environ.get("CI", "").lower() == "true" else 0
    command = [sys.executable, "-m", "pytest", *arguments, *(f"tests/{folder}" for folder in FOLDERS)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "KEEPWELL_TEST_DATABASE_URL": SERVER}, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
