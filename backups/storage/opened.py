"""An open local storage: every file is reached by an `ArtifactName` from one directory handle, never recursively."""

from __future__ import annotations

import os
import stat
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from backups.storage import sidecar as sidecars
from backups.storage.epoch import raise_epoch, read_epoch
from backups.storage.errors import (
    ArtifactExistsError,
    SidecarError,
    StorageError,
    StorageOfflineError,
    missing,
    plain_errors,
)
from backups.storage.folders import open_folder, size_of, sync_folder
from backups.storage.listing import list_artifacts, list_parts, unknown_files
from backups.storage.moving import PUBLISHING, TRASHING, Move
from backups.storage.names import TRASH, ArtifactName
from backups.storage.sentinel import check_sentinel
from backups.storage.staged import Staged
from backups.storage.trash import Failures, Trash
from backups.storage.trash_contents import Trashed, trashed_artifacts

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OpenStorage:
    """Made by `LocalStorage.open`. Every method raises `StorageError` (or a kind of it) instead of OSError.

    After each rename, link or unlink the folders concerned are synced before the method returns.
    """

    def __init__(
        self,
        root: int,
        *,
        uid: str,
        label: str,
        path: Path,
        publishing: Sequence[Move] = PUBLISHING,
        trashing: Sequence[Move] = TRASHING,
    ) -> None:
        self.label = label
        self._root = root
        self._uid = uid
        self._path = path
        self._publishing = publishing
        self._trash = Trash(root, label=label, ways=trashing)

    def verify(self) -> None:
        """Check the sentinel again, and that the path still leads here: a long task may outlive a mount."""
        with plain_errors(self.label, "checking its sentinel"):
            check_sentinel(self._root, uid=self._uid, label=self.label, path=self._path)
            try:
                here = self._path.stat()
            except FileNotFoundError as error:
                raise StorageOfflineError(
                    f"{self.label}: {self._path} is not there any more. Check that the disk is mounted, then run again."
                ) from error
            if not os.path.samestat(os.fstat(self._root), here):
                raise StorageError(
                    f"{self.label}: {self._path} is another folder than a moment ago. Check the mount, then run again."
                )

    @contextmanager
    def stage(self, name: ArtifactName, run_id: int | str, fence: int | str) -> Iterator[Staged]:
        """Open a `.part` to write to. Leaving without `publish` removes it; raises `ArtifactExistsError` when taken."""
        with ExitStack() as stack:
            # Only what is done here is the storage's fault; the caller's body may fail for other reasons.
            with plain_errors(self.label, f"creating {name.relative}"):
                folder = stack.enter_context(self._folder(name.folder, create=True))
                if size_of(folder, name.filename):
                    raise ArtifactExistsError(f"{self.label}: {name.relative} exists already and is not overwritten.")
                staged = Staged(folder, name, run_id, fence, label=self.label, ways=self._publishing)
            yield stack.enter_context(staged)

    def stat(self, name: ArtifactName) -> int | None:
        """Give the artifact's size in bytes, None when it is not in its place."""
        with plain_errors(self.label, f"looking for {name.relative}"):
            return self._look(name.folder, name.filename)

    def has_sidecar(self, name: ArtifactName) -> bool:
        with plain_errors(self.label, f"looking for {name.sidecar_relative}"):
            return self._look(name.folder, name.sidecar_filename) is not None

    def read_sidecar(self, name: ArtifactName) -> sidecars.Sidecar:
        """Read and check the sidecar; raises `SidecarError`, also when it is about another artifact."""
        with plain_errors(self.label, f"reading {name.sidecar_relative}"):
            try:
                with self._open_file(name.folder, name.sidecar_filename) as file:
                    raw = file.read(sidecars.SIZE_LIMIT + 1)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise SidecarError(f"{self.label}: {name.sidecar_relative} is not there.") from error
        try:
            found = sidecars.parse(raw)
        except SidecarError as error:
            raise SidecarError(f"{self.label}: {name.sidecar_relative}: {error}") from error
        if found.name != name:
            raise SidecarError(f"{self.label}: {name.sidecar_relative} is about another artifact.")
        return found

    def open_artifact(self, name: ArtifactName) -> BinaryIO:
        """Open the artifact for reading; raises `ArtifactMissingError`. The caller closes it."""
        with plain_errors(self.label, f"opening {name.relative}"):
            try:
                return self._open_file(name.folder, name.filename)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise missing(self.label, name.relative) from error

    def move_to_trash(self, name: ArtifactName) -> None:
        """Move one artifact; see `move_all_to_trash`. Raises what that returns."""
        _raise(self.move_all_to_trash([name]))

    def move_all_to_trash(self, names: Sequence[ArtifactName]) -> Failures:
        """Move artifacts, not their sidecars; returns those that failed, with why: `ArtifactMissingError` and others.

        The moves are on disk before this returns: after a power cut no sidecar can have gone without its artifact.
        """
        return self._trash.take_artifacts(names)

    def move_sidecar_to_trash(self, name: ArtifactName) -> None:
        """Let one sidecar follow its artifact; see `move_sidecars_to_trash`. Raises what that returns."""
        _raise(self.move_sidecars_to_trash([name]))

    def move_sidecars_to_trash(self, names: Sequence[ArtifactName]) -> Failures:
        """Let sidecars follow their artifacts, unless they are there already or were lost; returns failures with why.

        The folders are synced before and after in any case: a move that was cut short may not be on disk yet.
        """
        return self._trash.take_sidecars(names)

    def restore_all_from_trash(self, names: Sequence[ArtifactName]) -> Failures:
        """Move all sidecars and then, when those are on disk, the artifacts back; returns failures with why.

        `ArtifactMissingError` for what is not in the trash, `ArtifactExistsError` for what is in its place already.
        """
        return self._trash.give_back(names)

    def purge(self, name: ArtifactName) -> None:
        """Remove one from the trash for good; see `purge_all`. Raises what that returns."""
        _raise(self.purge_all([name]))

    def purge_all(self, names: Sequence[ArtifactName]) -> Failures:
        """Remove artifacts and then, when that is on disk, their sidecars from the trash for good.

        Returns failures with why; what is gone already is none.
        """
        return self._trash.purge(names)

    def discard_reservations(self, name: ArtifactName) -> None:
        """Clear up after a crash in the middle of a move to or from the trash: names that were taken and never filled.

        What holds bytes is never touched. See moving.py for the file systems on which names are taken first.
        """
        with plain_errors(self.label, f"clearing up {name.relative}"):
            self._trash.discard_reservations(name)

    def list_trash(self) -> Iterator[Trashed]:
        """Yield every file of the trash that is no sidecar and not empty, with what its sidecar says, in no order."""
        with plain_errors(self.label, "listing its trash"):
            # Listed before the first is handed out: whoever reads this may do something else with the storage.
            found = list(trashed_artifacts(self._root))
        yield from found

    def in_trash(self, name: ArtifactName) -> bool:
        with plain_errors(self.label, f"looking for {name.filename} in the trash"):
            # An empty file is the reservation of a move that was interrupted; see moving.py.
            return bool(self._look(TRASH, name.filename))

    def discard_unpublished(self, name: ArtifactName, run_id: int | str) -> None:
        """Clear up after a crash: this run's `.part` files of exactly this name, and a sidecar without artifact.

        A published artifact and its sidecar are never touched.
        """
        with ExitStack() as stack:
            stack.enter_context(plain_errors(self.label, f"clearing up {name.relative}"))
            stack.enter_context(suppress(FileNotFoundError))
            folder = stack.enter_context(self._folder(name.folder))
            with os.scandir(folder) as entries:
                parts = [entry.name for entry in entries if name.is_part_of_run(entry.name, run_id)]
            for part in parts:
                os.unlink(part, dir_fd=folder)
            if size_of(folder, name.filename) == 0:
                # A reservation that was never filled (see moving.py): what is published is never empty.
                os.unlink(name.filename, dir_fd=folder)
            if size_of(folder, name.filename) is None and not self.in_trash(name):
                with suppress(FileNotFoundError):
                    os.unlink(name.sidecar_filename, dir_fd=folder)
            sync_folder(folder)

    def list_artifacts(self) -> Iterator[tuple[str, int]]:
        """Yield (relative name, size in bytes) of everything that is named as an artifact, in no order."""
        with plain_errors(self.label, "listing its artifacts"):
            yield from list_artifacts(self._root)

    def list_parts(self) -> Iterator[tuple[str, int]]:
        """Yield (relative name, size in bytes) of what was not published: running backups, or crashed ones."""
        with plain_errors(self.label, "listing unpublished files"):
            yield from list_parts(self._root)

    def unknown_files(self, known: Container[str]) -> Iterator[str]:
        """Yield what Keepwell did not write or the catalogue does not list; reported, never touched.

        `known` holds `relative` names, and `trash_relative` ones for what is in the trash. A strange folder is one
        entry that ends in "/". Unpublished parts are not included: see `list_parts`.
        """
        with plain_errors(self.label, "looking for unknown files"):
            yield from unknown_files(self._root, known)

    def read_epoch(self) -> int:
        """Give the number of changes that the storage has seen by its own count; 0 when it has none yet."""
        with plain_errors(self.label, "reading its epoch"):
            return read_epoch(self._root, uid=self._uid, label=self.label, path=self._path)

    def raise_epoch(self, value: int) -> None:
        """Durably let the storage count at least `value`; ValueError for what is no count."""
        with plain_errors(self.label, "writing its epoch"):
            raise_epoch(self._root, value, uid=self._uid, label=self.label, path=self._path)

    def free_space(self) -> tuple[int, int]:
        """Give (free for this user, total) in bytes."""
        with plain_errors(self.label, "asking for its free space"):
            figures = os.fstatvfs(self._root)
        return figures.f_bavail * figures.f_frsize, figures.f_blocks * figures.f_frsize

    def _folder(self, name: str, *, create: bool = False) -> AbstractContextManager[int]:
        return open_folder(self._root, name, create=create)

    def _look(self, folder: str, filename: str) -> int | None:
        try:
            with self._folder(folder) as handle:
                return size_of(handle, filename)
        except FileNotFoundError:
            return None

    def _open_file(self, folder: str, filename: str) -> BinaryIO:
        with self._folder(folder) as handle:
            file = os.fdopen(os.open(filename, _READ, dir_fd=handle), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise StorageError(f"{self.label}: {folder}/{filename} is not a regular file.")
        return file


def _raise(failures: Failures) -> None:
    for error in failures.values():
        raise error
