from __future__ import annotations

import errno
import hashlib
import io
import os
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
import zstandard

from backups.archive import Stopped, sha256_file, write_archive


class Stream:
    """A source of `size` bytes that are not all alike, in reads of uneven length."""

    def __init__(self, size: int, *, fail_at: int | None = None, stop_at: int | None = None) -> None:
        self.content = (b"keepwell" * 131_071 + os.urandom(999))[:1_000_003] * (size // 1_000_003 + 1)
        self.size, self.fail_at, self.stop_at = size, fail_at, stop_at
        self.position = 0
        self.stop = threading.Event()

    def readinto(self, buffer: memoryview) -> int:
        if self.fail_at is not None and self.position >= self.fail_at:
            raise RuntimeError("the source broke")
        if self.stop_at is not None and self.position >= self.stop_at:
            self.stop.set()
        count = min(len(buffer), self.size - self.position, 77_777)
        buffer[:count] = self.content[self.position : self.position + count]
        self.position += count
        return count


class Full:
    """A file that takes a megabyte and, like a raw file, not always all it is given."""

    def __init__(self) -> None:
        self.taken = 0

    def write(self, data: memoryview) -> int:
        if self.taken > 1_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.taken += min(len(data), 1000)
        return min(len(data), 1000)


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("keepwell-")]


@pytest.mark.parametrize("size", [0, 1, 5_000_011], ids=["nothing", "one byte", "5 MB"])
@pytest.mark.parametrize("threads", [0, 1, 2])
def test_what_is_written_is_hashed_and_comes_back(size: int, threads: int) -> None:
    stream = Stream(size)
    file = io.BytesIO()
    written = write_archive(stream, file, stop=threading.Event(), threads=threads)

    assert zstandard.ZstdDecompressor().stream_reader(file.getvalue()).read() == stream.content[:size]
    assert written.sha256 == hashlib.sha256(file.getvalue()).hexdigest()
    assert (written.size, written.stream_bytes) == (len(file.getvalue()), size)
    file.seek(0)
    assert sha256_file(file, threading.Event()) == written.sha256


def test_short_writes_are_completed() -> None:
    class Slow(io.BytesIO):
        def write(self, data: memoryview, /) -> int:  # type: ignore[override]
            return super().write(data[:4097])

    file = Slow()
    written = write_archive(Stream(3_000_000), file, stop=threading.Event())
    assert written.sha256 == hashlib.sha256(file.getvalue()).hexdigest()


def test_a_full_disk_is_raised_and_all_threads_end() -> None:
    stream = Stream(50_000_000)
    stream.content = os.urandom(50_000_000)
    with pytest.raises(OSError, match="No space left") as caught:
        write_archive(stream, Full(), stop=threading.Event())
    assert caught.value.errno == errno.ENOSPC
    assert stream.position < stream.size, "the rest was not read for nothing"
    assert our_threads() == []


def test_a_full_disk_at_the_last_block_is_raised_too() -> None:
    class FullAtOnce:
        def write(self, _: memoryview) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_archive(Stream(10), FullAtOnce(), stop=threading.Event())


def test_an_error_of_the_source_is_raised_and_all_threads_end() -> None:
    with pytest.raises(RuntimeError, match="the source broke"):
        write_archive(Stream(9_000_000, fail_at=4_000_000), io.BytesIO(), stop=threading.Event())
    assert our_threads() == []


@pytest.mark.parametrize("at", [0, 4_000_000])
def test_the_stop_event_ends_the_writing(at: int) -> None:
    stream = Stream(9_000_000, stop_at=at)
    with pytest.raises(Stopped):
        write_archive(stream, io.BytesIO(), stop=stream.stop)
    assert our_threads() == []


def test_hashing_reports_progress_and_stops() -> None:
    steps: list[int] = []
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 40_000_000)
        file.seek(0)
        sha256_file(file, threading.Event(), steps.append)
        assert sum(steps) == 40_000_000
        assert len(steps) == 3
        file.seek(0)
        stop = threading.Event()
        stop.set()
        with pytest.raises(Stopped):
            sha256_file(file, stop)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small tmpfs")
def test_a_real_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    from_mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], check=False, capture_output=True
    )
    if from_mount.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        stream = Stream(20_000_000)
        stream.content = os.urandom(20_000_000)
        with (tmp_path / "a").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            write_archive(stream, file, stop=threading.Event())
    finally:
        subprocess.run(["umount", tmp_path], check=True)
