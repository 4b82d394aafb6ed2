"""The catalogue follows a storage that has changed without it; nothing in the storage is moved or removed."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from backups.choices import BackupState
from backups.models import AuditAction, AuditEntry, Backup, BackupJob, BackupRunTarget, Storage
from backups.services.epochs import OldDatabaseError, epoch_lead, epoch_raise, refuse_old_database
from backups.services.reconcile import storage_reconcile
from backups.services.storages import storage_backend
from backups.storage import ForeignStorageError, SentinelMissingError, StorageError
from backups.storage.names import EPOCH
from tests.factories import BackupFactory, BackupRunFactory
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
def job(tmp_path: Path) -> BackupJob:
    return make_job(tmp_path)


def forget(*backups: Backup) -> None:
    """As if the database had been copied before these were made."""
    Backup.objects.filter(pk__in=[backup.pk for backup in backups]).delete()


def everything_in(job: BackupJob) -> dict[str, bytes]:
    """Every file of the storage but its epoch, with its bytes."""
    root = Path(job.storage.path)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()} | {EPOCH: b""}


def sidecar_path(backup: Backup) -> Path:
    return artifact_path(backup).with_name(backup.artifact.sidecar_filename)


def rewrite_sidecar(backup: Backup, **values: object) -> None:
    path = sidecar_path(backup)
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_copy_that_the_catalogue_does_not_know_is_entered_with_its_job_and_target(job: BackupJob) -> None:
    lost = add_backup(job, now() - timedelta(days=1), content=b"z" * 90)
    forget(lost)
    before = everything_in(job)
    result = storage_reconcile(storage=job.storage, by="anna")
    assert result.adopted == [lost.artifact.relative]
    entered = Backup.objects.get()
    same = ("uid", "job", "job_name", "target", "target_name", "size", "sha256", "created_at", "folder", "suffix")
    assert [getattr(entered, name) for name in same] == [getattr(lost, name) for name in same]
    assert (entered.state, entered.flaw, entered.verified_at, entered.run) == (BackupState.AVAILABLE, "", None, None)
    assert everything_in(job) == before


def test_a_copy_of_a_job_that_is_not_there_is_entered_under_its_names(job: BackupJob) -> None:
    lost = add_backup(job, now())
    forget(lost)
    rewrite_sidecar(lost, job={"name": "weekly\nof\u202eold" + "x" * 100}, target={"name": "wiki", "kind": "files"})
    storage_reconcile(storage=job.storage, by="anna")
    entered = Backup.objects.get()
    assert (entered.job, entered.target, entered.target_name) == (None, None, "wiki")
    assert entered.job_name.startswith("weekly\\nof\\u202eold")
    assert len(entered.job_name) == 80


def test_a_copy_in_the_trash_is_entered_as_trashed_with_its_whole_time_there(job: BackupJob) -> None:
    old, _kept = add_backup(job, now() - timedelta(days=2)), add_backup(job, now() - timedelta(days=1))
    move_to_trash(old)
    forget(old)
    moment = now()
    result = storage_reconcile(storage=job.storage, by="anna", now=moment)
    assert result.adopted_trashed == [old.artifact.relative]
    entered = Backup.objects.get(uid=old.uid)
    assert (entered.state, entered.trashed_at, entered.job) == (BackupState.TRASHED, moment, job)


def test_a_file_that_is_gone_makes_its_row_missing_and_never_deleted(job: BackupJob) -> None:
    gone, trashed = add_backup(job, now() - timedelta(days=3)), add_backup(job, now() - timedelta(days=2))
    kept = add_backup(job, now() - timedelta(days=1))
    move_to_trash(trashed)
    artifact_path(gone).unlink()
    (Path(job.storage.path) / trashed.artifact.trash_relative).unlink()
    result = storage_reconcile(storage=job.storage, by="anna")
    assert set(result.missing) == {gone.artifact.relative, trashed.artifact.relative}
    states = {backup.uid: backup.state for backup in Backup.objects.all()}
    missing, available = BackupState.MISSING, BackupState.AVAILABLE
    assert states == {gone.uid: missing, trashed.uid: missing, kept.uid: available}


def test_a_copy_that_was_trashed_after_the_database_was_copied_is_listed_in_the_trash(job: BackupJob) -> None:
    old, _kept = add_backup(job, now() - timedelta(days=2)), add_backup(job, now() - timedelta(days=1))
    move_to_trash(old)
    Backup.objects.filter(pk=old.pk).update(state=BackupState.AVAILABLE, trashed_at=None, removed_by="", verdict=None)
    result = storage_reconcile(storage=job.storage, by="anna")
    assert (result.trashed, result.missing) == ([old.artifact.relative], [])
    old.refresh_from_db()
    assert old.state == BackupState.TRASHED
    assert old.trashed_at is not None


def test_a_copy_that_was_brought_back_meanwhile_is_available_and_pinned(job: BackupJob) -> None:
    back = add_backup(job, now())
    Backup.objects.filter(pk=back.pk).update(state=BackupState.TRASHED, trashed_at=now() - timedelta(days=9))
    assert storage_reconcile(storage=job.storage, by="anna").found == [back.artifact.relative]
    back.refresh_from_db()
    assert (back.state, back.trashed_at, back.pinned_by) == (BackupState.AVAILABLE, None, "anna")


def test_a_missing_copy_that_is_there_again_counts_again_when_its_size_is_right(job: BackupJob) -> None:
    whole, cut = add_backup(job, now() - timedelta(hours=2)), add_backup(job, now() - timedelta(hours=1))
    Backup.objects.update(state=BackupState.MISSING, state_reason="gone")
    artifact_path(cut).write_bytes(b"x")
    storage_reconcile(storage=job.storage, by="anna")
    whole.refresh_from_db()
    cut.refresh_from_db()
    assert (whole.state, whole.state_reason, whole.pinned_at) == (BackupState.AVAILABLE, "", None)
    assert cut.state == BackupState.MISSING


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda backup: sidecar_path(backup).unlink(), "sidecar"),
        (lambda backup: sidecar_path(backup).write_text("{"), "sidecar"),
        (lambda backup: artifact_path(backup).write_bytes(b"x" * 63), "63 bytes"),
        (lambda backup: rewrite_sidecar(backup, uid="0" * 16), "sidecar"),
    ],
    ids=["no sidecar", "no JSON", "another size", "another uid"],
)
@pytest.mark.parametrize("place", ["in place", "in the trash"])
def test_what_its_sidecar_does_not_vouch_for_is_reported_and_left(
    job: BackupJob, damage: object, word: str, place: str
) -> None:
    stranger = add_backup(job, now())
    assert callable(damage)
    damage(stranger)
    if place == "in the trash":
        folder = Path(job.storage.path) / ".keepwell-trash"
        folder.mkdir(exist_ok=True)
        for path in (artifact_path(stranger), sidecar_path(stranger)):
            if path.exists():
                path.rename(folder / path.name)
    forget(stranger)
    before = everything_in(job)
    result = storage_reconcile(storage=job.storage, by="anna")
    assert not Backup.objects.exists()
    (left,) = result.left
    assert word in left
    assert stranger.artifact.filename in left
    assert everything_in(job) == before


def test_a_file_in_the_trash_beside_anothers_sidecar_is_left(job: BackupJob) -> None:
    stranger, known = add_backup(job, now() - timedelta(hours=2)), add_backup(job, now() - timedelta(hours=1))
    forget(stranger, known)
    folder = Path(job.storage.path) / ".keepwell-trash"
    folder.mkdir(exist_ok=True)
    artifact_path(stranger).rename(folder / stranger.artifact.filename)
    sidecar_path(known).rename(folder / stranger.artifact.sidecar_filename)
    sidecar_path(stranger).unlink()
    result = storage_reconcile(storage=job.storage, by="anna")
    assert not Backup.objects.exists()
    assert len(result.left) == 2
    assert any("about another artifact" in text for text in result.left)


def test_a_copy_whose_run_is_not_settled_is_left_to_its_run(job: BackupJob) -> None:
    made = add_backup(job, now())
    forget(made)
    run = BackupRunFactory(job=job, running=True)
    BackupRunTarget.objects.create(run=run, target_name="etc", uid=made.uid, unsettled=True, status="running")
    result = storage_reconcile(storage=job.storage, by="anna")
    assert not Backup.objects.exists()
    assert "not settled" in result.left[0]


def test_a_copy_that_was_deleted_for_good_or_belongs_elsewhere_is_not_entered_again(job: BackupJob) -> None:
    purged, foreign = add_backup(job, now() - timedelta(hours=2)), add_backup(job, now() - timedelta(hours=1))
    Backup.objects.filter(pk=purged.pk).update(state=BackupState.DELETED, deleted_at=now())
    forget(foreign)
    BackupFactory(uid=foreign.uid)
    result = storage_reconcile(storage=job.storage, by="anna")
    assert len(result.left) == 2
    assert Backup.objects.get(uid=purged.uid).state == BackupState.DELETED
    assert Backup.objects.get(uid=foreign.uid).storage != job.storage


@pytest.mark.parametrize("state", [BackupState.DELETING, BackupState.PURGING])
def test_a_copy_in_transit_is_left_to_recovery(job: BackupJob, state: str) -> None:
    moving = add_backup(job, now())
    Backup.objects.update(state=state, trashed_at=now())
    artifact_path(moving).unlink()
    assert storage_reconcile(storage=job.storage, by="anna").missing == []
    moving.refresh_from_db()
    assert moving.state == state


def test_an_entered_copy_much_smaller_than_those_before_it_is_suspect(job: BackupJob) -> None:
    usual = [add_backup(job, now() - timedelta(days=day), content=b"x" * 1000) for day in (9, 8, 7)]
    small, whole = (
        add_backup(job, now() - timedelta(days=day), content=b"x" * size) for day, size in ((2, 10), (1, 900))
    )
    forget(usual[2], small, whole)
    storage_reconcile(storage=job.storage, by="anna")
    flaws = {backup.uid: backup.flaw for backup in Backup.objects.all()}
    assert flaws.pop(small.uid) == "suspect"
    assert set(flaws.values()) == {""}


def test_afterwards_the_storage_is_not_ahead_and_cleanups_may_go_on(job: BackupJob) -> None:
    with storage_backend(job.storage).open() as handle:
        epoch_raise(storage=job.storage, handle=handle)
        handle.raise_epoch(40)
        assert epoch_lead(storage=job.storage, handle=handle) == 39
        result = storage_reconcile(storage=job.storage, by="anna")
        job.storage.refresh_from_db()
        assert (result.lead, result.epoch, job.storage.epoch, handle.read_epoch()) == (39, 41, 41, 41)
        refuse_old_database(storage=job.storage, handle=handle)


def test_a_database_from_before_a_cleanup_and_a_purge_agrees_with_the_storage_again(job: BackupJob) -> None:
    copies = [add_backup(job, now() - timedelta(days=day)) for day in range(6, 1, -1)]
    old_rows, old_epoch = list(Backup.objects.values()), Storage.objects.get(pk=job.storage.pk).epoch
    move_to_trash(copies[0], copies[1])
    purge(copies[0])
    newer = add_backup(job, now() - timedelta(days=1))
    # The database as it was before: the rows, and the count of the storage's changes.
    Backup.objects.all().delete()
    Backup.objects.bulk_create([Backup(**row) for row in old_rows])
    Storage.objects.update(epoch=old_epoch)
    with storage_backend(job.storage).open() as handle, pytest.raises(OldDatabaseError):
        refuse_old_database(storage=job.storage, handle=handle)
    storage_reconcile(storage=job.storage, by="anna")
    states = {backup.uid: backup.state for backup in Backup.objects.all()}
    assert states.pop(copies[0].uid) == BackupState.MISSING
    assert states.pop(copies[1].uid) == BackupState.TRASHED
    assert set(states) == {newer.uid, *(backup.uid for backup in copies[2:])}
    assert set(states.values()) == {BackupState.AVAILABLE}
    Backup.objects.filter(uid=copies[0].uid).delete()
    assert_catalogue_matches_storage(job.storage)
    assert len(move_to_trash(Backup.objects.get(uid=copies[2].uid)).done) == 1


def test_it_says_in_the_audit_trail_who_did_it_and_to_which_copies(job: BackupJob) -> None:
    entered, gone = add_backup(job, now() - timedelta(days=2)), add_backup(job, now() - timedelta(days=1))
    forget(entered)
    artifact_path(gone).unlink()
    storage_reconcile(storage=job.storage, by="anna")
    entries = AuditEntry.objects.filter(action=AuditAction.RECONCILE, actor="anna")
    assert {entry.backup_uid for entry in entries} == {"", entered.uid, gone.uid}
    (whole,) = entries.filter(backup_uid="")
    assert whole.storage_name == job.storage.name
    assert "1 copy entered into the catalogue, 1 copy marked as missing" in whole.reason


def test_doing_it_twice_changes_nothing_more(job: BackupJob) -> None:
    forget(add_backup(job, now()))
    storage_reconcile(storage=job.storage, by="anna")
    rows = list(Backup.objects.values())
    again = storage_reconcile(storage=job.storage, by="anna")
    assert "nothing was changed" in again.message
    assert list(Backup.objects.values()) == rows


@pytest.mark.parametrize("trouble", ["no sentinel", "another storage", "damaged epoch"])
def test_a_storage_that_cannot_be_trusted_changes_nothing(job: BackupJob, trouble: str) -> None:
    kept = add_backup(job, now())
    root = Path(job.storage.path)
    artifact_path(kept).unlink()
    if trouble == "no sentinel":
        (root / ".keepwell-storage.json").unlink()
    elif trouble == "another storage":
        sentinel = root / ".keepwell-storage.json"
        sentinel.write_text(sentinel.read_text().replace(job.storage.uid, "f" * 16))
    else:
        (root / EPOCH).write_text("{")
    with pytest.raises(StorageError) as refusal:
        storage_reconcile(storage=job.storage, by="anna")
    kinds = {"no sentinel": SentinelMissingError, "another storage": ForeignStorageError, "damaged epoch": StorageError}
    assert type(refusal.value) is kinds[trouble]
    kept.refresh_from_db()
    assert kept.state == BackupState.AVAILABLE
    assert not AuditEntry.objects.exists()


def test_a_link_in_the_place_of_an_artifact_or_its_sidecar_is_not_followed(job: BackupJob, tmp_path: Path) -> None:
    linked = add_backup(job, now())
    forget(linked)
    elsewhere = tmp_path / "elsewhere.json"
    sidecar_path(linked).rename(elsewhere)
    sidecar_path(linked).symlink_to(elsewhere)
    storage_reconcile(storage=job.storage, by="anna")
    assert not Backup.objects.exists()


def test_many_copies_are_entered_at_once(job: BackupJob) -> None:
    template = add_backup(job, now())
    source, sidecar = artifact_path(template), json.loads(sidecar_path(template).read_text())
    for number in range(1200):
        uid = f"{number:016x}"
        name = source.with_name(source.name.replace(template.uid, uid))
        os.link(source, name)
        relative = f"{source.parent.name}/{name.name}"
        name.with_name(f"{name.name}.meta.json").write_text(json.dumps({**sidecar, "uid": uid, "artifact": relative}))
    assert len(storage_reconcile(storage=job.storage, by="anna").adopted) == 1200
    assert Backup.objects.good().count() == 1201
