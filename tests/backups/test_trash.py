"""Undo: what a cleanup moved to the trash comes back whole, whatever happens halfway."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.choices import BackupState
from backups.models import AuditAction, AuditEntry, Backup, LeasePurpose, Storage
from backups.services.epochs import OldDatabaseError
from backups.services.moved import Moved
from backups.services.protections import backup_lease, backup_pin, backup_unpin, hold_place, hold_release
from backups.services.recovery import backups_recover
from backups.services.trash import backups_untrash
from backups.storage import ArtifactMissingError, ArtifactName, OpenStorage, StorageError
from tests.pages.people import sign_in
from tests.support import (
    add_backup,
    artifact_path,
    assert_catalogue_matches_storage,
    make_job,
    move_to_trash,
    now,
    purge,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def trashed(tmp_path: Path) -> Backup:
    job = make_job(tmp_path)
    backup = add_backup(job, now() - timedelta(days=2))
    add_backup(job, now() - timedelta(days=1))
    move_to_trash(backup)
    backup.refresh_from_db()
    assert backup.state == BackupState.TRASHED
    return backup


@pytest.mark.parametrize("minimum_keep", [0, 1])
def test_the_last_good_copy_stays_whatever_it_is_told(tmp_path: Path, minimum_keep: int) -> None:
    backup = add_backup(make_job(tmp_path), now() - timedelta(days=1))
    result = move_to_trash(backup, minimum_keep=minimum_keep)
    assert "fewer than 1 good copies" in result.left[0][1]
    backup.refresh_from_db()
    assert backup.state == BackupState.AVAILABLE
    assert artifact_path(backup).is_file()


def test_of_a_batch_that_would_take_too_many_the_newest_stay(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    backups = [add_backup(job, now() - timedelta(days=days)) for days in range(5, 0, -1)]
    result = move_to_trash(*backups, minimum_keep=2)
    assert {backup.uid for backup, _ in result.left} == {backup.uid for backup in backups[3:]}
    assert {backup.uid for backup in result.done} == {backup.uid for backup in backups[:3]}
    assert_catalogue_matches_storage(job.storage)


def test_a_file_that_is_gone_when_it_is_to_be_moved_is_missing_not_deleted(tmp_path: Path) -> None:
    """R10, after the plan was made."""
    job = make_job(tmp_path)
    backup, *_ = (add_backup(job, now() - timedelta(days=days)) for days in range(3, 0, -1))
    artifact_path(backup).unlink()
    result = move_to_trash(backup)
    assert isinstance(result.failed[0][1], ArtifactMissingError)
    backup.refresh_from_db()
    assert backup.state == BackupState.MISSING


def test_copies_of_two_pairs_do_not_go_together(tmp_path: Path) -> None:
    """R1: a batch is one pair's."""
    one = add_backup(make_job(tmp_path), now() - timedelta(days=1))
    other = add_backup(make_job(tmp_path, name="other", targets=("www",)), now() - timedelta(days=1))
    with pytest.raises(ValueError, match="not of one pair"):
        move_to_trash(one, other)
    assert Backup.objects.available().count() == 2


def test_an_audit_entry_is_there_before_the_bytes_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R21: who, which policy and plan, which artifact, size, hash and reason."""
    job = make_job(tmp_path)
    backup = add_backup(job, now() - timedelta(days=2))
    add_backup(job, now() - timedelta(days=1))
    seen: list[AuditEntry] = []
    real = OpenStorage.move_all_to_trash

    def look_first(self: OpenStorage, names: Sequence[ArtifactName]) -> dict[ArtifactName, StorageError]:
        assert artifact_path(backup).is_file()
        seen.extend(AuditEntry.objects.all())
        return real(self, names)

    monkeypatch.setattr(OpenStorage, "move_all_to_trash", look_first)
    move_to_trash(backup, verdict={"keep": False, "reasons": [{"kind": "replaced", "text": "daily: one is newer"}]})
    (entry,) = seen
    assert (entry.action, entry.actor, entry.run) == (AuditAction.TRASH, "test", "maintenance:1")
    assert (entry.backup_uid, entry.artifact) == (backup.uid, backup.artifact.relative)
    assert (entry.size, entry.sha256, entry.reason) == (backup.size, backup.sha256, "daily: one is newer")


def test_an_audit_entry_can_be_neither_changed_nor_deleted(trashed: Backup) -> None:
    with pytest.raises(TypeError):
        AuditEntry.objects.all().delete()
    with pytest.raises(TypeError):
        AuditEntry.objects.update(actor="nobody")
    with pytest.raises(TypeError):
        AuditEntry.objects.get().delete()
    assert AuditEntry.objects.get().actor == "test"


def test_a_database_that_is_older_than_the_storage_deletes_nothing(tmp_path: Path) -> None:
    """R11: restored from a copy that was made before the last changes."""
    job = make_job(tmp_path)
    backups = [add_backup(job, now() - timedelta(days=days)) for days in range(4, 0, -1)]
    old_epoch = Storage.objects.get(pk=job.storage_id).epoch
    move_to_trash(backups[0])
    Storage.objects.filter(pk=job.storage_id).update(epoch=old_epoch)
    with pytest.raises(OldDatabaseError, match="has seen 2 changes"):
        move_to_trash(backups[1])
    with pytest.raises(OldDatabaseError):
        purge(backups[0])
    assert Backup.objects.available().count() == 3
    assert_catalogue_matches_storage(job.storage)


def test_an_old_database_does_not_catch_up_by_going_on(tmp_path: Path) -> None:
    """R11: what it does itself must not use up the storage's lead."""
    job = make_job(tmp_path)
    backups = [add_backup(job, now() - timedelta(days=days)) for days in range(4, 0, -1)]
    move_to_trash(backups[0])
    Storage.objects.filter(pk=job.storage_id).update(epoch=0)
    for _ in range(3):
        backups_untrash(backups=[backups[0]], by="anna")
        Backup.objects.filter(pk=backups[0].pk).update(pinned_at=None, pin_until=None)
        with pytest.raises(OldDatabaseError):
            move_to_trash(backups[1])


def test_a_protected_copy_is_left_where_it_is(tmp_path: Path) -> None:
    """R8 and R19, in the deleting and in the purging transaction."""
    job = make_job(tmp_path)
    pinned, held, used, gone, _newest = (add_backup(job, now() - timedelta(days=days)) for days in range(5, 0, -1))
    backup_pin(backup=pinned, by="anna", note="tax records")
    with backup_lease(backup=used, purpose=LeasePurpose.RESTORE):
        result = move_to_trash(pinned, used, gone)
        assert {backup.uid for backup in result.done} == {gone.uid}
        assert all(backup_reason for _, backup_reason in result.left)
    hold = hold_place(by="anna", note="investigation", target=held.target)
    assert not move_to_trash(held).done
    assert not purge(gone).done
    hold_release(hold=hold, by="anna")
    assert move_to_trash(held, used).done
    backup_pin(backup=gone, by="anna", until=now() + timedelta(days=1))
    assert not purge(gone).done
    backup_unpin(backup=Backup.objects.get(pk=gone.pk), by="anna")
    assert purge(gone).done
    assert_catalogue_matches_storage(job.storage)


def untrash(backup: Backup) -> Moved:
    return backups_untrash(backups=[backup], by="anna")


def test_a_trashed_backup_comes_back_whole(trashed: Backup) -> None:
    (back,) = untrash(trashed).done
    assert (back.state, back.trashed_at, back.verdict, back.removed_by, back.holder) == (
        "available",
        None,
        None,
        "",
        "",
    )
    assert artifact_path(back).read_bytes() == b"x" * 64
    assert_catalogue_matches_storage(back.storage)


def test_what_was_brought_back_is_pinned_so_that_the_next_cleanup_leaves_it(trashed: Backup) -> None:
    (back,) = untrash(trashed).done
    assert back.is_pinned(now() + timedelta(days=29))
    assert not back.is_pinned(now() + timedelta(days=31))
    assert not move_to_trash(back).done


def test_a_pin_that_was_there_stays_as_it_is(trashed: Backup) -> None:
    backup_pin(backup=trashed, by="bert", note="for ever")
    (back,) = untrash(trashed).done
    assert (back.pinned_by, back.pin_until) == ("bert", None)


def test_many_come_back_at_once(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    backups = [add_backup(job, now() - timedelta(hours=hours)) for hours in range(130, 0, -1)]
    move_to_trash(*backups[:120])
    result = backups_untrash(backups=list(Backup.objects.trashed()), by="anna")
    assert (len(result.done), result.failed, result.left) == (120, [], [])
    assert Backup.objects.available().count() == 130
    assert_catalogue_matches_storage(job.storage)


def test_what_is_not_in_the_trash_is_left_alone(trashed: Backup) -> None:
    untrash(trashed)
    assert "not in the trash any more" in untrash(trashed).left[0][1]


def test_a_move_that_fails_leaves_it_in_the_trash(trashed: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: OpenStorage, _names: Any) -> None:
        raise StorageError("Storage nas is mounted read-only.")

    monkeypatch.setattr(OpenStorage, "restore_all_from_trash", refuse)
    assert "read-only" in str(untrash(trashed).failed[0][1])
    trashed.refresh_from_db()
    assert trashed.state == BackupState.TRASHED
    assert_catalogue_matches_storage(trashed.storage)


def test_bytes_that_someone_else_removed_are_missing(trashed: Backup) -> None:
    (Path(trashed.storage.path) / trashed.artifact.trash_relative).unlink()
    assert isinstance(untrash(trashed).failed[0][1], ArtifactMissingError)
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
