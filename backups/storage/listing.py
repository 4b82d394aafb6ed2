"""What lies in a storage, two levels deep, without ever following a link."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backups.storage.folders import DIRECTORY
from backups.storage.names import FOLDER, SIDECAR_SUFFIX, TRASH, ArtifactName, is_bookkeeping, is_part

if TYPE_CHECKING:
    from collections.abc import Container, Iterator


def list_artifacts(root: int) -> Iterator[tuple[str, int]]:
    for folder in _folders(root):
        for entry in _entries(root, folder):
            relative = f"{folder}/{entry.name}"
            if _is_artifact(relative) and entry.is_file(follow_symlinks=False):
                yield relative, entry.stat(follow_symlinks=False).st_size


def list_parts(root: int) -> Iterator[tuple[str, int]]:
    for folder in _folders(root):
        for entry in _entries(root, folder):
            if is_part(entry.name) and entry.is_file(follow_symlinks=False):
                yield f"{folder}/{entry.name}", entry.stat(follow_symlinks=False).st_size


def unknown_files(root: int, known: Container[str]) -> Iterator[str]:
    folders = set(_folders(root))
    for entry in _entries(root, "."):
        if entry.name in (TRASH, "lost+found") or entry.name in folders:
            continue
        if is_bookkeeping(entry.name) and entry.is_file(follow_symlinks=False):
            continue
        yield entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
    for folder in [*sorted(folders), TRASH]:
        for entry in _entries(root, folder):
            relative = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield relative + "/"
            elif not entry.is_file(follow_symlinks=False) or not (
                is_part(entry.name) or relative.removesuffix(SIDECAR_SUFFIX) in known
            ):
                yield relative


def _folders(root: int) -> list[str]:
    return [
        entry.name
        for entry in _entries(root, ".")
        if FOLDER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
    ]


def _entries(root: int, folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        handle = os.open(folder, DIRECTORY, dir_fd=root)
    except FileNotFoundError:
        return
    try:
        with os.scandir(handle) as entries:
            yield from entries
    finally:
        os.close(handle)


def _is_artifact(relative: str) -> bool:
    try:
        ArtifactName.parse(relative)
    except ValueError:
        return False
    return True
