"""Give a file its final name without ever overwriting another: three ways, for file systems of different abilities."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

# (source folder's handle, name, destination folder's handle, name). Raises FileExistsError when the name is taken.
type Move = Callable[[int, str, int, str], None]

_UNSUPPORTED = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK}
_RENAME_NOREPLACE = 1


def move_by_link(source: int, name: str, destination: int, new_name: str) -> None:
    """Link, then unlink. Interrupted between the two, both names are the one file, and a second call completes it."""
    try:
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=destination, follow_symlinks=False)
    except FileExistsError:
        if not _same_file(source, name, destination, new_name):
            raise
    os.unlink(name, dir_fd=source)


def move_by_rename(source: int, name: str, destination: int, new_name: str) -> None:
    """Linux's `renameat2(RENAME_NOREPLACE)`: atomic, but unknown to some network file systems."""
    renameat2 = _renameat2()
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if renameat2(source, os.fsencode(name), destination, os.fsencode(new_name), _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EEXIST and _same_file(source, name, destination, new_name):
        os.unlink(name, dir_fd=source)
        return
    raise OSError(code, os.strerror(code), name)


def move_by_reservation(source: int, name: str, destination: int, new_name: str) -> None:
    """Create the name exclusively and empty, then rename over it.

    An empty file of that name is an earlier reservation: an artifact or sidecar is never empty.
    """
    os.stat(name, dir_fd=source, follow_symlinks=False)  # reserve nothing for a file that is not there
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(new_name, flags, 0o600, dir_fd=destination))
    except FileExistsError:
        if os.stat(new_name, dir_fd=destination, follow_symlinks=False).st_size:
            raise
    try:
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=destination)
    except OSError:
        with suppress(OSError):
            if os.stat(new_name, dir_fd=destination, follow_symlinks=False).st_size == 0:
                os.unlink(new_name, dir_fd=destination)
        raise


PUBLISHING: Sequence[Move] = (move_by_link, move_by_rename, move_by_reservation)
TRASHING: Sequence[Move] = (move_by_rename, move_by_link, move_by_reservation)


def move(ways: Sequence[Move], source: int, name: str, destination: int, new_name: str) -> None:
    """Use the first way that the file system supports; raises FileExistsError, or the OSError of the last way tried."""
    for position, way in enumerate(ways, 1):
        try:
            way(source, name, destination, new_name)
        except OSError as error:
            if error.errno not in _UNSUPPORTED or position == len(ways):
                raise
        else:
            return


def _same_file(source: int, name: str, destination: int, new_name: str) -> bool:
    first = os.stat(name, dir_fd=source, follow_symlinks=False)
    second = os.stat(new_name, dir_fd=destination, follow_symlinks=False)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino) and (source, name) != (destination, new_name)


@functools.cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]  # a ctypes function is Any
