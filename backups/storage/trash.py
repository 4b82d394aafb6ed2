"""Moves between a storage and its trash, many at a time: the disk is waited for once a folder, not once a file."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from backups.storage.errors import ArtifactExistsError, ArtifactMissingError, StorageError, missing, plain_errors
from backups.storage.folders import open_folder, size_of, sync_folder
from backups.storage.moving import Move, move
from backups.storage.names import TRASH, ArtifactName

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What did not work and why, by name. An error of one is nothing to the others.
type Failures = dict[ArtifactName, StorageError]


class Trash:
    """The trash of the storage that is open as `root`. What takes many names returns its failures, and raises none."""

    def __init__(self, root: int, *, label: str, ways: Sequence[Move]) -> None:
        self._root = root
        self._label = label
        self._ways = ways

    def take_artifacts(self, names: Sequence[ArtifactName]) -> Failures:
        """Move artifacts into the trash; the moves are on disk when this returns."""
        failures: Failures = {}
        with self._noting(failures, names, "opening the trash"), self._open() as trash:
            for folder, group in self._folders(names, failures):
                for name in group:
                    with self._noting(failures, [name], f"moving {name.relative} to the trash"):
                        self._take(folder, name, trash)
            self._sync_trash_first(trash, names, failures)
        return failures

    def take_sidecars(self, names: Sequence[ArtifactName]) -> Failures:
        """Let sidecars follow their artifacts, unless they are there already or were lost.

        An artifact that is in its place keeps its sidecar: a failure.
        """
        failures: Failures = {}
        with self._noting(failures, names, "opening the trash"), self._open() as trash:
            # Whoever moved the artifacts may have died before that was on disk.
            self._sync_trash_first(trash, names, failures)
            for folder, group in self._folders(_left(names, failures), failures):
                for name in group:
                    with self._noting(failures, [name], f"moving {name.sidecar_relative} to the trash"):
                        self._take_sidecar(folder, name, trash)
            self._sync_trash_first(trash, names, failures)
        return failures

    def give_back(self, names: Sequence[ArtifactName]) -> Failures:
        """Move sidecars, and when those are on disk, artifacts back to their places."""
        failures: Failures = {}
        with self._noting(failures, names, "opening the trash"), self._open() as trash:
            for name in names:
                with self._noting(failures, [name], f"looking for {name.filename} in the trash"):
                    if not size_of(trash, name.filename):
                        raise ArtifactMissingError(f"{self._label}: {name.relative} is not in the trash.")
            for is_sidecar in (True, False):
                for folder, group in self._folders(_left(names, failures), failures, create=True):
                    for name in group:
                        with self._noting(failures, [name], f"restoring {name.relative} from the trash"):
                            self._give_back(trash, name, folder, is_sidecar=is_sidecar)
                self._sync_trash_last(trash, names, failures)
        return failures

    def purge(self, names: Sequence[ArtifactName]) -> Failures:
        """Remove artifacts, and when that is on disk, sidecars; what is gone already is no failure."""
        failures: Failures = {}
        with self._noting(failures, names, "opening the trash"), self._open() as trash:
            for is_sidecar in (False, True):
                for name in _left(names, failures):
                    filename = name.sidecar_filename if is_sidecar else name.filename
                    with self._noting(failures, [name], f"purging {filename}"), suppress(FileNotFoundError):
                        os.unlink(filename, dir_fd=trash)
                self._sync(trash, _left(names, failures), failures)
        return failures

    def discard_reservations(self, name: ArtifactName) -> None:
        """Remove the empty names that an interrupted move left, for the artifact and its sidecar; raises OSError.

        Only where the other place holds the file itself: an empty file alone is damage, to be shown and not removed.
        """
        with (
            suppress(FileNotFoundError),
            open_folder(self._root, TRASH) as trash,
            open_folder(self._root, name.folder) as folder,
        ):
            for filename in (name.filename, name.sidecar_filename):
                for reserving, holding in ((trash, folder), (folder, trash)):
                    if size_of(reserving, filename) == 0 and size_of(holding, filename):
                        os.unlink(filename, dir_fd=reserving)
                        sync_folder(reserving)

    def _take(self, folder: int | None, name: ArtifactName, trash: int) -> None:
        try:
            if folder is None:
                raise missing(self._label, name.relative)
            move(self._ways, folder, name.filename, trash, name.filename)
        except FileNotFoundError as error:
            raise missing(self._label, name.relative) from error
        except FileExistsError as error:
            raise ArtifactExistsError(f"{self._label}: the trash holds another {name.filename} already.") from error

    def _take_sidecar(self, folder: int | None, name: ArtifactName, trash: int) -> None:
        if folder is None or size_of(folder, name.sidecar_filename) is None:
            return
        if size_of(folder, name.filename) is not None:
            raise StorageError(f"{self._label}: {name.relative} is in its place and keeps its sidecar.")
        with suppress(FileNotFoundError):
            move(self._ways, folder, name.sidecar_filename, trash, name.sidecar_filename)

    def _give_back(self, trash: int, name: ArtifactName, folder: int | None, *, is_sidecar: bool) -> None:
        assert folder is not None  # noqa: S101 - created where it was not
        filename = name.sidecar_filename if is_sidecar else name.filename
        if is_sidecar and size_of(trash, filename) is None:
            return
        try:
            move(self._ways, trash, filename, folder, filename)
        except FileExistsError as error:
            raise ArtifactExistsError(
                f"{self._label}: {name.relative} exists in its place already and is not overwritten."
            ) from error

    def _open(self) -> AbstractContextManager[int]:
        return open_folder(self._root, TRASH, create=True)

    def _folders(
        self, names: Sequence[ArtifactName], failures: Failures, *, create: bool = False
    ) -> Iterator[tuple[int | None, list[ArtifactName]]]:
        """Each folder of `names`, open, with those in it; None for a folder that is not there."""
        groups: dict[str, list[ArtifactName]] = {}
        for name in dict.fromkeys(names):
            groups.setdefault(name.folder, []).append(name)
        for folder_name, group in groups.items():
            with self._noting(failures, group, f"opening {folder_name}"), ExitStack() as stack:
                folder = None
                with suppress(FileNotFoundError):
                    folder = stack.enter_context(open_folder(self._root, folder_name, create=create))
                yield folder, group

    def _sync_trash_first(self, trash: int, names: Sequence[ArtifactName], failures: Failures) -> None:
        """Put moves into the trash on disk: the new names before the old ones are gone."""
        self._sync(trash, _left(names, failures), failures)
        self._sync_folders(_left(names, failures), failures)

    def _sync_trash_last(self, trash: int, names: Sequence[ArtifactName], failures: Failures) -> None:
        self._sync_folders(_left(names, failures), failures)
        self._sync(trash, _left(names, failures), failures)

    def _sync_folders(self, names: Sequence[ArtifactName], failures: Failures) -> None:
        for folder, group in self._folders(names, failures):
            if folder is not None:
                self._sync(folder, group, failures)

    def _sync(self, handle: int, names: Sequence[ArtifactName], failures: Failures) -> None:
        if names:
            with self._noting(failures, names, "putting moves on disk"):
                sync_folder(handle)

    @contextmanager
    def _noting(self, failures: Failures, names: Sequence[ArtifactName], doing: str) -> Iterator[None]:
        """Note the body's error as that of each of `names` and go on; the first error of a name stays."""
        try:
            with plain_errors(self._label, doing):
                yield
        except StorageError as error:
            for name in names:
                failures.setdefault(name, error)


def _left(names: Sequence[ArtifactName], failures: Failures) -> Sequence[ArtifactName]:
    return [name for name in names if name not in failures] if failures else names
