"""Compress a stream into a file while other threads hash and write, in bounded blocks."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import zstandard

from backups.archive.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

BLOCK = 1 << 20
# Blocks that may wait for a consumer: with two consumers this bounds what is in flight to 16 MiB.
BACKLOG = 8
# Every zstandard worker owns a job buffer of about 10 MB; four keep the process well under 150 MB.
MAX_THREADS = 4


class Readable(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None: ...


class Writable(Protocol):
    def write(self, data: memoryview, /) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class Written:
    """What reached the file: `size` and `sha256` (hex) of the compressed bytes, `stream_bytes` before compression."""

    size: int
    sha256: str
    stream_bytes: int


def write_archive(
    stream: Readable, file: Writable, *, stop: threading.Event, level: int = 3, threads: int = 0
) -> Written:
    """Compress `stream` to its end into `file` with zstandard.

    `threads` 0 means one per usable CPU, four at most. The file is not synced: that is the storage's promise. Raises
    `Stopped` when `stop` is set; whatever the stream or the file raises comes through unchanged, and no thread
    outlives the call.
    """
    compressor = zstandard.ZstdCompressor(
        level=level, threads=min(threads or _usable_cpus(), MAX_THREADS), write_checksum=True
    )
    chunker = compressor.chunker(chunk_size=BLOCK)
    digest = hashlib.sha256()
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    stream_bytes = 0
    with _Consumer("keepwell-hash", digest.update) as hashing, _Consumer("keepwell-write", _writer(file)) as writing:

        def pass_on(chunk: bytes) -> None:
            hashing.put(chunk)
            writing.put(chunk)

        while count := _fill(stream, view, stop):
            stream_bytes += count
            for chunk in chunker.compress(view[:count]):
                pass_on(chunk)
        if stop.is_set():
            raise Stopped
        for chunk in chunker.finish():  # type: ignore[no-untyped-call]  # zstandard's stub
            pass_on(chunk)
    return Written(size=writing.bytes, sha256=digest.hexdigest(), stream_bytes=stream_bytes)


def _fill(stream: Readable, view: memoryview, stop: threading.Event) -> int:
    """Read until the block is full or the stream ends: zstandard's threads run side by side on large inputs only."""
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])
        if stop.is_set():
            raise Stopped
        if not count:
            break
        filled += count
    return filled


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0))


def _writer(file: Writable) -> Callable[[bytes], None]:
    def write(chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            written = file.write(view)
            if not written:
                raise OSError("The file took no bytes.")
            view = view[written:]

    return write


class _Consumer:
    """A thread that takes blocks from a bounded queue; its failure is raised where the next block is put.

    After a failure it goes on emptying the queue, so that nobody waits for a place in it.
    """

    def __init__(self, name: str, consume: Callable[[bytes], None]) -> None:
        self.bytes = 0
        self._consume = consume
        self._queue: queue.Queue[bytes | None] = queue.Queue(BACKLOG)
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> _Consumer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abandoned = error is not None
        self._queue.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def put(self, chunk: bytes) -> None:
        self._raise()
        self._queue.put(chunk)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (chunk := self._queue.get()) is not None:
            if self._error is not None or self._abandoned:
                continue
            try:
                self._consume(chunk)
                self.bytes += len(chunk)
            except BaseException as error:  # noqa: BLE001  (raised again in the thread that called write_archive)
                self._error = error
