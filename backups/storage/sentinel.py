"""The file that says which storage a folder is, so that an unmounted disk is never taken for an empty one."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from backups.storage.errors import ForeignStorageError, SentinelMissingError, StorageError
from backups.storage.folders import sync_folder
from backups.storage.moving import PUBLISHING, move
from backups.storage.names import SENTINEL

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

SIZE_LIMIT = 4096
STORAGE_UID = re.compile(r"[0-9A-Za-z-]{8,64}", re.ASCII)


def check_sentinel(root: int, *, uid: str, label: str, path: Path) -> None:
    """Raise `SentinelMissingError` or `ForeignStorageError` unless the folder is the storage `uid`; OSErrors pass."""
    found = read_sentinel(root, label=label, path=path)
    if found is None:
        raise SentinelMissingError(
            f"{label}: {path} has no Keepwell sentinel ({SENTINEL}). Is the disk mounted? Nothing was "
            "touched. If it is mounted and only this file was lost, have it written again on the storage’s page."
        )
    if found != uid:
        raise ForeignStorageError(
            f"{label}: {path} belongs to another storage ({found}, not {uid}). Check which disk is mounted there; "
            "nothing was touched."
        )


def read_sentinel(root: int, *, label: str, path: Path) -> str | None:
    """Give the uid in the folder's sentinel, None when there is none; an unreadable one is a `StorageError`."""
    try:
        handle = os.open(SENTINEL, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        raw = file.read(SIZE_LIMIT + 1)
    try:
        value = json.loads(raw)
        uid = value["storage"] if value["format"] == 1 else None
    except (ValueError, KeyError, TypeError, RecursionError):
        uid = None
    if not isinstance(uid, str) or STORAGE_UID.fullmatch(uid) is None:
        raise StorageError(
            f"{label}: the sentinel {path / SENTINEL} cannot be understood. Restore it from another copy of this "
            "storage, or update Keepwell; nothing was touched."
        )
    return uid


def write_sentinel(root: int, *, uid: str, created: datetime) -> None:
    """Publish a new sentinel durably; raises FileExistsError when there is one."""
    raw = json.dumps({"format": 1, "storage": uid, "created": created.isoformat()}).encode() + b"\n"
    temporary = f"{SENTINEL}.{uid}.part"
    handle = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=root
    )
    with os.fdopen(handle, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    move(PUBLISHING, root, temporary, root, SENTINEL)
    sync_folder(root)
