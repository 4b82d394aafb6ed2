from __future__ import annotations

from pathlib import Path

import pytest

from backups.choices import BackupState
from backups.models import Backup, Storage
from backups.storage.names import SENTINEL
from tests.commands.conftest import Run


def artifact(backup: Backup) -> Path:
    return Path(backup.storage.path) / backup.artifact.relative


def test_a_whole_storage_is_status_0(run: Run, backup: Backup) -> None:
    ended = run("check_storage", "nas")
    assert ended.status == 0
    assert "is the right storage" in ended.out
    assert "backups in the catalogue: 1 available" in ended.out
    assert f"artifacts in their folders: 1 ({backup.size:,} bytes)" in ended.out


def test_the_report_as_json(manage: Run, backup: Backup) -> None:
    ended = manage("check_storage", "nas", "--json")
    assert (ended.status, ended.err) == (0, "")
    assert 0 < ended.value["free"] <= ended.value["total"]
    assert (ended.value["is_whole"], ended.value["files"], ended.value["states"]) == (True, 1, {"available": 1})


def test_a_missing_artifact_is_reported_and_not_marked(run: Run, backup: Backup) -> None:
    artifact(backup).unlink()
    ended = run("check_storage", "nas", "--json")
    assert ended.status == 1
    assert ended.value["missing"] == [backup.artifact.relative]
    backup.refresh_from_db()
    assert backup.state == BackupState.AVAILABLE, "a check reports only"


def test_an_artifact_of_another_size_is_reported(run: Run, backup: Backup) -> None:
    artifact(backup).write_bytes(b"short")
    ended = run("check_storage", "nas", "--json")
    assert ended.status == 1
    assert ended.value["other_size"] == [backup.artifact.relative]


def test_strange_files_are_reported_left_alone_and_no_fault(run: Run, nas: Storage, backup: Backup) -> None:
    strange = [Path(nas.path) / "holiday.jpg", Path(nas.path) / "docs" / "letter.odt"]
    for path in strange:
        path.write_text("mine")
    ended = run("check_storage", "nas", "--json")
    assert ended.status == 0
    assert ended.value["unknown"] == ["docs/letter.odt", "holiday.jpg"]
    assert all(path.exists() for path in strange)


def test_an_unknown_name_is_status_2(run: Run, nas: Storage) -> None:
    ended = run("check_storage", "nsa")
    assert ended.status == 2
    assert "Did you mean “nas”?" in ended.err


def test_a_lost_sentinel_is_refused_and_written_again_on_request(run: Run, nas: Storage, backup: Backup) -> None:
    (Path(nas.path) / SENTINEL).unlink()
    ended = run("check_storage", "nas")
    assert ended.status == 3
    assert "--initialise" in ended.err
    assert run("check_storage", "nas", "--initialise").status == 0
    assert run("check_storage", "nas").status == 0


def test_an_empty_mount_point_is_not_initialised(run: Run, nas: Storage, backup: Backup, tmp_path: Path) -> None:
    Path(nas.path).rename(tmp_path / "disk")
    Path(nas.path).mkdir()
    ended = run("check_storage", "nas", "--initialise")
    assert ended.status == 3
    assert "1 of the 1 backups that nas should hold are not in" in ended.err
    assert list(Path(nas.path).iterdir()) == []


@pytest.mark.parametrize("how", ["another storage's disk", "nothing"])
def test_a_storage_that_cannot_be_opened_says_so(run: Run, nas: Storage, tmp_path: Path, how: str) -> None:
    Path(nas.path).rename(tmp_path / "disk")
    if how != "nothing":
        Path(nas.path).mkdir()
        (Path(nas.path) / SENTINEL).write_text('{"format": 1, "storage": "0123456789abcdef"}')
    ended = run("check_storage", "nas")
    assert ended.status == (1 if how == "nothing" else 3)
    assert ("cannot be opened" if how == "nothing" else "belongs to another storage") in ended.err
