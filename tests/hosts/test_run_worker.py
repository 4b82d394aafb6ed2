"""What `run_worker` refuses, and how it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts.conftest import ROOT


def run_worker(data: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "run_worker", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "KEEPWELL_DATA": str(data), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("name", ["", "nas 1", "x" * 33, "-nas", "näs", "a/b"])
def test_a_name_that_no_queue_has_is_bad_input(tmp_path: Path, name: str) -> None:
    refused = run_worker(tmp_path, f"--queue={name}")
    assert refused.returncode == 2
    assert "not the name of a queue" in refused.stderr


def test_no_worker_runs_nothing(tmp_path: Path) -> None:
    refused = run_worker(tmp_path, "--workers", "0")
    assert refused.returncode == 2
    assert "whole number from 1" in refused.stderr


def test_a_database_that_is_not_prepared_is_refused(tmp_path: Path) -> None:
    refused = run_worker(tmp_path)
    assert refused.returncode == 3
    assert "migrate" in refused.stderr


def test_procrastinate_on_sqlite_is_refused_with_the_way_out(tmp_path: Path) -> None:
    refused = run_worker(tmp_path, KEEPWELL_ENGINE="procrastinate")
    assert refused.returncode != 0
    assert "DATABASE_URL" in refused.stderr
    assert "embedded" in refused.stderr


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    assert "embedded, procrastinate" in run_worker(tmp_path, KEEPWELL_ENGINE="celery").stderr
