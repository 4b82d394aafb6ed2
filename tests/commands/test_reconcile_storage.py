from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from backups.choices import BackupState
from backups.models import AuditAction, AuditEntry, Backup, BackupJob, Storage
from backups.services.storages import storage_backend
from tests.commands.conftest import Run
from tests.support import add_backup, artifact_path


@pytest.fixture
def ahead(nightly: BackupJob) -> list[Backup]:
    """A storage whose database is an older copy: it does not know one of the copies, and counts on one that is gone."""
    copies = [add_backup(nightly, datetime(2026, 3, day, 2, 30, tzinfo=UTC)) for day in (1, 2, 3)]
    with storage_backend(nightly.storage).open() as storage:
        storage.raise_epoch(12)
    Backup.objects.filter(pk=copies[2].pk).delete()
    artifact_path(copies[0]).unlink()
    return copies


def test_the_catalogue_follows_the_storage_and_says_how(run: Run, ahead: list[Backup], nas: Storage) -> None:
    ended = run("reconcile_storage", "nas")
    assert ended.status == 0, ended.err
    assert "The storage was 12 changes ahead" in ended.out
    assert f"entered into the catalogue, not verified: 1\n    {ahead[2].artifact.relative}" in ended.out
    assert f"marked as missing: 1\n    {ahead[0].artifact.relative}" in ended.out
    assert Backup.objects.get(uid=ahead[2].uid).state == BackupState.AVAILABLE
    assert Backup.objects.get(uid=ahead[0].uid).state == BackupState.MISSING
    nas.refresh_from_db()
    assert nas.epoch == 13
    assert AuditEntry.objects.filter(action=AuditAction.RECONCILE, storage_name="nas").exists()


def test_it_reports_as_json_and_a_second_time_finds_nothing(run: Run, ahead: list[Backup]) -> None:
    first = run("reconcile_storage", "nas", "--json").value
    assert (first["lead"], first["adopted"], first["missing"]) == (
        12,
        [ahead[2].artifact.relative],
        [ahead[0].artifact.relative],
    )
    again = run("reconcile_storage", "nas", "--json").value
    assert (again["lead"], again["adopted"], again["missing"], again["left"]) == (0, [], [], [])


def test_an_unknown_storage_is_bad_input(run: Run, nas: Storage) -> None:
    ended = run("reconcile_storage", "nsa")
    assert ended.status == 2
    assert "Did you mean “nas”?" in ended.err


def test_a_storage_without_its_sentinel_is_refused_and_nothing_is_missing(run: Run, ahead: list[Backup]) -> None:
    sentinel = Path(ahead[0].storage.path) / ".keepwell-storage.json"
    sentinel.rename(sentinel.with_name("elsewhere.json"))
    assert run("reconcile_storage", "nas").status == 3
    assert not Backup.objects.filter(state=BackupState.MISSING).exists()


def test_a_storage_that_is_away_is_a_failure(run: Run, ahead: list[Backup], tmp_path: Path) -> None:
    Path(ahead[0].storage.path).rename(tmp_path / "disk")
    assert run("reconcile_storage", "nas").status == 1
    assert not Backup.objects.filter(state=BackupState.MISSING).exists()


def test_the_program_is_there(manage: Run, nas: Storage) -> None:
    ended = manage("reconcile_storage", "nas")
    assert (ended.status, ended.err) == (0, "")
    assert "nothing was changed" in ended.out
