"""Folders below a storage: opened from its own handle, never through a link."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def open_folder(root: int, name: str, *, create: bool = False) -> Iterator[int]:
    """Open the folder `name` below `root`; raises FileNotFoundError unless it is there or to be created."""
    try:
        handle = os.open(name, DIRECTORY, dir_fd=root)
    except FileNotFoundError:
        if not create:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=root)
        sync_folder(root)
        handle = os.open(name, DIRECTORY, dir_fd=root)
    try:
        yield handle
    finally:
        os.close(handle)


def size_of(folder: int, filename: str) -> int | None:
    """Size of a regular file; None when there is none (a link or a folder of that name is not ours)."""
    try:
        found = os.stat(filename, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def sync_folder(handle: int) -> None:
    """Put a folder's names on disk. Network file systems that cannot say EINVAL: they write names through anyway."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
