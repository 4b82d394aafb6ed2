"""The number a storage carries of its own: when it says more than the catalogue, the catalogue is an old copy."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backups.storage.errors import ForeignStorageError, StorageError
from backups.storage.folders import sync_folder
from backups.storage.names import EPOCH, EPOCH_DRAFT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE_LIMIT = 4096
LARGEST = 2**53

# A file system without locks: two writers at once are then kept apart by nothing, as they are everywhere else on it.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


def read_epoch(root: int, *, uid: str, label: str, path: Path) -> int:
    """Give the epoch of the storage `uid`, 0 when it has none yet.

    Raises `ForeignStorageError` for another storage's, `StorageError` for one that cannot be understood; OSErrors pass.
    """
    try:
        handle = os.open(EPOCH, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return 0
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _unusable(label, path) from error
        raise
    try:
        raw = os.read(handle, SIZE_LIMIT + 1) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
    finally:
        os.close(handle)
    storage, epoch = _parse(raw)
    if storage is None or epoch is None:
        raise _unusable(label, path)
    if storage != uid:
        raise ForeignStorageError(
            f"{label}: {path / EPOCH} belongs to another storage ({storage}, not {uid}). Check which disk is mounted "
            "there; nothing was touched. If it is the right one, remove this file."
        )
    return epoch


def raise_epoch(root: int, value: int, *, uid: str, label: str, path: Path) -> None:
    """Durably write `value`, unless the file already says as much or more; errors as of `read_epoch`.

    A crash leaves the old file or the new one, and at most a draft, which the next call uses. ValueError for a value
    that is no epoch.
    """
    if not 0 <= value <= LARGEST:
        raise ValueError(f"{value} is not an epoch.")
    if read_epoch(root, uid=uid, label=label, path=path) >= value:
        return
    with _draft(root, label=label, path=path) as draft:
        # Another process may have written more while this one waited for the draft.
        if read_epoch(root, uid=uid, label=label, path=path) >= value:
            os.unlink(EPOCH_DRAFT, dir_fd=root)
            return
        os.ftruncate(draft, 0)
        raw = json.dumps({"format": 1, "storage": uid, "epoch": value}).encode() + b"\n"
        if os.write(draft, raw) != len(raw):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(draft)
        os.rename(EPOCH_DRAFT, EPOCH, src_dir_fd=root, dst_dir_fd=root)
        sync_folder(root)


@contextmanager
def _draft(root: int, *, label: str, path: Path) -> Iterator[int]:
    """Open and lock the one draft, so that writers come one after the other."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        try:
            handle = os.open(EPOCH_DRAFT, flags, 0o644, dir_fd=root)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR):
                raise _strange_draft(label, path) from error
            raise
        try:
            _lock(handle)
            found = os.fstat(handle)
            # A second name would be somebody's file, about to be overwritten through the draft.
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise _strange_draft(label, path)
            # The writer that was waited for has made its draft the epoch: this handle is that file.
            if _is_draft(root, found):
                yield handle
                return
        finally:
            os.close(handle)


def _lock(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _is_draft(root: int, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(found, os.stat(EPOCH_DRAFT, dir_fd=root, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _parse(raw: bytes) -> tuple[str | None, int | None]:
    if len(raw) > SIZE_LIMIT:
        return None, None
    try:
        value = json.loads(raw)
        usable = value["format"] == 1
        storage, epoch = value["storage"], value["epoch"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, None
    if not usable or not isinstance(storage, str) or type(epoch) is not int or not 0 <= epoch <= LARGEST:
        return None, None
    return storage, epoch


def _unusable(label: str, path: Path) -> StorageError:
    return StorageError(
        f"{label}: {path / EPOCH} cannot be understood. Restore it from another copy of this storage, or update "
        "Keepwell. If there is neither, make sure that the catalogue is up to date, then remove this file; nothing "
        "was touched."
    )


def _strange_draft(label: str, path: Path) -> StorageError:
    return StorageError(
        f"{label}: {path / EPOCH_DRAFT} is not a file of Keepwell's. Move it away, then run again; nothing was touched."
    )
