"""Removing for good what has been in the trash for long enough; the row stays as a tombstone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from backups.choices import BackupState
from backups.models import AuditAction, Backup
from backups.services.audit import Authority, audit_backups
from backups.services.epochs import refuse_old_database, storage_changing
from backups.services.moved import Moved, unnamed, verdict_text
from backups.services.protections import lock_backups, why_protected
from backups.storage import OpenStorage
from scheduling.fencing import NO_FENCE, Fence


def backups_purge(
    *,
    backups: Sequence[Backup],
    storage: OpenStorage,
    trashed_before: datetime,
    authority: Authority,
    holder: str,
    now: datetime,
    fence: Fence = NO_FENCE,
) -> Moved:
    """Remove the bytes of copies of one storage that have been in its trash since before `trashed_before`.

    Their rows stay as tombstones. A copy that is protected stays in the trash. Raises `StorageError` when the storage
    as a whole refuses, and what `fence` raises.
    """
    result = Moved()
    if not backups:
        return result
    refuse_old_database(storage=backups[0].storage, handle=storage)
    with transaction.atomic():
        fence.hold()
        going = _fit_to_purge(lock_backups([backup.pk for backup in backups]), trashed_before, now, result)
        changed = Backup.objects.filter(pk__in=[backup.pk for backup in going], state=BackupState.TRASHED)
        changed.update(state=BackupState.PURGING, holder=holder)
        entries = ((backup, verdict_text(backup.verdict or {})) for backup in going)
        audit_backups(entries=entries, action=AuditAction.PURGE, authority=authority, now=now)
    if not going:
        return result
    with storage_changing(storage=going[0].storage, handle=storage):
        fence.check()
        # What a crash left behind when its artifact went to the trash.
        behind = [backup.artifact for backup in going if storage.has_sidecar(backup.artifact)]
        purged = result.sort_out(going, storage.move_sidecars_to_trash(behind))
        fence.check()
        purged = result.sort_out(purged, storage.purge_all([backup.artifact for backup in purged]))
        _say_deleted(purged, now)
        result.done += purged
    return result


def backup_resume_purging(*, backup: Backup, storage: OpenStorage) -> None:
    """Bring a backup that says purging to where its bytes say it is: back to trashed, or on to deleted.

    What is still whole in the trash is left to the next purge, which looks anew at what protects it.
    """
    if storage.in_trash(backup.artifact):
        rows = Backup.objects.filter(pk=backup.pk, state=BackupState.PURGING)
        rows.update(state=BackupState.TRASHED, holder="")
        return
    if storage.has_sidecar(backup.artifact):
        storage.move_sidecar_to_trash(backup.artifact)
    storage.purge(backup.artifact)
    _say_deleted([backup], timezone.now())


def _fit_to_purge(rows: Sequence[Backup], trashed_before: datetime, now: datetime, result: Moved) -> list[Backup]:
    protected = why_protected(rows, now=now)
    fit: list[Backup] = []
    for backup in rows:
        due = backup.state == BackupState.TRASHED and backup.trashed_at and backup.trashed_at <= trashed_before
        if not due:
            result.left.append((backup, f"{backup.shown_path} is no longer due to be purged, and was left alone."))
        elif backup.pk in protected:
            result.left.append((backup, f"{backup.shown_path} stays in the trash: {protected[backup.pk]}."))
        elif (error := unnamed(backup)) is not None:
            result.failed.append((backup, error))
        else:
            fit.append(backup)
    return fit


def _say_deleted(backups: Sequence[Backup], now: datetime) -> None:
    """Say that the bytes are gone, also of rows that recovery has taken back to the trash just before they went."""
    states = (BackupState.PURGING, BackupState.TRASHED)
    rows = Backup.objects.filter(pk__in=[backup.pk for backup in backups], state__in=states)
    rows.update(state=BackupState.DELETED, deleted_at=now, holder="")
