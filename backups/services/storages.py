from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from backups.choices import IN_TRANSIT, BackupState, StorageKind
from backups.models import Backup, BackupRunTarget, Storage
from backups.services.errors import refuse
from backups.services.names import clean_name
from backups.services.protections import holds_clear_way
from backups.storage import STORAGES, LocalStorage, StorageError, StorageNotEmptyError
from scheduling import holders
from scheduling.printable import printable

DEFAULT_STORAGE_NAME = "local"


def storage_backend(storage: Storage) -> LocalStorage:
    """The code that reads and writes this storage."""
    return STORAGES[storage.kind](Path(storage.path), storage.uid, name=storage.name)


def clean_storage_path(path: str) -> str:
    """An absolute, normalised folder path. Raises ValidationError keyed `path`."""
    text = path.strip()
    if "\0" in text or not text.startswith("/"):
        raise refuse(
            "path", f"“{printable(text)}” is not an absolute path. Write the whole path, such as /srv/backups."
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise refuse("path", f"“{printable(text)}” is not UTF-8 text, so it cannot be stored. Rename the folder.")
    normal = os.path.normpath(text).replace("//", "/", 1) if text.startswith("//") else os.path.normpath(text)
    if normal == "/":
        raise refuse("path", "The root folder cannot be a storage. Choose a folder of its own, such as /srv/backups.")
    return normal


def storage_create(*, name: str, path: str, kind: str = StorageKind.LOCAL, use_existing: bool = False) -> Storage:
    """Add a storage and write its sentinel file, making the folder when it is not there.

    `use_existing` accepts a folder that holds other files; they are reported by cleanups and never touched. Raises
    ValidationError keyed by field.
    """
    storage = Storage(name=clean_name(name), kind=_clean_kind(kind), path=clean_storage_path(path))
    _refuse_taken(storage)
    try:
        with transaction.atomic():
            storage.save()
            _initialise(storage, use_existing=use_existing)
    except IntegrityError:
        _refuse_taken(storage)
        raise
    return storage


def storage_update(*, storage: Storage, name: str, path: str, use_existing: bool = False) -> Storage:
    """Rename a storage or follow it to another folder.

    A new folder must hold this storage's sentinel, unless no backup is at stake.
    """
    changed = Storage.objects.get(pk=storage.pk)
    old_path = changed.path
    changed.name = clean_name(name)
    changed.path = clean_storage_path(path)
    _refuse_taken(changed)
    if changed.path != old_path and (busy := _busy(changed)):
        raise refuse("path", busy)
    with transaction.atomic():
        changed.save()
        if changed.path != old_path:
            if Backup.objects.filter(storage=changed).on_storage().exists():
                storage_check(changed)
            else:
                _initialise(changed, use_existing=use_existing)
    return changed


def storage_check(storage: Storage) -> tuple[int, int]:
    """Open the storage, sentinel and all, and return its free and total bytes.

    Raises ValidationError keyed `path`, saying what is wrong.
    """
    try:
        with storage_backend(storage).open() as handle:
            return handle.free_space()
    except StorageError as error:
        raise refuse("path", str(error)) from error


def storage_initialise(storage: Storage) -> None:
    """Write a lost sentinel again.

    Refused unless every copy that the catalogue counts on is in the folder: unmounted is not empty.
    """
    expected = Backup.objects.filter(storage=storage).on_storage().exclude(state=BackupState.MISSING)
    absent = sum(not _is_in_place(backup, Path(storage.path)) for backup in expected.iterator())
    if absent:
        raise refuse(
            "path",
            f"{absent} of the {expected.count()} backups that {storage.name} should hold are not in {storage.path}. "
            "Mount the disk that holds them; a new disk needs a storage of its own.",
        )
    _initialise(storage, use_existing=True)


def storage_delete(*, storage: Storage) -> None:
    """Forget a storage that nothing refers to.

    Its folder is left as it is. Raises ValidationError when a job, backup or hold needs it.
    """
    if busy := _busy(storage):
        raise ValidationError(busy)
    try:
        with transaction.atomic():
            holds_clear_way(storage=storage)
            storage.delete()
    except ProtectedError as error:
        jobs = sorted({str(row) for row in error.protected_objects if row._meta.model_name == "backupjob"})
        if jobs:
            raise ValidationError(
                f"{storage.name} is used by {', '.join(jobs)}. Give these jobs another storage first."
            ) from error
        raise ValidationError(
            f"{storage.name} holds backups that the catalogue lists, or did hold them. It stays, so that their history "
            "can be read."
        ) from error


def storage_ensure_default() -> Storage | None:
    """On a new installation, add the storage that lies in the data folder; None when there is a storage already."""
    if Storage.objects.exists():
        return None
    return storage_create(name=DEFAULT_STORAGE_NAME, path=str(Path(settings.KEEPWELL_DATA).resolve() / "storage"))


def _initialise(storage: Storage, *, use_existing: bool = False) -> None:
    try:
        STORAGES[storage.kind].initialise(
            Path(storage.path), storage.uid, created=timezone.now(), allow_existing=use_existing, name=storage.name
        )
    except StorageNotEmptyError as error:
        raise ValidationError(
            {"path": [str(error)], "use_existing": ["Tick this to use the folder as it is."]}
        ) from error
    except StorageError as error:
        raise refuse("path", str(error)) from error


def _is_in_place(backup: Backup, folder: Path) -> bool:
    try:
        return (folder / backup.artifact.relative).is_file()
    except ValueError:  # a damaged row names no file
        return False


def _clean_kind(kind: str) -> str:
    if kind not in StorageKind.values:
        raise refuse("kind", f"“{kind}” is not a kind of storage. There are: {', '.join(StorageKind.values)}.")
    return kind


def _busy(storage: Storage) -> str:
    """Why the storage has to stay where it is for now; "" when nothing is being written or moved in it."""
    if BackupRunTarget.objects.filter(storage=storage, active=True).exists():
        return f"A backup to {storage.name} is running. Wait for it to end, then try again."
    moving = Backup.objects.filter(storage=storage, state__in=IN_TRANSIT).exclude(holder="")
    if any(holders.is_held(holder) for holder in moving.values_list("holder", flat=True).distinct()):
        return f"A cleanup of {storage.name} is running. Wait for it to end, then try again."
    return ""


def _refuse_taken(storage: Storage) -> None:
    others = Storage.objects.exclude(pk=storage.pk)
    if others.filter(name=storage.name).exists():
        raise refuse("name", f"There is a storage called “{storage.name}” already.")
    if (other := others.filter(path=storage.path).first()) is not None:
        raise refuse("path", f"{storage.path} is the storage “{other.name}” already.")
