"""An open local storage: every file is reached by an `ArtifactName` from one directory handle, never recursively."""

from __future__ import annotations

import os
import stat
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from backups.storage import sidecar as sidecars
from backups.storage.errors import ArtifactExistsError, ArtifactMissingError, SidecarError, StorageError, plain_errors
from backups.storage.folders import DIRECTORY, sync_folder
from backups.storage.listing import list_artifacts, list_parts, unknown_files
from backups.storage.moving import PUBLISHING, TRASHING, Move, move
from backups.storage.names import TRASH, ArtifactName
from backups.storage.sentinel import check_sentinel
from backups.storage.staged import Staged

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OpenStorage:
    """Made by `LocalStorage.open`. Every method raises `StorageError` (or a kind of it) instead of OSError.

    After each rename, link or unlink the folders concerned are synced before the method returns; `move_to_trash` alone
    leaves that to `move_sidecar_to_trash`.
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
        self._trashing = trashing

    def verify(self) -> None:
        """Check the sentinel again, and that the path still leads here: a long task may outlive a mount."""
        with plain_errors(self.label, "checking its sentinel"):
            check_sentinel(self._root, uid=self._uid, label=self.label, path=self._path)
            if not os.path.samestat(os.fstat(self._root), self._path.stat()):
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
                if _size(folder, name.filename):
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
                raise self._missing(name) from error

    def move_to_trash(self, name: ArtifactName) -> None:
        """Move the artifact, not its sidecar; raises `ArtifactMissingError` when it is not in its place.

        The move is on disk before this returns: after a power cut no sidecar can have gone without its artifact.
        """
        with plain_errors(self.label, f"moving {name.relative} to the trash"), self._trash() as trash:
            try:
                with self._folder(name.folder) as folder:
                    self._move(folder, name.filename, trash)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise self._missing(name) from error
            except FileExistsError as error:
                raise ArtifactExistsError(f"{self.label}: the trash holds another {name.filename} already.") from error

    def move_sidecar_to_trash(self, name: ArtifactName) -> None:
        """Let the sidecar follow its artifact, unless it is there already or was lost.

        The folders are synced in any case: a move that was cut short may not be on disk yet.
        """
        with plain_errors(self.label, f"moving {name.sidecar_relative} to the trash"), self._trash() as trash:
            in_place = self._look(name.folder, name.sidecar_filename) is not None
            if in_place and self._look(name.folder, name.filename) is not None:
                raise StorageError(f"{self.label}: {name.relative} is in its place and keeps its sidecar.")
            with suppress(FileNotFoundError), self._folder(name.folder) as folder:
                if in_place:
                    with suppress(FileNotFoundError):
                        move(self._trashing, folder, name.sidecar_filename, trash, name.sidecar_filename)
                _sync_move(folder, trash)

    def restore_from_trash(self, name: ArtifactName) -> None:
        """Move the sidecar and then the artifact back; raises `ArtifactMissingError` when it is not in the trash."""
        with plain_errors(self.label, f"restoring {name.relative} from the trash"), self._trash() as trash:
            if _size(trash, name.filename) is None:
                raise ArtifactMissingError(f"{self.label}: {name.relative} is not in the trash.")
            with self._folder(name.folder, create=True) as folder:
                try:
                    if _size(trash, name.sidecar_filename) is not None:
                        self._move(trash, name.sidecar_filename, folder)
                    self._move(trash, name.filename, folder)
                except FileExistsError as error:
                    raise ArtifactExistsError(
                        f"{self.label}: {name.relative} exists in its place already and is not overwritten."
                    ) from error

    def purge(self, name: ArtifactName) -> None:
        """Remove the artifact and then the sidecar from the trash for good; nothing happens when they are gone."""
        with plain_errors(self.label, f"purging {name.filename}"), self._trash() as trash:
            for filename in (name.filename, name.sidecar_filename):
                with suppress(FileNotFoundError):
                    os.unlink(filename, dir_fd=trash)
                    sync_folder(trash)

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
            if _size(folder, name.filename) == 0:
                # A reservation that was never filled (see moving.py): what is published is never empty.
                os.unlink(name.filename, dir_fd=folder)
            if _size(folder, name.filename) is None and not self.in_trash(name):
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

    def free_space(self) -> tuple[int, int]:
        """Give (free for this user, total) in bytes."""
        with plain_errors(self.label, "asking for its free space"):
            figures = os.fstatvfs(self._root)
        return figures.f_bavail * figures.f_frsize, figures.f_blocks * figures.f_frsize

    def _missing(self, name: ArtifactName) -> ArtifactMissingError:
        return ArtifactMissingError(
            f"{self.label}: {name.relative} is not there. Someone else moved or removed it; look for it before "
            "the next cleanup."
        )

    @contextmanager
    def _folder(self, name: str, *, create: bool = False) -> Iterator[int]:
        try:
            handle = os.open(name, DIRECTORY, dir_fd=self._root)
        except FileNotFoundError:
            if not create:
                raise
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self._root)
            sync_folder(self._root)
            handle = os.open(name, DIRECTORY, dir_fd=self._root)
        try:
            yield handle
        finally:
            os.close(handle)

    def _trash(self) -> AbstractContextManager[int]:
        return self._folder(TRASH, create=True)

    def _look(self, folder: str, filename: str) -> int | None:
        try:
            with self._folder(folder) as handle:
                return _size(handle, filename)
        except FileNotFoundError:
            return None

    def _open_file(self, folder: str, filename: str) -> BinaryIO:
        with self._folder(folder) as handle:
            file = os.fdopen(os.open(filename, _READ, dir_fd=handle), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise StorageError(f"{self.label}: {folder}/{filename} is not a regular file.")
        return file

    def _move(self, source: int, filename: str, destination: int) -> None:
        move(self._trashing, source, filename, destination, filename)
        _sync_move(source, destination)


def _sync_move(source: int, destination: int) -> None:
    # The new name must be on disk before the old one is gone from it.
    sync_folder(destination)
    sync_folder(source)


def _size(folder: int, filename: str) -> int | None:
    """Size of a regular file; None when there is none (a link or a folder of that name is not ours)."""
    try:
        found = os.stat(filename, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None
