"""Moving a backup out of the way, in steps that each leave a state recovery can tell apart: the catalogue says it
first.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from backups.choices import BackupState
from backups.models import Backup, BackupJob
from backups.querysets import BackupQuerySet
from backups.services.catalogue import backup_mark_missing
from backups.storage import OpenStorage, StorageError
from scheduling import holders

GONE_REASON = (
    "Its file is not in the storage. Keepwell did not delete it: look for it on the disk "
    "or in the storage's own snapshots."
)


class BackupChangedError(Exception):
    """The backup is not what the plan was made from, so it was left alone."""


def backup_trash(
    *,
    backup: Backup,
    storage: OpenStorage,
    minimum_keep: int,
    verdict: dict[str, Any],
    removed_by: str,
    holder: str,
    now: datetime | None = None,
) -> None:
    """Move an available backup of a pair to its storage's trash; it can be brought back until it is purged.

    Raises `BackupChangedError` when it is no longer available, the pair would fall under `minimum_keep` good copies or
    lose its newest verified one, `ArtifactMissingError` (the row then says missing) when its file is not there, and
    `StorageError` when the storage does not let it be moved, ValueError when the row names no possible file.
    """
    name = backup.artifact  # a row that names no file raises here, before anything is changed
    with transaction.atomic():
        others = _refuse_the_last(backup, floor=max(1, minimum_keep), now=now or timezone.now())
        deleting = {
            "state": BackupState.DELETING,
            "holder": holder,
            "verdict": verdict,
            "removed_by": removed_by,
            "state_reason": "",
        }
        available = Backup.objects.filter(pk=backup.pk, state=BackupState.AVAILABLE)
        # Most copies are not verified, and one statement both makes sure of that and takes them.
        changed = available.filter(verified_at__isnull=True).update(**deleting)
        if not changed and available.exists():
            _refuse_the_newest_verified(backup, others)
            changed = available.update(**deleting)
    if not changed:
        raise BackupChangedError(f"{name.relative} changed since the plan was made, and was left alone.")
    try:
        storage.move_to_trash(name)
    except StorageError:
        backup_resume_trashing(backup=backup, storage=storage)
        raise
    _trashed(backup, storage, now)


def backup_resume_trashing(*, backup: Backup, storage: OpenStorage) -> None:
    """Bring a backup that says deleting to where its bytes say it is: back to available, on to trashed, or missing."""
    name = backup.artifact
    in_place = storage.stat(name) is not None
    if storage.in_trash(name):
        if in_place:
            # Where a move is a link and an unlink, both names are the one file until it is completed.
            storage.move_to_trash(name)
        _trashed(backup, storage)
    elif in_place:
        Backup.objects.filter(pk=backup.pk, state=BackupState.DELETING).update(
            state=BackupState.AVAILABLE, holder="", verdict=None, removed_by="", trashed_at=None
        )
    else:
        # A disk that has just gone takes its files along: they are not missing.
        storage.verify()
        backup_mark_missing(backup=backup, reason=GONE_REASON)


def backup_untrash(*, backup: Backup, storage: OpenStorage) -> Backup:
    """Bring a trashed backup back to its place; the next cleanup decides about it anew.

    Raises `BackupChangedError` when it is not in the trash any more, `StorageError` when it cannot be moved, and
    ValueError when the row names no possible file.
    """
    name = backup.artifact  # a row that names no file raises here, before anything is changed
    with holders.hold() as holder:
        changed = Backup.objects.filter(pk=backup.pk, state=BackupState.TRASHED).update(
            state=BackupState.DELETING, holder=holder
        )
        if not changed:
            raise BackupChangedError(f"{name.relative} is not in the trash any more, so it was left alone.")
        try:
            storage.restore_from_trash(name)
        finally:
            # Back in its place, still in the trash, or gone: the row says whichever it is.
            backup_resume_trashing(backup=backup, storage=storage)
    return Backup.objects.get(pk=backup.pk)


def backup_purge(
    *, backup: Backup, storage: OpenStorage, holder: str, trashed_before: datetime, now: datetime | None = None
) -> None:
    """Remove the bytes of a backup that has been in the trash since before `trashed_before`.

    The row stays as a tombstone.
    """
    name = backup.artifact
    changed = Backup.objects.filter(pk=backup.pk, state=BackupState.TRASHED, trashed_at__lte=trashed_before).update(
        state=BackupState.PURGING, holder=holder
    )
    if not changed:
        raise BackupChangedError(f"{name.relative} is no longer due to be purged, and was left alone.")
    backup_finish_purge(backup=backup, storage=storage, now=now)


def backup_finish_purge(*, backup: Backup, storage: OpenStorage, now: datetime | None = None) -> None:
    """Carry a purge to its end; safe to repeat after a crash at any point."""
    if storage.has_sidecar(backup.artifact):
        # A crash left it behind when its artifact went to the trash.
        storage.move_sidecar_to_trash(backup.artifact)
    storage.purge(backup.artifact)
    Backup.objects.filter(pk=backup.pk, state=BackupState.PURGING).update(
        state=BackupState.DELETED, deleted_at=now or timezone.now(), holder=""
    )


def _trashed(backup: Backup, storage: OpenStorage, now: datetime | None = None) -> None:
    # The row says trashed last: as long as it says deleting, recovery knows that the sidecar may still have to follow.
    storage.move_sidecar_to_trash(backup.artifact)
    Backup.objects.filter(pk=backup.pk, state=BackupState.DELETING).update(
        state=BackupState.TRASHED, trashed_at=now or timezone.now(), holder=""
    )


def _refuse_the_last(backup: Backup, *, floor: int, now: datetime) -> BackupQuerySet:
    """The other good copies of the pair; raises `BackupChangedError` when there are fewer than `floor` of them.

    Copies dated in the future count for nothing. Call it inside the transaction that deletes.
    """
    # Two cleanups may be at the same pair: the lock lets each see what the other took. SQLite has one writer anyway.
    if connection.features.has_select_for_update:
        list(BackupJob.objects.select_for_update(no_key=True).filter(pk=backup.job_id or 0).values_list("pk"))
    others = (
        Backup.objects.of_pair(backup.job_id or 0, backup.target_id or 0)
        .good()
        .filter(created_at__lte=now)
        .exclude(pk=backup.pk)
        .order_by()
    )
    if not others[floor - 1 : floor].exists():
        raise BackupChangedError(
            f"{backup.artifact.relative} stays: without it the pair would have fewer than {floor} good copies."
        )
    return others


def _refuse_the_newest_verified(backup: Backup, others: BackupQuerySet) -> None:
    """Raise `BackupChangedError` unless another good copy of the pair, as new or newer, is verified as well."""
    if not others.filter(verified_at__isnull=False, created_at__gte=backup.created_at).exists():
        raise BackupChangedError(f"{backup.artifact.relative} stays: it is the newest verified copy of the pair.")
