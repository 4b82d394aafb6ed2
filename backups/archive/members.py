"""Members of a tar archive in zstandard frames, one after the other, from bytes that nobody vouches for.

Python's `tarfile` understands every dialect (pax, GNU long names, three kinds of sparse maps) but takes damage in the
middle for the end, keeps every member in memory, believes the sizes of extended headers and loses its place after a
sparse file of over 8 GiB. This module closes these gaps.
"""

from __future__ import annotations

import enum
import tarfile
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import IO, TYPE_CHECKING, BinaryIO, Protocol, Self, cast

import zstandard

from backups.archive.errors import DamagedArchiveError, Stopped

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping
    from types import TracebackType

BLOCK = 1 << 20
# All headers of one member together: names, extended attributes (64 KiB a file on Linux) and the sparse map, which
# takes some 25 bytes for each extent: this is enough for 600,000.
HEADERS_LIMIT = 16 << 20
# What the decompressor may reserve; `zstd` itself needs a flag for more.
WINDOW_LIMIT = 128 << 20


class MemberKind(enum.StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    SPECIAL = "special"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One entry as the archive states it. `path` and `link` are untrusted bytes; `size` is in bytes, holes included.

    `extents` are (offset, length) of the stored data of a sparse file, None for a plain one.
    """

    path: bytes
    kind: MemberKind
    size: int
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    link: bytes = b""
    extents: tuple[tuple[int, int], ...] | None = None
    attributes: Mapping[str, bytes] = field(default_factory=dict)
    has_acl: bool = False


class MemberStream:
    """Iterates over the members once; `read_data` belongs to the member yielded last."""

    def __init__(self, file: BinaryIO, *, stop: threading.Event | None = None) -> None:
        self._input = _Decompressed(file, stop)
        self._tar: tarfile.TarFile | None = None
        self._info: tarfile.TarInfo | None = None
        self._current: Member | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tar is not None:
            self._tar.close()
        self._input.close()

    def __iter__(self) -> Iterator[Member]:
        try:
            self._tar = self._open()
            while (info := self._next(self._tar)) is not None:
                self._info = info
                self._current = _member(info)
                yield self._current
            self._finish(self._tar)
        except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError, IndexError) as error:
            raise DamagedArchiveError(f"The archive is damaged: {error}.") from error

    def read_data(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset in the file, bytes) of the current member's stored data, in blocks of at most 1 MiB."""
        tar, info, member = self._tar, self._info, self._current
        if tar is None or info is None or member is None:
            raise RuntimeError("There is no current member.")
        source = _source(tar)
        source.seek(info.offset_data)
        position = 0
        for start, length in [(0, member.size)] if member.extents is None else member.extents:
            if start < position or length < 0 or start + length > member.size:
                raise DamagedArchiveError(f"The archive is damaged: {info.name!r} has an impossible sparse map.")
            position, end = start, start + length
            while position < end:
                block = source.read(min(BLOCK, end - position))
                if not block:
                    raise DamagedArchiveError(f"The archive ends in the middle of {info.name!r}.")
                yield position, block
                position += len(block)

    def _open(self) -> tarfile.TarFile:
        with self._input.reading_headers():
            return tarfile.open(
                fileobj=cast("IO[bytes]", self._input),  # it needs read() alone
                mode="r|",
                bufsize=BLOCK // 4,
                tarinfo=_StrictTarInfo,
                encoding="utf-8",
                errors="surrogateescape",
            )

    def _next(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        if self._info is not None and self._current is not None:
            if self._current.extents is not None:
                # tarfile adds the size with holes when a pax header states the size (a sparse file of over 8 GiB).
                stored = sum(length for _, length in self._current.extents)
                tar.offset = self._info.offset_data + -(-stored // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            # Here rather than inside next(): what is skipped is data, and does not count as headers.
            _source(tar).seek(tar.offset)
        with self._input.reading_headers():
            info = tar.next()
        vars(tar)["members"].clear()  # tarfile keeps every member; `stream=True` came with Python 3.13
        return info

    def _finish(self, tar: tarfile.TarFile) -> None:
        """Read the padding to its end, so that the frame's own checksum is checked too."""
        while block := _source(tar).read(BLOCK):
            if block.count(0) != len(block):
                raise DamagedArchiveError("The archive is damaged: something follows its end.")


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def seek(self, position: int, /) -> object: ...


def _source(tar: tarfile.TarFile) -> _Source:
    """Give tarfile's own forward-only stream, which keeps the position that `offset` and `offset_data` refer to."""
    return cast("_Source", tar.fileobj)


class _StrictTarInfo(tarfile.TarInfo):
    """Refuses damaged headers, which `tarfile` would take for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # the one proper end; the class is not public
                raise
            raise DamagedArchiveError(f"The archive is damaged or ends early: {error}.") from error


class _Decompressed:
    """The bytes inside the zstandard frames; counts what is read while headers are parsed, and looks at `stop`."""

    def __init__(self, file: BinaryIO, stop: threading.Event | None) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT)
        self._reader = decompressor.stream_reader(file, read_size=BLOCK, read_across_frames=True, closefd=False)
        self._stop = stop
        self._headers_left: int | None = None

    def read(self, size: int) -> bytes:
        if self._stop is not None and self._stop.is_set():
            raise Stopped
        data = self._reader.read(size)
        if self._headers_left is not None:
            self._headers_left -= len(data)
            if self._headers_left < 0:
                raise DamagedArchiveError("The archive is damaged: a member's headers do not end.")
        return data

    def reading_headers(self) -> _Decompressed:
        return self

    def __enter__(self) -> None:
        self._headers_left = HEADERS_LIMIT

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._headers_left = None

    def close(self) -> None:
        self._reader.close()  # type: ignore[no-untyped-call]  # zstandard's stub


def _member(info: tarfile.TarInfo) -> Member:
    headers = info.pax_headers
    extents = cast("list[tuple[int, int]] | None", info.sparse)
    # In a sparse member a pax "size" is that of the stored data.
    size = headers.get("GNU.sparse.realsize") or headers.get("GNU.sparse.size") if extents is not None else None
    return Member(
        path=_raw(info.name),
        kind=_kind(info),
        size=info.size if size is None else int(size),
        mode=info.mode & 0o7777,
        mtime_ns=_nanoseconds(headers.get("mtime"), info.mtime),
        uid=info.uid,
        gid=info.gid,
        link=_raw(info.linkname),
        extents=None if extents is None else tuple(extents),
        attributes={
            key.removeprefix("SCHILY.xattr."): _raw(value)
            for key, value in headers.items()
            if key.startswith("SCHILY.xattr.")
        },
        has_acl=any(key.startswith("SCHILY.acl.") for key in headers),
    )


def _kind(info: tarfile.TarInfo) -> MemberKind:
    if info.isreg():
        return MemberKind.FILE
    if info.isdir():
        return MemberKind.DIRECTORY
    if info.issym():
        return MemberKind.SYMLINK
    return MemberKind.HARDLINK if info.islnk() else MemberKind.SPECIAL


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _nanoseconds(exact: str | None, rounded: float) -> int:
    """Prefer the decimal text of a pax header: a float of today's seconds is only good to some 200 ns."""
    try:
        return int(Decimal(exact) * 1_000_000_000) if exact else int(rounded) * 1_000_000_000
    except (InvalidOperation, OverflowError, ValueError):
        return 0
