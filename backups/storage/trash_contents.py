"""What lies in a storage's trash, by what its sidecars say: a file's name there does not say where it came from."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backups.storage import sidecar as sidecars
from backups.storage.errors import SidecarError, plain_errors
from backups.storage.folders import open_folder
from backups.storage.names import SIDECAR_SUFFIX, TRASH, is_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backups.storage.opened import OpenStorage

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True)
class Trashed:
    """One file in the trash, `size` in bytes; what its sidecar says, or in `problem` why nothing can be learnt."""

    filename: str
    size: int
    sidecar: sidecars.Sidecar | None
    problem: str = ""


def trashed_artifacts(storage: OpenStorage) -> Iterator[Trashed]:
    """Yield every file of the trash that is no sidecar and not empty, in no order."""
    with plain_errors(storage.label, "listing its trash"):
        try:
            with open_folder(storage._root, TRASH) as trash:
                # Listed before the first is handed out: whoever reads this may do something else with the storage.
                found = [_look(trash, name, size) for name, size in _files(trash)]
        except FileNotFoundError:
            return
    yield from found


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
