from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management.base import CommandError

from config.demo import marker
from config.demo.history import DAYS
from config.management.commands.demo import refuse_wrong_place


def demo(data: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demonstration as a program in the data folder, without serving it."""
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return subprocess.run(
        [sys.executable, "manage.py", "demo", "--no-serve", *args],
        cwd=settings.BASE_DIR,
        env={**inherited, "KEEPWELL_DATA": str(data), "KEEPWELL_LOG_LEVEL": "WARNING", **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def count(data: Path, query: str) -> int:
    with sqlite3.connect(data / "keepwell.sqlite3") as connection:
        (figure,) = connection.execute(query).fetchone()
    connection.close()
    return int(figure)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demonstration that was built once for the tests of this module, and what it printed."""
    data = tmp_path_factory.mktemp("demo") / "data"
    ended = demo(data)
    assert ended.returncode == 0, ended.stderr
    return data, ended.stdout


def test_two_months_of_real_backups_are_there(built: tuple[Path, str]) -> None:
    data, said = built
    available = count(data, "SELECT count(*) FROM backups_backup WHERE state = 'available'")
    artifacts = [path for path in (data / "storage").glob("*/*.tar.zst") if not path.parent.name.startswith(".")]
    assert len(artifacts) == available > 20
    for path in artifacts:
        subprocess.run(["tar", "--zstd", "-tf", str(path)], check=True, capture_output=True)
    assert f"Taking {DAYS} days of real backups" in said
    span = "SELECT strftime('%s', max(created_at)) - strftime('%s', min(created_at)) FROM backups_backup"
    assert count(data, span) > (DAYS - 3) * 86400


@pytest.mark.parametrize(
    ("what", "query"),
    [
        ("a failed run", "SELECT count(*) FROM backups_backuprun WHERE status = 'failed'"),
        ("a suspect copy", "SELECT count(*) FROM backups_backup WHERE suspect_reason != '' AND state = 'available'"),
        ("copies in the trash", "SELECT count(*) FROM backups_backup WHERE state = 'trashed'"),
        ("purged copies", "SELECT count(*) FROM backups_backup WHERE state = 'deleted'"),
        ("cleanups", "SELECT count(*) FROM maintenance_maintenancerun WHERE status = 'succeeded'"),
        ("an administrator", "SELECT count(*) FROM auth_user WHERE is_superuser AND username = 'demo'"),
    ],
)
def test_the_story_has(built: tuple[Path, str], what: str, query: str) -> None:
    assert count(built[0], query) >= 1, what


def test_nothing_is_left_running_or_waiting(built: tuple[Path, str]) -> None:
    data = built[0]
    assert not count(data, "SELECT count(*) FROM backups_backuprun WHERE status IN ('queued', 'running')")
    assert not count(data, "SELECT count(*) FROM maintenance_maintenancerun WHERE status IN ('queued', 'running')")


def test_a_finished_demonstration_is_continued_with_a_new_password(built: tuple[Path, str]) -> None:
    data, said = built
    before = count(data, "SELECT count(*) FROM backups_backup")
    again = demo(data)
    assert again.returncode == 0, again.stderr
    assert "Taking" not in again.stdout
    assert "Sign in   demo / " in again.stdout
    assert again.stdout.strip() not in said
    assert count(data, "SELECT count(*) FROM backups_backup") == before


def test_an_installation_is_never_written_over(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "keepwell.sqlite3").write_bytes(b"precious")
    ended = demo(data)
    assert ended.returncode == 3
    assert "holds an installation of Keepwell or other files" in ended.stderr
    assert (data / "keepwell.sqlite3").read_bytes() == b"precious"
    assert not (data / marker.MARKER).exists()


def test_the_data_folder_of_make_run_is_refused_even_when_empty() -> None:
    with pytest.raises(CommandError, match="is where “make run” keeps its data") as caught:
        refuse_wrong_place(settings.BASE_DIR / "demo-data" / ".." / "data")
    assert caught.value.returncode == 3


def test_another_database_is_refused(tmp_path: Path) -> None:
    ended = demo(tmp_path / "data", DATABASE_URL=f"sqlite:///{tmp_path}/other.sqlite3")
    assert ended.returncode == 3
    assert "DATABASE_URL is set" in ended.stderr


def test_what_an_interrupted_demonstration_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("k" * 64)
    marker.begin(tmp_path)
    (tmp_path / "keepwell.sqlite3").touch()
    (tmp_path / "storage" / "docs").mkdir(parents=True)
    assert not marker.is_finished(tmp_path)
    marker.begin(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [marker.MARKER, "secret_key"]
    marker.write(tmp_path, finished=True)
    assert marker.is_finished(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2, "finished": true}', "{}"])
def test_a_marker_that_cannot_be_understood_is_not_trusted(tmp_path: Path, text: str) -> None:
    (tmp_path / marker.MARKER).write_text(text)
    with pytest.raises(marker.NotADemoError, match="cannot be understood"):
        marker.is_finished(tmp_path)


def test_the_marker_is_json(tmp_path: Path) -> None:
    marker.write(tmp_path, finished=False)
    assert json.loads((tmp_path / marker.MARKER).read_text()) == {"format": 1, "finished": False}
