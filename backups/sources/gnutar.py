"""GNU tar as a child process: its archive as a stream, its list of names as counts, its complaints as log lines."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from backups.archive.errors import Stopped
from backups.sources.errors import SourceError
from scheduling.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from backups.sources.kinds import Children, Log

PIPE_SIZE = 1 << 20
# 64 KiB records: fewer, larger writes than tar's own 10 KiB, and little padding after a small tree.
BLOCKING_FACTOR = 128
WARNINGS_LOGGED = 1000
# Between looks at the list of names. Each look empties the pipe, which holds some 15,000 names.
COUNT_INTERVAL = 0.02
# How long a blocked read may keep a stop waiting.
POLL_MS = 100
TERMINATE_PATIENCE = 0.5
KILL_PATIENCE = 2.0
END_PATIENCE = 60.0
VERSION_PATIENCE = 30.0
LOOK_SECONDS = 0.1
LINE_LIMIT = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class FilesSummary:
    """`bytes` are those of the uncompressed archive; `files` is every entry that is not a folder."""

    files: int
    directories: int
    bytes: int
    warnings: int

    def to_mapping(self) -> dict[str, int | str]:
        return {
            "files": self.files,
            "directories": self.directories,
            "bytes": self.bytes,
            "warnings": self.warnings,
        }


def find_gnu_tar(stop: threading.Event | None = None) -> str:
    """Give the path of a `tar` that is GNU's, or raise `SourceError`: others pack other things with these options.

    Raises `Stopped` soon after `stop` is set.
    """
    path = shutil.which("tar")
    if path is None:
        raise SourceError("GNU tar is not installed, and backups of files need it. Install the package tar.")
    try:
        said = _version(path, stop or threading.Event())
    except OSError as error:
        raise SourceError(f"{path} cannot be run: {error}. Install GNU tar (the package tar).") from error
    if b"GNU tar" not in said:
        raise SourceError(f"{path} is not GNU tar, and backups of files need it. Install GNU tar (the package tar).")
    return path


def _version(path: str, stop: threading.Event) -> bytes:
    """What `tar --version` says; raises OSError when it does not within half a minute."""
    with subprocess.Popen(
        [path, "--version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
        env=_environment(),
    ) as process:
        deadline = time.monotonic() + VERSION_PATIENCE
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    said: bytes = process.communicate(timeout=LOOK_SECONDS)[0]
                    return said
                if stop.is_set():
                    raise Stopped
                if time.monotonic() > deadline:
                    raise TimeoutError(f"it says nothing for {VERSION_PATIENCE:.0f} s")
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


class GnuTar:
    """A running tar. A context manager: leaving it ends the child, whatever state it is in."""

    def __init__(
        self,
        tar: str,
        roots: Sequence[Path],
        exclude: Sequence[str],
        *,
        log: Log,
        stop: threading.Event,
        children: Children = contextlib.nullcontext,
    ) -> None:
        self._executable = tar
        self._arguments = ["tar", *_OPTIONS, *_exclusions(exclude)]
        self._names = [os.fsencode(root)[1:] or b"." for root in roots]
        self._shown = tuple(printable(name) for name in self._names)
        self._log = log
        self._stop = stop
        self._children = children
        self._watched = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._bytes = 0
        self._counter = _Counter()
        self._warnings = 0
        self._last_lines: deque[str] = deque(maxlen=5)
        self._summary: FilesSummary | None = None

    def __enter__(self) -> Self:
        out_read, out_write = os.pipe()
        index_read, index_write = os.pipe()
        error_read, error_write = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*self._arguments, f"--index-file=/dev/fd/{index_write}", "--", *self._names],
                # tar puts the name it was called by before each of its messages.
                executable=self._executable,
                stdin=subprocess.DEVNULL,
                stdout=out_write,
                stderr=error_write,
                pass_fds=(index_write,),
                process_group=0,
                env=_environment(),
                cwd="/",
            )
        except OSError as error:
            for handle in (out_read, index_read, error_read):
                os.close(handle)
            raise SourceError(f"GNU tar could not be started: {error.strerror}.") from error
        finally:
            for handle in (out_write, index_write, error_write):
                os.close(handle)
        for handle in (out_read, index_read):
            # Without the privilege for it the limit for all pipes of a user may be used up: slower, not wrong.
            with contextlib.suppress(OSError):
                fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        os.set_blocking(out_read, False)
        self._out: int | None = out_read
        self._poll = select.poll()
        self._poll.register(out_read, select.POLLIN)
        self._threads = [
            threading.Thread(target=self._counter.run, args=(index_read,), name="keepwell-tar-names", daemon=True),
            threading.Thread(target=self._listen, args=(error_read,), name="keepwell-tar-errors", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._watched.enter_context(self._children(self._process.pid))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._watched:
            self._kill()

    @property
    def bytes_read(self) -> int:
        return self._bytes

    @property
    def files_read(self) -> int:
        """How many names tar has listed that are not folders."""
        return self._counter.files

    @property
    def summary(self) -> FilesSummary:
        """What was read; raises RuntimeError before the stream's end."""
        if self._summary is None:
            raise RuntimeError("The stream has not been read to its end.")
        return self._summary

    def readinto(self, buffer: memoryview) -> int:
        """Read what is there, waiting for something; 0 is the end. Raises `Stopped`, or `SourceError` at a bad end."""
        if self._out is None:
            return 0
        while True:
            if self._stop.is_set():
                self._kill()
                raise Stopped
            try:
                count = os.readv(self._out, [buffer])
            except BlockingIOError:
                self._poll.poll(POLL_MS)
                continue
            if count == 0:
                self._finish()
            self._bytes += count
            return count

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def warn(self, text: str) -> None:
        """Log a warning; after the first thousand they are only counted."""
        with self._lock:
            self._warnings += 1
            number = self._warnings
        if number <= WARNINGS_LOGGED:
            self._log("warning", text)

    def _finish(self) -> None:
        status = self._wait(END_PATIENCE, self._stop)
        if self._stop.is_set():
            # Whoever stopped us may have ended tar as well: then this end is no fault of tar's.
            self._kill()
            raise Stopped
        if status is None or status not in (0, 1):
            how = (
                "did not end" if status is None else f"ended with signal {-status}" if status < 0 else f"said {status}"
            )
            last = "; ".join(self._last_lines) or "it gave no reason"
            raise SourceError(f"GNU tar failed ({how}): {last}. Nothing was kept of this copy; run again.")
        if self._counter.files == 0:
            raise SourceError(
                "Nothing was left to back up: the paths are empty, or everything in them is excluded or unreadable. "
                "Check the disk, the exclude patterns and the warnings above, then run again."
            )
        if self._warnings > WARNINGS_LOGGED:
            self._log("warning", f"{self._warnings - WARNINGS_LOGGED} further warnings are counted but not shown.")
        self._summary = FilesSummary(
            files=self._counter.files,
            directories=self._counter.directories,
            bytes=self._bytes,
            warnings=self._warnings,
        )

    def _wait(self, patience: float, stop: threading.Event | None = None) -> int | None:
        """Close our end, let the child and both threads end, and give the exit status, None when it has none in time.

        Returns early when `stop` is set.
        """
        if self._out is not None:
            os.close(self._out)
            self._out = None
        deadline = time.monotonic() + patience
        while self._is_alive and time.monotonic() < deadline and not (stop is not None and stop.is_set()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=LOOK_SECONDS)
                self._counter.hurry.set()
                for thread in self._threads:
                    thread.join(timeout=LOOK_SECONDS)
        return self._process.poll()

    @property
    def _is_alive(self) -> bool:
        """Whether tar runs, or something that it started and that holds its pipes."""
        return self._process.poll() is None or any(thread.is_alive() for thread in self._threads)

    def _kill(self) -> None:
        for number, patience in ((signal.SIGTERM, TERMINATE_PATIENCE), (signal.SIGKILL, KILL_PATIENCE)):
            if self._is_alive:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)
            self._wait(patience)
        if self._is_alive:
            # A read from a dead network disk cannot be killed; the thread that started us must not hang with it.
            self._log("error", "GNU tar does not end: it waits for a disk that does not answer.")

    def _listen(self, handle: int) -> None:
        rest = b""
        with os.fdopen(handle, "rb", buffering=0) as pipe:
            while block := pipe.read(LINE_LIMIT):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    self._complaint(line)
                rest = rest[:LINE_LIMIT]
        if rest:
            self._complaint(rest)

    def _complaint(self, line: bytes) -> None:
        text = _readable(line.removeprefix(b"tar: "))
        if text.startswith("Exiting with failure status"):
            return
        self._last_lines.append(text[:500])
        if text.startswith(self._shown):
            text = "/" + text
        self.warn(text.replace(": Warning: ", ": ")[:2000])


class _Counter:
    """Counts the names tar lists (folders end in "/"), in blocks, without keeping any."""

    def __init__(self) -> None:
        self.directories = 0
        self._names = 0
        self.hurry = threading.Event()

    def run(self, handle: int) -> None:
        last = b""
        with os.fdopen(handle, "rb", buffering=0) as pipe:
            while block := pipe.read(PIPE_SIZE):
                self._names += block.count(b"\n")
                # A name's end can be the block's: look at one byte of the block before.
                self.directories += (last + block).count(b"/\n")
                last = block[-1:]
                # Sleeping lets names pile up: tar writes each by itself, and waking for each would cost more than tar.
                self.hurry.wait(COUNT_INTERVAL)

    @property
    def files(self) -> int:
        return self._names - self.directories


_OPTIONS = (
    "--create",
    "--file=-",
    # The one format with nanoseconds, extended attributes and names of any length and bytes.
    "--format=pax",
    # Access and change times would only make two copies of the same tree differ.
    "--pax-option=delete=atime,delete=ctime",
    "--sparse",
    # Access control lists are among them, as "system.posix_acl_*". `--acls` would store them as text for other tars
    # too, at 40 % more CPU time for every file, with or without a list.
    "--xattrs",
    "--ignore-failed-read",
    "--no-unquote",
    "--quoting-style=escape",
    f"--blocking-factor={BLOCKING_FACTOR}",
    "--verbose",
    "--directory=/",
)


def _exclusions(patterns: Sequence[str]) -> list[str]:
    options = ["--wildcards", "--wildcards-match-slash"]
    for pattern in patterns:
        options.append("--anchored" if pattern.startswith("/") else "--no-anchored")
        options.append(f"--exclude={pattern.removeprefix('/')}")
    return options


def _environment() -> dict[str, str]:
    """English messages, and none of the variables that add options to tar."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


_OCTAL = re.compile(rb"\\(\\|[0-7]{3})")


def _readable(line: bytes) -> str:
    """Undo tar's octal escapes for bytes above ASCII, so that "é" stays "é", and escape what is left to escape."""

    def undo(match: re.Match[bytes]) -> bytes:
        digits = match[1]
        return bytes([int(digits, 8)]) if digits != b"\\" and 0x80 <= int(digits, 8) <= 0xFF else match[0]

    return printable(_OCTAL.sub(undo, line))
