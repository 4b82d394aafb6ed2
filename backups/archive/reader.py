"""Read an archive without unpacking it: its hash, or the list of what is in it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO

from backups.archive.errors import Stopped
from backups.archive.members import Member, MemberStream

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

# Large enough that the hash, not the read, takes the time; small enough to stay in the second-level cache.
BLOCK = 256 * 1024


def sha256_file(file: BinaryIO, stop: threading.Event, progress: Callable[[int], None] | None = None) -> str:
    """Hash from the file's position to its end, as 64 hex digits.

    `progress` gets the number of bytes read since its last call, about once per 16 MiB and at the end.
    Raises `Stopped`.
    """
    digest = hashlib.sha256()
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    unreported = 0
    while count := file.readinto(view):  # type: ignore[attr-defined]  # typeshed's BinaryIO lacks readinto
        if stop.is_set():
            raise Stopped
        digest.update(view[:count])
        unreported += count
        if progress is not None and unreported >= 16 << 20:
            progress(unreported)
            unreported = 0
    if progress is not None and unreported:
        progress(unreported)
    return digest.hexdigest()


def open_members(file: BinaryIO, *, stop: threading.Event | None = None) -> Iterator[Member]:
    """List an archive's members in order, reading it once with flat memory.

    Raises `DamagedArchiveError` where the archive is broken or cut off, after the members before that place.
    """
    with MemberStream(file, stop=stop) as members:
        yield from members
