"""The hash of an archive, read without unpacking it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO

from backups.archive.errors import Stopped

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

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
