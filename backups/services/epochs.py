"""The epoch of a storage: a count of its changes, kept in the database and in the storage itself.

The row is raised first, then the file. So a file that is ahead of its row has seen changes that the database has not:
the database was restored from an older copy, or another one writes to the same storage.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db.models import F

from backups.models import Storage
from backups.storage import OpenStorage, StorageError


class OldDatabaseError(StorageError):
    """The storage has changed since the database was: nothing may be deleted until they are reconciled."""


@contextmanager
def storage_changing(*, storage: Storage, handle: OpenStorage) -> Iterator[None]:
    """Count a change of the storage's content: before it begins, and once more when it is done.

    Twice, because a copy of the database that is made in between knows only half of it.
    """
    epoch_raise(storage=storage, handle=handle)
    try:
        yield
    finally:
        # A disk that went meanwhile cannot be told; its file then lags behind the row, which harms nothing.
        with suppress(StorageError):
            epoch_raise(storage=storage, handle=handle)


def epoch_raise(*, storage: Storage, handle: OpenStorage) -> None:
    """Raise the row, then the file. Raises `StorageError` when the file cannot be written.

    Neither, where the storage is ahead: its lead must not be caught up with by counting on.
    """
    # Where a disk has just gone, the folder that it was mounted on is not to be given an epoch.
    handle.verify()
    if epoch_lead(storage=storage, handle=handle):
        return
    Storage.objects.filter(pk=storage.pk).update(epoch=F("epoch") + 1)
    handle.raise_epoch(Storage.objects.values_list("epoch", flat=True).get(pk=storage.pk))


def epoch_lead(*, storage: Storage, handle: OpenStorage) -> int:
    """By how many changes the storage is ahead of the database; 0 when it is not."""
    # The file first: it never runs ahead of a row that is read after it, unless the row is the older one.
    kept = handle.read_epoch()
    return max(0, kept - Storage.objects.values_list("epoch", flat=True).get(pk=storage.pk))


def refuse_old_database(*, storage: Storage, handle: OpenStorage) -> None:
    """Raise `OldDatabaseError` when the storage is ahead of the database."""
    lead = epoch_lead(storage=storage, handle=handle)
    if lead:
        raise OldDatabaseError(old_database_text(storage.name, lead))


def old_database_text(name: str, lead: int) -> str:
    """What is wrong, and what to do."""
    changes = "1 change" if lead == 1 else f"{lead} changes"
    return (
        f"The storage {name} has seen {changes} that this database has not: the database was restored from an older "
        "copy, or another installation writes there. Compare them with "
        f"“manage.py reconcile_storage {shlex.quote(name)}”, then run again."
    )
