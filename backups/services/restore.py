"""Bringing a copy back: found by what people call it, checked whole, then unpacked into an empty folder."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from backups.archive import ExtractLimits, ExtractSummary, extract_archive, sha256_file
from backups.choices import BackupState
from backups.models import Backup, LeasePurpose, Storage
from backups.services.catalogue import backup_mark_missing, backup_mark_verified, backup_quarantine
from backups.services.protections import BackupInUseError, backup_lease
from backups.services.storages import storage_backend
from backups.services.trash import GONE_REASON
from backups.storage import ArtifactMissingError, ArtifactName, OpenStorage
from backups.storage.errors import plain_errors

if TYPE_CHECKING:
    from typing import Literal

# A row counts files and links; this many folders may come on top.
FOLDERS_LIMIT = 10_000_000

type Progress = Callable[[str, int, int], None]
type Log = Callable[[Literal["info", "warning", "error"], str], None]


class RestoreRefusedError(Exception):
    """The copy's state forbids restoring it; nothing was read or written, and the text says how to go on."""


class DestinationRefusedError(Exception):
    """The folder cannot be unpacked into; nothing was written."""


class DamagedBackupError(Exception):
    """The artifact's bytes are not those that were backed up; the copy is quarantined and nothing was unpacked."""


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A copy that was checked and unpacked. `summary` counts what was created."""

    backup: Backup
    destination: Path
    summary: ExtractSummary


def backup_restore(
    *,
    backup: Backup,
    destination: Path,
    stop: threading.Event,
    log: Log,
    progress: Progress,
) -> Restored:
    """Check the artifact's sha256 and unpack it into `destination`, a new or empty folder, from the same open file.

    No cleanup takes the copy away meanwhile. A match is recorded as a verification. `progress` gets ("checking" or
    "unpacking", bytes done, bytes in all). Owners come back, by number, only for root. Raises `RestoreRefusedError`,
    `DestinationRefusedError`, `DamagedBackupError` (the row is then quarantined), `ArtifactMissingError` (the row then
    says missing), `StorageError`, and what `extract_archive` raises.
    """
    name = _artifact(backup)
    _refuse_state(backup)
    refuse_destination(destination)
    if backup.is_suspect:
        log("warning", f"This copy is suspect: {backup.suspect_reason}. Compare it with another one.")
    try:
        with backup_lease(backup=backup, purpose=LeasePurpose.RESTORE):
            summary = _unpack(backup, name, destination, stop, log, progress)
    except BackupInUseError as error:
        # It was condemned between the look at its state and the lease.
        raise RestoreRefusedError(str(error)) from error
    return Restored(backup=backup, destination=destination, summary=summary)


def refuse_destination(destination: Path) -> None:
    """Raise `DestinationRefusedError` unless it is an empty folder, or a new one in another, outside all storages."""
    try:
        _refuse_folder(destination)
    except OSError as error:
        raise DestinationRefusedError(f"{destination} cannot be used: {error.strerror}.") from error
    real = destination.resolve()
    for storage in Storage.objects.all():
        if real.is_relative_to(Path(storage.path).resolve()):
            raise DestinationRefusedError(
                f"{destination} lies in the storage {storage.name} ({storage.path}), where only copies belong. "
                "Choose a folder elsewhere."
            )


def _refuse_folder(destination: Path) -> None:
    try:
        mode = destination.lstat().st_mode
    except FileNotFoundError:
        if destination.parent.is_dir():
            return
        raise DestinationRefusedError(
            f"{destination} cannot be made: {destination.parent} is not a folder. Create that one first."
        ) from None
    if stat.S_ISLNK(mode):
        raise DestinationRefusedError(f"{destination} is a link. Give the folder itself.")
    if not stat.S_ISDIR(mode):
        raise DestinationRefusedError(f"{destination} is not a folder. Give a new or an empty folder.")
    with os.scandir(destination) as entries:
        if next(entries, None) is not None:
            raise DestinationRefusedError(f"{destination} is not empty. Give a new or an empty folder.")


def _artifact(backup: Backup) -> ArtifactName:
    try:
        return backup.artifact
    except ValueError as error:
        raise RestoreRefusedError(f"{backup}: its row in the catalogue names no artifact. {error}") from error


def _refuse_state(backup: Backup) -> None:
    match backup.state:
        case BackupState.QUARANTINED:
            raise RestoreRefusedError(
                f"{backup} is quarantined: {backup.state_reason or 'its bytes did not match'} Restore another copy. "
                f"The artifact is untouched at {_path(backup, backup.artifact.relative)}."
            )
        case BackupState.TRASHED:
            path = _path(backup, backup.artifact.trash_relative)
            raise RestoreRefusedError(
                f"{backup} is in the trash. Bring it back first, or unpack it by hand: tar --zstd -xf {path} -C DIR"
            )
        case BackupState.DELETED | BackupState.PURGING:
            raise RestoreRefusedError(
                f"{backup} was deleted by {backup.removed_by or 'a cleanup'}; its bytes are gone."
            )
        case BackupState.DELETING:
            raise RestoreRefusedError(f"{backup} is being moved to the trash right now. Try again in a moment.")


def _unpack(
    backup: Backup, name: ArtifactName, destination: Path, stop: threading.Event, log: Log, progress: Progress
) -> ExtractSummary:
    with storage_backend(backup.storage).open() as storage:
        try:
            file = storage.open_artifact(name)
        except ArtifactMissingError:
            _missing(backup, storage)
            raise
        with file:
            _check(backup, file, storage.label, stop, progress)
            backup_mark_verified(backup=backup)
            file.seek(0)
            counted = _Counted(file, storage.label, lambda done: progress("unpacking", done, backup.size))
            return extract_archive(
                cast("BinaryIO", counted),  # it needs read() alone
                destination,
                stop=stop,
                log=log,
                # `source_bytes` is the archive's own length, headers included: its files cannot hold more.
                limits=ExtractLimits(entries=backup.entries + FOLDERS_LIMIT, bytes=backup.source_bytes),
                owner=os.geteuid() == 0,
            )


def _check(backup: Backup, file: BinaryIO, label: str, stop: threading.Event, progress: Progress) -> None:
    """Quarantine the copy and raise `DamagedBackupError` unless the file is what the catalogue says."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress("checking", done, backup.size)

    with plain_errors(label, f"reading {backup.artifact.relative}"):
        size = os.fstat(file.fileno()).st_size
        found = sha256_file(file, stop, count) if size == backup.size else ""
    if found == backup.sha256:
        return
    reason = (
        f"Its file has {size:,} bytes and was stored with {backup.size:,}."
        if size != backup.size
        else f"Its file's sha256 is {found} and was {backup.sha256} when it was stored."
    )
    backup_quarantine(backup=backup, reason=reason)
    raise DamagedBackupError(
        f"{backup} is damaged, and is quarantined now. {reason} Nothing was unpacked. Restore another copy, "
        "and check the disk that holds this one."
    )


def _missing(backup: Backup, storage: OpenStorage) -> None:
    """Record a fault, unless a cleanup moved the copy away in these very moments."""
    # A disk that has just gone takes its files along: they are not missing.
    storage.verify()
    unchanged = Backup.objects.filter(pk=backup.pk, state=BackupState.AVAILABLE).exists()
    if unchanged and not storage.in_trash(backup.artifact):
        backup_mark_missing(backup=backup, reason=GONE_REASON)


def _path(backup: Backup, relative: str) -> str:
    return f"{backup.storage.path}/{relative}"


class _Counted:
    """A file that says how far it was read, and blames the storage for what it cannot read."""

    def __init__(self, file: BinaryIO, label: str, count: Callable[[int], None]) -> None:
        self._file = file
        self._label = label
        self._count = count
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        with plain_errors(self._label, "reading the artifact"):
            data = self._file.read(size)
        self._done += len(data)
        self._count(self._done)
        return data
