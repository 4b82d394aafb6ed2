"""Undo: what a cleanup moved to the trash comes back whole, whatever happens halfway."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.choices import BackupState
from backups.models import Backup
from backups.services.recovery import backups_recover
from backups.services.storages import storage_backend
from backups.services.trash import BackupChangedError, backup_trash, backup_untrash
from backups.storage import ArtifactMissingError, OpenStorage, StorageError
from scheduling import holders
from tests.pages.people import sign_in
from tests.support import add_backup, artifact_path, assert_catalogue_matches_storage, make_job, now

pytestmark = pytest.mark.django_db


@pytest.fixture
def trashed(tmp_path: Path) -> Backup:
    job = make_job(tmp_path)
    backup = add_backup(job, now() - timedelta(days=2))
    add_backup(job, now() - timedelta(days=1))
    with holders.hold() as holder, storage_backend(job.storage).open() as storage:
        backup_trash(
            backup=backup,
            storage=storage,
            minimum_keep=1,
            verdict={"keep": False},
            removed_by="maintenance:1",
            holder=holder,
        )
    backup.refresh_from_db()
    assert backup.state == BackupState.TRASHED
    return backup


@pytest.mark.parametrize("minimum_keep", [0, 1])
def test_the_last_good_copy_stays_whatever_it_is_told(tmp_path: Path, minimum_keep: int) -> None:
    job = make_job(tmp_path)
    backup = add_backup(job, now() - timedelta(days=1))
    with (
        holders.hold() as holder,
        storage_backend(job.storage).open() as storage,
        pytest.raises(BackupChangedError, match="fewer than 1 good copies"),
    ):
        backup_trash(
            backup=backup,
            storage=storage,
            minimum_keep=minimum_keep,
            verdict={"keep": False},
            removed_by="maintenance:1",
            holder=holder,
        )
    backup.refresh_from_db()
    assert backup.state == BackupState.AVAILABLE
    assert artifact_path(backup).is_file()


def untrash(backup: Backup) -> Backup:
    with storage_backend(backup.storage).open() as storage:
        return backup_untrash(backup=backup, storage=storage)


def test_a_trashed_backup_comes_back_whole(trashed: Backup) -> None:
    back = untrash(trashed)
    assert (back.state, back.trashed_at, back.verdict, back.removed_by, back.holder) == (
        "available",
        None,
        None,
        "",
        "",
    )
    assert artifact_path(back).read_bytes() == b"x" * 64
    assert_catalogue_matches_storage(back.storage)


def test_what_is_not_in_the_trash_is_left_alone(trashed: Backup) -> None:
    untrash(trashed)
    with pytest.raises(BackupChangedError, match="not in the trash any more"):
        untrash(trashed)


def test_a_move_that_fails_leaves_it_in_the_trash(trashed: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: OpenStorage, _name: Any) -> None:
        raise StorageError("Storage nas is mounted read-only.")

    monkeypatch.setattr(OpenStorage, "restore_from_trash", refuse)
    with pytest.raises(StorageError):
        untrash(trashed)
    trashed.refresh_from_db()
    assert trashed.state == BackupState.TRASHED
    assert_catalogue_matches_storage(trashed.storage)


def test_bytes_that_someone_else_removed_are_missing(trashed: Backup) -> None:
    (Path(trashed.storage.path) / trashed.artifact.trash_relative).unlink()
    with pytest.raises(ArtifactMissingError):
        untrash(trashed)
    trashed.refresh_from_db()
    assert trashed.state == BackupState.MISSING


@pytest.mark.parametrize("moved", ["nothing", "sidecar", "both"])
def test_an_undo_that_was_cut_short_ends_in_one_place(trashed: Backup, moved: str) -> None:
    root, name = Path(trashed.storage.path), trashed.artifact
    Backup.objects.filter(pk=trashed.pk).update(state=BackupState.DELETING, holder="0" * 24)
    if moved != "nothing":
        (root / f"{name.trash_relative}.meta.json").rename(root / name.sidecar_relative)
    if moved == "both":
        (root / name.trash_relative).rename(root / name.relative)
    backups_recover()
    trashed.refresh_from_db()
    assert trashed.state == ("available" if moved == "both" else "trashed")
    assert_catalogue_matches_storage(trashed.storage)


def test_the_page_offers_it_to_those_who_may(trashed: Backup) -> None:
    assert "Bring it back" not in sign_in("operator").get(trashed.get_absolute_url()).content.decode()
    administrator = sign_in("administrator")
    assert "Bring it back" in administrator.get(trashed.get_absolute_url()).content.decode()
    answer = administrator.post(f"/backups/{trashed.uid}/untrash/", follow=True)
    assert "is back in its place" in answer.content.decode()
    trashed.refresh_from_db()
    assert trashed.state == BackupState.AVAILABLE


def test_the_page_says_why_it_cannot_be_brought_back(trashed: Backup, tmp_path: Path) -> None:
    Path(trashed.storage.path).rename(tmp_path / "away")
    answer = sign_in("administrator").post(f"/backups/{trashed.uid}/untrash/", follow=True)
    assert "was not brought back" in answer.content.decode()
    trashed.refresh_from_db()
    assert trashed.state == BackupState.TRASHED
