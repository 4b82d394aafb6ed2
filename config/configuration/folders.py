"""The folders of storages: looked at before anything is written, and put back when writing did not go through."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backups.models import Backup, Storage
from backups.services.errors import refuse
from backups.services.storages import clean_storage_path, storage_check
from backups.storage import StorageError
from backups.storage.folders import DIRECTORY
from backups.storage.names import SENTINEL, TRASH
from backups.storage.sentinel import read_sentinel

MAX_PATH = 1000
HARMLESS = {"lost+found", TRASH, SENTINEL}


def check_storage_folder(row: Storage | None, name: str, path: str, *, use_existing: bool) -> str:
    """The cleaned path, when the storage can be there. Changes nothing. Raises ValidationError keyed by field.

    A storage whose path stays is not looked at: its disk may be away. One with backups must be at its new path already.
    """
    clean = clean_storage_path(path)
    if len(clean) > MAX_PATH:
        raise refuse("path", f"The path has {len(clean)} characters; {MAX_PATH} are the most.")
    if row is not None and row.path == clean:
        return clean
    if row is not None and Backup.objects.filter(storage=row).on_storage().exists():
        storage_check(Storage(uid=row.uid, name=name, path=clean))
        return clean
    _refuse_folder(Path(clean), uid=row.uid if row is not None else "", use_existing=use_existing)
    return clean


def _refuse_folder(path: Path, *, uid: str, use_existing: bool) -> None:
    if path.is_symlink():
        raise refuse("path", f"{path} is a link. Give the folder that it leads to.")
    if not path.exists():
        if not path.parent.is_dir():
            raise refuse("path", f"{path} cannot be made: {path.parent} is not a folder. Create it, or mount the disk.")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise refuse("path", f"{path} cannot be made: this user may not write to {path.parent}.")
        return
    try:
        with _opened(path) as root, os.scandir(root) as entries:
            found = read_sentinel(root, label=f"{path}", path=path)
            others = any(entry.name not in HARMLESS and not entry.name.startswith(SENTINEL) for entry in entries)
    except OSError as error:
        raise refuse("path", f"{path} cannot be used: {(error.strerror or str(error)).lower()}.") from error
    except StorageError as error:
        raise refuse("path", str(error)) from error
    if found and found != uid:
        raise refuse("path", f"{path} is the storage {found} already. Choose another folder, or import that storage.")
    if others and not use_existing:
        raise refuse(
            "path", f"{path} is not empty. Choose an empty folder, or set use_existing = true to use it as it is."
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise refuse("path", f"This user may not write to {path}. Change its permissions.")


@contextmanager
def undoing_sentinels() -> Iterator[Callable[[str], None]]:
    """Yield a function to call with a path before it is set up; if the body raises, the set-up is taken back."""
    noted: list[tuple[Path, bool, bool]] = []

    def note(text: str) -> None:
        path = Path(text)
        noted.append((path, path.exists(), (path / SENTINEL).exists()))

    try:
        yield note
    except BaseException:
        for path, had_folder, had_sentinel in noted:
            if not had_sentinel:
                (path / SENTINEL).unlink(missing_ok=True)
            if not had_folder:
                with suppress(OSError):
                    path.rmdir()
        raise


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, DIRECTORY)
    try:
        yield handle
    finally:
        os.close(handle)
