"""Unpack an archive that nobody vouches for into a new or empty folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Literal

from backups.archive.errors import ExtractError
from backups.archive.landing import Landing, Parts, safe_parts
from backups.archive.members import Member, MemberKind, MemberStream
from scheduling.printable import printable

if TYPE_CHECKING:
    import threading
    from pathlib import Path

type Log = Callable[[Literal["info", "warning", "error"], str], None]

WARNINGS_SHOWN = 1000

# These name users or give rights, so they come back together with the owners only.
_OWNED_ATTRIBUTES = frozenset(("security.capability", "system.posix_acl_access", "system.posix_acl_default"))


@dataclass(frozen=True, kw_only=True)
class ExtractLimits:
    """What an archive may unpack to at most: entries of any kind, and stored bytes (holes of sparse files are free)."""

    entries: int = 50_000_000
    bytes: int = 64 << 40


@dataclass(frozen=True, kw_only=True)
class ExtractSummary:
    """What was created, and how many entries were left out or lost an attribute (`warnings`)."""

    files: int
    directories: int
    symlinks: int
    hardlinks: int
    bytes: int
    warnings: int


def extract_archive(
    file: BinaryIO,
    destination: Path,
    *,
    stop: threading.Event,
    log: Log,
    limits: ExtractLimits | None = None,
    owner: bool,
) -> ExtractSummary:
    """Unpack a `.tar.zst` below `destination`, touching nothing outside it whatever the archive says.

    Devices, fifos and sockets are skipped with a warning; links are made last and never followed; set-id and sticky
    bits come back only together with the owners (`owner`, which needs root). Raises `DestinationError` before writing,
    `ExtractError` or `DamagedArchiveError` on the way (what was unpacked so far stays), `Stopped`.
    """
    with Landing(destination) as landing, MemberStream(file, stop=stop) as members:
        unpacking = _Unpacking(
            landing=landing,
            members=members,
            log=log,
            limits=limits or ExtractLimits(),
            owner=owner and os.geteuid() == 0,
        )
        if owner and not unpacking.owner:
            log("warning", "Owners were not restored: this needs root. Everything belongs to the current user.")
        for member in members:
            unpacking.take(member)
        unpacking.make_symlinks()
        unpacking.finish_folders()
        return unpacking.summary()


@dataclass(kw_only=True)
class _Unpacking:
    landing: Landing
    members: MemberStream
    log: Log
    limits: ExtractLimits
    owner: bool
    counts: dict[MemberKind, int] = field(default_factory=lambda: dict.fromkeys(MemberKind, 0))
    entries: int = 0
    stored: int = 0
    warnings: int = 0
    folders: dict[Parts, _Attributes] = field(default_factory=dict)
    symlinks: dict[Parts, tuple[bytes, _Attributes]] = field(default_factory=dict)
    acl_seen: bool = False

    def take(self, member: Member) -> None:
        self.entries += 1
        if self.entries > self.limits.entries:
            raise ExtractError(f"Unpacking was stopped: the archive has more than {self.limits.entries} entries.")
        parts = safe_parts(member.path, printable(member.path))
        if not parts:
            if member.kind is not MemberKind.DIRECTORY:
                raise ExtractError("Unpacking was refused: an entry has no name.")
            return  # the destination itself: its permissions are the user's business
        if member.has_acl and not self.acl_seen:
            self.acl_seen = True
            self.warn("Access control lists stored as text were not restored; GNU tar with --acls restores them.")
        try:
            self._create(member, parts)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise ExtractError(f"{printable(member.path)} could not be written: {error.strerror}.") from error
            self.warn(
                f"{printable(member.path)} was skipped: a folder of that name with entries is in the archive too."
            )

    def make_symlinks(self) -> None:
        for parts, (target, attributes) in self.symlinks.items():
            path = b"/".join(parts)
            try:
                parent = self.landing.symlink(target, parts)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise ExtractError(f"{printable(path)} could not be written: {error.strerror}.") from error
                self.warn(f"The link {printable(path)} was skipped: the archive has a folder of that name too.")
                self.counts[MemberKind.SYMLINK] -= 1
                continue
            try:
                if self.owner:
                    os.chown(parts[-1], *attributes.owners(), dir_fd=parent, follow_symlinks=False)
                times = (attributes.mtime_ns, attributes.mtime_ns)
                os.utime(parts[-1], ns=times, dir_fd=parent, follow_symlinks=False)
            except (OSError, OverflowError) as error:
                self.warn(f"{printable(path)}: owner or time was not restored: {error}.")

    def finish_folders(self) -> None:
        """Deepest first: a folder may end up closed to us, and is not changed after its own time was set."""
        for parts in sorted(self.folders, key=len, reverse=True):
            try:
                handle = self.landing.folder(parts, create=False)
            except OSError:
                continue  # something later in the archive took its place
            self._apply(self.folders[parts], handle, b"/".join(parts))

    def summary(self) -> ExtractSummary:
        if self.warnings > WARNINGS_SHOWN:
            self.log("warning", f"{self.warnings - WARNINGS_SHOWN} further warnings are not shown.")
        return ExtractSummary(
            files=self.counts[MemberKind.FILE],
            directories=self.counts[MemberKind.DIRECTORY],
            symlinks=self.counts[MemberKind.SYMLINK],
            hardlinks=self.counts[MemberKind.HARDLINK],
            bytes=self.stored,
            warnings=self.warnings,
        )

    def warn(self, text: str) -> None:
        self.warnings += 1
        if self.warnings <= WARNINGS_SHOWN:
            self.log("warning", text)

    def _create(self, member: Member, parts: Parts) -> None:
        replaced = self.symlinks.pop(parts, None)
        match member.kind:
            case MemberKind.FILE:
                self._file(member, parts)
            case MemberKind.DIRECTORY:
                self.landing.make_folder(parts)
                self.folders[parts] = _Attributes.of(member)
            case MemberKind.SYMLINK:
                # Its folder now: it must not be missing, and a later entry can still take the link's place.
                self.landing.folder(parts[:-1], create=True)
                self.symlinks[parts] = (member.link, _Attributes.of(member))
            case MemberKind.HARDLINK:
                if not self._hardlink(member, parts, replaced):
                    self.warn(
                        f"The link {printable(member.path)} was skipped: {printable(member.link)} is not a file of "
                        "this archive."
                    )
                    return
            case MemberKind.SPECIAL:
                self.warn(f"{printable(member.path)} was skipped: it is a device, a fifo or something unknown.")
                return
        self.counts[member.kind] += 1

    def _file(self, member: Member, parts: Parts) -> None:
        handle = self.landing.create_file(parts)
        try:
            for offset, block in self.members.read_data():
                self.stored += len(block)
                if self.stored > self.limits.bytes:
                    raise ExtractError(f"Unpacking was stopped: the archive holds more than {self.limits.bytes} bytes.")
                view = memoryview(block)
                while view:
                    written = os.pwrite(handle, view, offset)
                    view, offset = view[written:], offset + written
            if member.extents is not None:
                os.truncate(handle, member.size)
            self._apply(_Attributes.of(member), handle, member.path)
        finally:
            os.close(handle)

    def _hardlink(self, member: Member, parts: Parts, replaced: tuple[bytes, _Attributes] | None) -> bool:
        existing = safe_parts(member.link, f"the link {printable(member.path)}")
        symlink = replaced if existing == parts else self.symlinks.get(existing)
        if symlink is None:
            return self.landing.link(existing, parts)
        self.landing.folder(parts[:-1], create=True)
        self.symlinks[parts] = symlink
        return True

    def _apply(self, attributes: _Attributes, handle: int, path: bytes) -> None:
        """Owner first (it clears set-id bits and capabilities), then extended attributes, mode, and the time last."""
        owned = False
        try:
            if self.owner:
                os.fchown(handle, *attributes.owners())
                owned = True
            for name, value in attributes.extended.items():
                if name.startswith("user.") or (owned and name in _OWNED_ATTRIBUTES):
                    os.setxattr(handle, name, value)
        except (OSError, OverflowError, ValueError) as error:
            self.warn(f"{printable(path)}: owner or attributes were not restored: {error}.")
        try:
            os.fchmod(handle, attributes.mode if owned else attributes.mode & 0o777)
            os.utime(handle, ns=(attributes.mtime_ns, attributes.mtime_ns))
        except (OSError, OverflowError) as error:
            self.warn(f"{printable(path)}: mode or time was not restored: {error}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attributes:
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    extended: dict[str, bytes]

    @classmethod
    def of(cls, member: Member) -> _Attributes:
        return cls(
            mode=member.mode,
            mtime_ns=member.mtime_ns,
            uid=member.uid,
            gid=member.gid,
            extended=dict(member.attributes),
        )

    def owners(self) -> tuple[int, int]:
        """Refuse -1, which would mean "leave as it is" and keep root's ownership under a set-id bit."""
        if not (0 <= self.uid < 2**32 - 1 and 0 <= self.gid < 2**32 - 1):
            raise OverflowError(f"{self.uid}:{self.gid} is not a possible owner")
        return self.uid, self.gid
