"""What lies in a storage's trash, by what its sidecars say: a file's name there does not say where it came from."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backups.storage import sidecar as sidecars
from backups.storage.errors import SidecarError
from backups.storage.folders import open_folder
from backups.storage.names import SIDECAR_SUFFIX, TRASH, is_part

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True)
class Trashed:
    """One file in the trash, `size` in bytes; what its sidecar says, or in `problem` why nothing can be learnt."""

    filename: str
    size: int
    sidecar: sidecars.Sidecar | None
    problem: str = ""


def trashed_artifacts(root: int) -> Iterator[Trashed]:
    """Yield every file of the trash in the storage that is open as `root`; see `OpenStorage.list_trash`."""
    with suppress(FileNotFoundError), open_folder(root, TRASH) as trash:
        yield from [_look(trash, name, size) for name, size in _files(trash)]


def _files(trash: int) -> Iterator[tuple[str, int]]:
    with os.scandir(trash) as entries:
        for entry in entries:
            if entry.name.endswith(SIDECAR_SUFFIX) or is_part(entry.name):
                continue
            # An empty file is the reservation of a move that was interrupted; see moving.py.
            if entry.is_file(follow_symlinks=False) and (size := entry.stat(follow_symlinks=False).st_size):
                yield entry.name, size


def _look(trash: int, filename: str, size: int) -> Trashed:
    try:
        sidecar = _sidecar(trash, filename)
    except SidecarError as error:
        return Trashed(filename=filename, size=size, sidecar=None, problem=str(error))
    return Trashed(filename=filename, size=size, sidecar=sidecar)


def _sidecar(trash: int, filename: str) -> sidecars.Sidecar:
    try:
        handle = os.open(filename + SIDECAR_SUFFIX, _READ, dir_fd=trash)
    except OSError as error:
        raise SidecarError("It has no sidecar that can be read.") from error
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise SidecarError("Its sidecar is not a regular file.")
        found = sidecars.parse(file.read(sidecars.SIZE_LIMIT + 1))
    if found.name.filename != filename:
        raise SidecarError("Its sidecar is about another artifact.")
    return found
