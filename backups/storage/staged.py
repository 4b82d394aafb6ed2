"""An artifact on its way: written under a hidden name, published whole with its sidecar, or not at all."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from backups.storage.errors import ArtifactExistsError, StorageError, plain_errors
from backups.storage.folders import sync_folder
from backups.storage.moving import Move, move
from backups.storage.sidecar import parse, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from _typeshed import ReadableBuffer

    from backups.storage.names import ArtifactName

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Staged:
    """Made by `OpenStorage.stage`. Write to `file`, then call `publish` once."""

    def __init__(
        self,
        folder: int,
        name: ArtifactName,
        run_id: int | str,
        fence: int | str,
        *,
        label: str,
        ways: Sequence[Move],
    ) -> None:
        self._folder = folder
        self._name = name
        self._part = name.part_filename(run_id, fence)
        self._sidecar_part = name.sidecar_part_filename(run_id, fence)
        self._label = label
        self._ways = ways
        self._published = False
        self.file = PartFile(os.open(self._part, _NEW, 0o600, dir_fd=folder), label, name.relative)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        if self._published:
            return
        # What is left is hidden, named after the run and found by recovery: do not cover the first error with another.
        with suppress(OSError):
            for filename in (self._part, self._sidecar_part):
                with suppress(FileNotFoundError):
                    os.unlink(filename, dir_fd=self._folder)
            sync_folder(self._folder)

    def sync(self) -> None:
        """Put the bytes on disk, which may take long, so that `publish` does not."""
        with plain_errors(self._label, f"writing {self._name.relative}"):
            os.fsync(self.file.fileno())

    def publish(self, sidecar: Mapping[str, Any]) -> None:
        """Make the artifact and its sidecar durable and visible: bytes, sidecar, then the artifact's own name.

        Raises `ArtifactExistsError`, `SidecarError`, or `StorageError`, also when the sidecar is about another artifact
        or size, or nothing was written. The artifact then has no final name, unless the disk failed after giving it.
        """
        raw = render(sidecar)
        described = parse(raw)
        with plain_errors(self._label, f"publishing {self._name.relative}"):
            size = os.fstat(self.file.fileno()).st_size
            if described.name != self._name or described.size != size or size == 0:
                raise StorageError(
                    f"{self._label}: {self._name.relative} was not published: its sidecar states "
                    f"{described.size} bytes of {described.name.relative}, and {size} were written."
                )
            os.fsync(self.file.fileno())
            self._write_sidecar(raw)
            try:
                self._move(self._sidecar_part, self._name.sidecar_filename)
                self._publish_artifact()
            finally:
                sync_folder(self._folder)

    def _write_sidecar(self, raw: bytes) -> None:
        with os.fdopen(os.open(self._sidecar_part, _NEW, 0o600, dir_fd=self._folder), "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())

    def _publish_artifact(self) -> None:
        try:
            # The sidecar's name must be on disk before the artifact's can be.
            sync_folder(self._folder)
            self._move(self._part, self._name.filename)
        except BaseException:
            if not self._is_in_place():
                # Whoever cleared the unfinished file away may have taken the sidecar as well.
                with suppress(FileNotFoundError):
                    os.unlink(self._name.sidecar_filename, dir_fd=self._folder)
                raise
            # The name was given and only the hidden one is left over.
            self._published = True
            raise
        self._published = True

    def _move(self, part: str, filename: str) -> None:
        try:
            move(self._ways, self._folder, part, self._folder, filename)
        except FileExistsError as error:
            raise ArtifactExistsError(
                f"{self._label}: {self._name.folder}/{filename} exists already and is not overwritten."
            ) from error
        except FileNotFoundError as error:
            raise StorageError(
                f"{self._label}: {self._name.relative} was not published: someone removed its unfinished file, as "
                "recovery does when a run is taken for lost. Run it again."
            ) from error

    def _is_in_place(self) -> bool:
        try:
            found = os.stat(self._name.filename, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self.file.fileno()))


class PartFile(io.RawIOBase):
    """The hidden file, open for writing; a full or failing disk is a `StorageError` at the write that meets it."""

    def __init__(self, handle: int, label: str, relative: str) -> None:
        super().__init__()
        self._handle = handle
        self._label = label
        self._relative = relative

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._handle

    def write(self, data: ReadableBuffer, /) -> int:
        with plain_errors(self._label, f"writing {self._relative}"):
            return os.write(self._handle, data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._handle)
