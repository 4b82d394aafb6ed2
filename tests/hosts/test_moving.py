"""The way from SQLite to PostgreSQL, as docs/scaling.md says it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts.conftest import ROOT, Fleet

pytestmark = [pytest.mark.services, pytest.mark.parametrize("fleet", ["embedded"], indirect=True)]

CONTENT = """
from pathlib import Path
from django.contrib.auth.models import User
from tests.support import make_job
from scheduling.dispatch import scheduled_dispatch
User.objects.create_superuser("ann", password="a long enough one")
job = make_job(Path({folder!r}))
print(scheduled_dispatch("backup", job.pk, inline=True, trigger="command").status)
"""


def test_everything_that_counts_comes_along(fleet: Fleet, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "scaling.md").read_text().replace("\\\n", " ")
    commands = [line.split()[2:] for line in re.findall(r"^python manage\.py [a-z].*$", text, re.MULTILINE)]
    assert [command[0] for command in commands] == ["dumpdata", "migrate", "flush", "loaddata"]
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environ |= {"KEEPWELL_DATA": str(tmp_path / "data"), "DJANGO_SETTINGS_MODULE": "config.settings"}

    def run(*arguments: str, **extra: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**environ, "PYTHONPATH": str(ROOT), **extra},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    manage = str(ROOT / "manage.py")
    run(manage, "migrate", "-v0")
    made = run("-c", "import django; django.setup()\n" + CONTENT.format(folder=str(tmp_path)))
    assert made.strip() == "succeeded"
    run(manage, *commands[0])
    for command in commands[1:]:
        run(manage, *command, DATABASE_URL=fleet.url)
    assert fleet.all("SELECT job_name, status FROM backups_backuprun") == [("nightly", "succeeded")]
    assert fleet.all("SELECT target_name, state FROM backups_backup") == [("etc", "available")]
    assert fleet.one("SELECT count(*) FROM maintenance_maintenancejob WHERE key = 'retention_cleanup_nightly'") == 1
    assert fleet.one("SELECT count(*) FROM auth_user") == 1
    # What is recorded next finds its numbers free.
    run(manage, "run_backup", "nightly", DATABASE_URL=fleet.url)
    assert fleet.one("SELECT count(*) FROM backups_backup WHERE state = 'available'") == 2
