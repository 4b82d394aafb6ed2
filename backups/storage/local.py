"""A storage that is a local (or mounted) folder."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backups.storage.epoch import read_epoch
from backups.storage.errors import (
    ForeignStorageError,
    StorageError,
    StorageNotEmptyError,
    StorageOfflineError,
    plain_errors,
)
from backups.storage.folders import DIRECTORY, sync_folder
from backups.storage.moving import PUBLISHING, TRASHING, Move
from backups.storage.names import EPOCH, TRASH, is_bookkeeping
from backups.storage.opened import OpenStorage
from backups.storage.sentinel import STORAGE_UID, check_sentinel, read_sentinel, write_sentinel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

KIND = "local"

# What a freshly made file system, or an earlier start of ours, may have put there.
_HARMLESS = {"lost+found", TRASH}


@dataclass(frozen=True)
class LocalStorage:
    """The folder `path` that carries the sentinel of `uid`; `name` is what people call it in messages."""

    path: Path
    uid: str
    name: str = ""

    @property
    def label(self) -> str:
        return f"Storage {self.name or self.path}"

    @classmethod
    def initialise(
        cls, path: Path, uid: str, *, created: datetime, allow_existing: bool = False, name: str = ""
    ) -> LocalStorage:
        """Make a folder a storage by writing its sentinel durably; harmless when it is this storage already.

        The folder is created when its parent exists. `allow_existing` permits one that holds other things (a storage
        whose sentinel was lost). Raises `ForeignStorageError`, `StorageNotEmptyError`, `StorageOfflineError`,
        `StorageError`; ValueError for a `uid` of another form.
        """
        if STORAGE_UID.fullmatch(uid) is None:
            raise ValueError(f"{uid!r} is not a storage's uid.")
        storage = cls(Path(path), uid, name)
        with plain_errors(storage.label, f"preparing {path}"):
            try:
                storage.path.mkdir(mode=0o700, exist_ok=True)
                root = os.open(storage.path, DIRECTORY)
            except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
                raise StorageOfflineError(
                    f"{storage.label}: {path} cannot be made a storage, because a folder above it is missing or it is "
                    "not a folder. Create the folder or mount the disk, then try again."
                ) from error
            try:
                storage._claim(root, created=created, allow_existing=allow_existing)
            finally:
                os.close(root)
        return storage

    @contextmanager
    def open(
        self, *, publishing: Sequence[Move] = PUBLISHING, trashing: Sequence[Move] = TRASHING
    ) -> Iterator[OpenStorage]:
        """Open the folder once and check its sentinel; everything then goes through that one handle.

        `publishing` and `trashing` are the ways to name a file without overwriting, in order of preference. Raises
        `StorageOfflineError`, `SentinelMissingError`, `ForeignStorageError`.
        """
        try:
            # The path itself may lead through links (an administrator's choice); nothing below it may.
            root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageOfflineError(
                f"{self.label}: {self.path} cannot be opened ({(error.strerror or str(error)).lower()}). Check that "
                "the disk is mounted and readable, then run again."
            ) from error
        try:
            with plain_errors(self.label, "reading its sentinel"):
                check_sentinel(root, uid=self.uid, label=self.label, path=self.path)
            yield OpenStorage(
                root, uid=self.uid, label=self.label, path=self.path, publishing=publishing, trashing=trashing
            )
        finally:
            os.close(root)

    def _claim(self, root: int, *, created: datetime, allow_existing: bool) -> None:
        found = read_sentinel(root, label=self.label, path=self.path)
        if found == self.uid:
            return
        if found is not None:
            raise ForeignStorageError(
                f"{self.label}: {self.path} is already the storage {found}. Choose another folder, or import that "
                "storage instead."
            )
        with os.scandir(root) as entries:
            others = any(entry.name not in _HARMLESS and not is_bookkeeping(entry.name) for entry in entries)
        foreign = self._has_foreign_epoch(root)
        if (others or foreign) and not allow_existing:
            raise StorageNotEmptyError(
                f"{self.label}: {self.path} is not empty. Choose an empty folder, or confirm that you mean this one."
            )
        if foreign:
            # The count of a storage that this folder is no more: it would keep the new one from ever being cleaned up.
            os.unlink(EPOCH, dir_fd=root)
            sync_folder(root)
        try:
            write_sentinel(root, uid=self.uid, created=created)
        except FileExistsError as error:
            raise StorageError(f"{self.label}: {self.path} was set up by someone else just now. Try again.") from error

    def _has_foreign_epoch(self, root: int) -> bool:
        try:
            read_epoch(root, uid=self.uid, label=self.label, path=self.path)
        except ForeignStorageError:
            return True
        return False
