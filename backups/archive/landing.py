"""The folder an archive is unpacked into, reached only through one directory handle and never through a link."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Self

from backups.archive.errors import DestinationError, ExtractError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

type Parts = tuple[bytes, ...]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# No file system Keepwell reads from nests deeper through ordinary paths (4096 bytes, two for each level).
DEPTH_LIMIT = 2048


def safe_parts(path: bytes, what: str) -> Parts:
    """Split an archive's path into components below the destination; a leading "/" and "." are dropped.

    Raises `ExtractError` for "..", NUL and absurd depth; `what` names the member in the message.
    """
    parts = tuple(part for part in path.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise ExtractError(f"Unpacking was refused: {what} leads out of the destination.")
    if b"\0" in path or len(parts) > DEPTH_LIMIT:
        raise ExtractError(f"Unpacking was refused: {what} is not a usable name.")
    return parts


class Landing:
    """A new or empty folder. Every name is looked up component by component from its handle, with O_NOFOLLOW.

    Later entries win over earlier ones of the same name, as with tar, except that a folder with something in it stays.
    """

    def __init__(self, destination: Path) -> None:
        try:
            destination.mkdir(mode=0o700, exist_ok=True)
            self._root = os.open(destination, DIRECTORY)
        except OSError as error:
            raise DestinationError(
                f"{destination} cannot be used as the destination: {error.strerror}. Choose a new folder inside an "
                "existing one."
            ) from error
        with os.scandir(self._root) as entries:
            taken = next(entries, None) is not None
        if taken:
            os.close(self._root)
            raise DestinationError(f"{destination} is not empty. Choose a new or an empty folder; nothing was written.")
        # Archives list a folder's entries together, so one remembered handle saves most look-ups.
        self._near: tuple[Parts, int] = ((), os.dup(self._root))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._near[1])
        os.close(self._root)

    def folder(self, parts: Parts, *, create: bool) -> int:
        """Give a handle that stays valid until the next call. Raises OSError where a component is missing or a link."""
        known, handle = self._near
        if known == parts:
            return handle
        start = len(known) if parts[: len(known)] == known else 0
        current = os.dup(handle if start else self._root)
        try:
            for part in parts[start:]:
                following = self._step(current, part, create=create)
                os.close(current)
                current = following
        except BaseException:
            os.close(current)
            raise
        os.close(handle)
        self._near = (parts, current)
        return current

    def make_folder(self, parts: Parts) -> None:
        parent = self.folder(parts[:-1], create=True)
        os.close(self._step(parent, parts[-1], create=True))

    def create_file(self, parts: Parts) -> int:
        """Open a file that did not exist before, for writing; an earlier one of the same name is unlinked first."""
        parent = self.folder(parts[:-1], create=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(parts[-1], flags, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, parts[-1])
            return os.open(parts[-1], flags, 0o600, dir_fd=parent)

    def link(self, existing: Parts, parts: Parts) -> bool:
        """Make a hard link to a regular file below this folder; False when there is no such file."""
        if existing == parts:
            return self._mode(existing) is not None
        mode = self._mode(existing)
        if mode is None or not stat.S_ISREG(mode):
            return False
        source = os.dup(self.folder(existing[:-1], create=False))
        try:
            parent = self.folder(parts[:-1], create=True)
            for attempt in (1, 2):
                try:
                    os.link(existing[-1], parts[-1], src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
                    break
                except FileExistsError:
                    if attempt == 2:
                        raise
                    self._clear(parent, parts[-1])
        finally:
            os.close(source)
        return True

    def symlink(self, target: bytes, parts: Parts) -> int:
        """Create the link and give its parent's handle, valid until the next call."""
        parent = self.folder(parts[:-1], create=True)
        try:
            os.symlink(target, parts[-1], dir_fd=parent)
        except FileExistsError:
            self._clear(parent, parts[-1])
            os.symlink(target, parts[-1], dir_fd=parent)
        return parent

    def _mode(self, parts: Parts) -> int | None:
        if not parts:
            return None
        try:
            return os.stat(parts[-1], dir_fd=self.folder(parts[:-1], create=False), follow_symlinks=False).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise

    @staticmethod
    def _step(parent: int, part: bytes, *, create: bool) -> int:
        try:
            return os.open(part, DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
        except OSError as error:
            if not create or error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            os.unlink(part, dir_fd=parent)
        os.mkdir(part, 0o700, dir_fd=parent)
        return os.open(part, DIRECTORY, dir_fd=parent)

    @staticmethod
    def _clear(parent: int, part: bytes) -> None:
        """Remove one file, link or empty folder. Never recurses: OSError ENOTEMPTY when the folder is not empty."""
        if stat.S_ISDIR(os.stat(part, dir_fd=parent, follow_symlinks=False).st_mode):
            os.rmdir(part, dir_fd=parent)
        else:
            os.unlink(part, dir_fd=parent)
