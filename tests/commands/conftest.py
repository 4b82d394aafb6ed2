"""Commands as people run them: in this process for what they do, as programs for their exit status and signals."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from backups.models import Backup, BackupJob, BackupRun, Storage
from backups.services.jobs import job_create
from backups.services.storages import storage_create
from backups.services.targets import target_create


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: its exit status and what it printed."""

    status: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ended]


@pytest.fixture
def run() -> Run:
    """Run a command in this process."""

    def run(*args: str) -> Ended:
        out, err, status = io.StringIO(), io.StringIO(), 0
        try:
            call_command(*args, stdout=out, stderr=err)
        except CommandError as error:
            status = error.returncode
            err.write(str(error))
        return Ended(status=status, out=out.getvalue(), err=err.getvalue())

    return run


@pytest.fixture
def program(database_url: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command as a program of its own, on this test's database."""
    started: list[subprocess.Popen[str]] = []

    def program(*args: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", *args],
            cwd=settings.BASE_DIR,
            env={**os.environ, "DATABASE_URL": database_url, "KEEPWELL_LOG_LEVEL": "WARNING", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield program
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def manage(program: Callable[..., subprocess.Popen[str]]) -> Run:
    """Run a command as a program of its own and wait for its end."""

    def manage(*args: str) -> Ended:
        process = program(*args)
        out, err = process.communicate(timeout=60)
        return Ended(status=process.returncode, out=out, err=err)

    return manage


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with what makes restoring hard: modes, old times, links, an empty folder, odd names, a sparse file."""
    root = tmp_path / "tree"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "plain.txt").write_text("hello\n")
    (root / "naïve name\n.txt").write_text("odd")
    (root / "deep" / "er" / "script").write_text("#!/bin/sh\n")
    (root / "deep" / "er" / "script").chmod(0o750)
    (root / "deep" / "random").write_bytes(os.urandom(300_000))
    (root / "link").symlink_to("plain.txt")
    (root / "hard").hardlink_to(root / "plain.txt")
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(700_000)
        file.write(b"data")
    os.utime(root / "plain.txt", ns=(1_000_000_000_123_456_789, 1_000_000_000_123_456_789))
    os.utime(root / "deep", ns=(1_100_000_000_000_000_000, 1_100_000_000_000_000_000))
    return root


@pytest.fixture
def nas(transactional_db: None, tmp_path: Path) -> Storage:
    return storage_create(name="nas", path=str(tmp_path / "nas"))


@pytest.fixture
def nightly(nas: Storage, tree: Path) -> BackupJob:
    """A job called “nightly” that backs up the tree, as the target “docs”, to the storage “nas”."""
    target = target_create(name="docs", source="files", config={"paths": [str(tree)], "exclude": []})
    return job_create(name="nightly", targets=[target], storage=nas)


@pytest.fixture
def backup(nightly: BackupJob, run: Run) -> Backup:
    """A real copy of the tree, made by the command."""
    ended = run("run_backup", nightly.name)
    assert ended.status == 0, ended.err
    return Backup.objects.get(run=BackupRun.objects.get())
