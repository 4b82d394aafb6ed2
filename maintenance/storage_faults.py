"""What a cleanup finds wrong in the storages: files that are gone, and files that nobody knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from backups.models import Backup, Storage
from backups.services.catalogue import backup_mark_missing
from backups.services.contents import known_names
from backups.services.trash import GONE_REASON
from backups.storage import OpenStorage, StorageError
from maintenance.retention_plans import Storages
from scheduling.context import RunContext
from scheduling.printable import printable

MAX_UNKNOWN_LISTED = 100


def mark_missing(*, pair: Mapping[str, int], storages: Storages, context: RunContext) -> Iterator[tuple[str, str]]:
    """Mark the copies whose files are not there, before anything is decided: they must not stand in for good ones.

    Yields each as (storage's name, path). `pair` limits the search to the pair of its ids. A storage that cannot be
    looked through is left to the planning, which says so for each of its pairs.
    """
    rows = Backup.objects.available().filter(job__isnull=False, target__isnull=False, **pair)
    for storage in Storage.objects.filter(backups__in=rows).distinct():
        try:
            handle = storages.open(storage)
            there = {name for name, _ in handle.list_artifacts()}
            for backup in rows.filter(storage=storage).order_by("pk"):
                context.checkpoint()
                if backup.shown_path in there or not _is_gone(backup, handle):
                    continue
                backup_mark_missing(backup=backup, reason=GONE_REASON)
                context.error(f"{storage.name}: {backup.shown_path} is not there. {GONE_REASON}")
                yield storage.name, backup.shown_path
        except StorageError as error:
            context.warning(f"{storage.name} was not looked through for missing files: {error}")


def unknown_files(*, storages: Storages, context: RunContext) -> list[str]:
    """Say which files lie in a storage that the catalogue does not know. They are never touched."""
    found: list[str] = []
    for storage in Storage.objects.all():
        try:
            handle = storages.open(storage)
            # Anybody's files, so their names may be anything; what cannot be text cannot be stored.
            found += [printable(f"{storage.name}: {path}") for path in handle.unknown_files(known_names(storage))]
        except StorageError as error:
            context.warning(f"{storage.name} was not looked through for unknown files: {error}")
    for path in found[:MAX_UNKNOWN_LISTED]:
        context.warning(f"{path} is not in the catalogue. It was left alone.")
    return found


def _is_gone(backup: Backup, handle: OpenStorage) -> bool:
    """Look again: another run may have moved it, or published it, since the storage was listed."""
    try:
        name = backup.artifact
    except ValueError:
        return False
    if handle.stat(name) is not None or handle.in_trash(name):
        return False
    # A disk that has just gone takes its files along: they are not missing.
    handle.verify()
    return Backup.objects.available().filter(pk=backup.pk).exists()
