"""Folder trees and single files, read by GNU tar."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from backups.archive.errors import Stopped
from backups.sources.errors import SourceConfigError, SourceError
from backups.sources.gnutar import GnuTar, find_gnu_tar
from backups.sources.heeding import heeding
from scheduling.printable import printable

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping, Sequence

    from backups.sources.kinds import Children, Log

KIND = "files"
SUFFIX = ".tar"


def clean(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check `{"paths": [...], "exclude": [...]}` strictly and normalise it.

    An exclude pattern has GNU tar's meaning: shell wildcards that also match "/", against the whole name or what
    follows any "/" in it. One that starts with "/" is matched from the root. Raises `SourceConfigError`.
    """
    errors = {
        str(key): "This field is unknown. A files target has paths and exclude." for key in config.keys() - _FIELDS
    }
    paths = _clean_paths(config.get("paths"), errors)
    exclude = _clean_exclude(config.get("exclude", []), errors)
    if errors:
        raise SourceConfigError(errors)
    return {"paths": paths, "exclude": exclude}


def check(config: Mapping[str, Any]) -> list[str]:
    """Name every path that is missing, special, unreadable or empty, and a missing GNU tar."""
    problems = []
    for path in config["paths"]:
        try:
            root = _real_root(path)
            if not _has_entry(root):
                problems.append(_empty(path))
        except SourceError as error:
            problems.append(str(error))
    try:
        find_gnu_tar()
    except SourceError as error:
        problems.append(str(error))
    return problems


@contextmanager
def open(  # noqa: A001  (the same name in every module of this folder)
    config: Mapping[str, Any],
    *,
    log: Log,
    stop: threading.Event,
    children: Children = nullcontext,
    forbidden: Sequence[Path] = (),
) -> Iterator[GnuTar]:
    """Read the tree as one pax archive with names relative to "/".

    What cannot be read, or changes while it is read, is a warning; a path that is missing, special or inside out with a
    storage, or a tree without any file, raises `SourceError`: an unmounted disk must not look like a good copy.
    """

    def look() -> tuple[list[Path], list[Path]]:
        roots = _roots(config["paths"], log)
        _refuse_forbidden(roots, forbidden)
        return roots, [root for root in roots if not _has_entry(root, stop)]

    tar = find_gnu_tar(stop)
    # A network disk that does not answer lets the first look at it hang already.
    roots, empty = heeding(stop, look)
    if len(empty) == len(roots):
        raise SourceError(_empty(", ".join(printable(os.fspath(root)) for root in roots)))
    with GnuTar(tar, roots, config["exclude"], log=log, stop=stop, children=children) as stream:
        for root in empty:
            stream.warn(_empty(root))
        yield stream


_FIELDS = {"paths", "exclude"}


def _clean_paths(value: object, errors: dict[str, str]) -> list[str]:
    if not _is_list_of_text(value) or not value:
        errors["paths"] = "Give at least one absolute path, such as /etc."
        return []
    paths = []
    for text in value:
        if "\0" in text or not text.startswith("/"):
            errors["paths"] = f"{printable(text)!r} is not an absolute path. Start it with a slash, such as /etc."
            return []
        # normpath keeps exactly two leading slashes, which mean nothing on Linux.
        paths.append("/" + os.path.normpath(text).lstrip("/"))
    for index, path in enumerate(paths):
        for other in paths[:index] + paths[index + 1 :]:
            if path == other:
                errors["paths"] = f"{printable(path)} is there twice. Remove one."
            elif Path(path).is_relative_to(other):
                errors["paths"] = f"{printable(path)} is already inside {printable(other)}. Remove one of them."
    return paths


def _clean_exclude(value: object, errors: dict[str, str]) -> list[str]:
    if not _is_list_of_text(value):
        errors["exclude"] = "Give a list of patterns, such as *.tmp."
        return []
    patterns = []
    for text in value:
        # tar's names have no trailing slash: with one, a pattern would match nothing.
        pattern = text.rstrip("/")
        if not pattern.strip() or "\0" in pattern or "\n" in pattern:
            errors["exclude"] = f"{printable(text)!r} is not a pattern. Write one a line, such as *.tmp."
        elif pattern not in patterns:
            patterns.append(pattern)
    return patterns


def _is_list_of_text(value: object) -> TypeGuard[Sequence[str]]:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _roots(paths: Sequence[str], log: Log) -> list[Path]:
    roots: list[Path] = []
    for path in paths:
        root = _real_root(path)
        if root != Path(path):
            log("info", f"{printable(path)} is a link: {printable(os.fspath(root))} is backed up instead.")
        roots.append(root)
    # After links were resolved, one root can be inside another: tar would pack it twice.
    kept = [
        root
        for index, root in enumerate(roots)
        if not any(root != other and root.is_relative_to(other) for other in roots) and root not in roots[:index]
    ]
    for root in dict.fromkeys(roots):
        if root not in kept:
            log("info", f"{printable(os.fspath(root))} is packed once, with the folder above it.")
    return kept


def _real_root(path: str) -> Path:
    shown = printable(path)
    try:
        root = Path(path)
        if root.is_symlink():
            root = root.resolve(strict=True)
        mode = root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceError(f"{shown} does not exist. Check that the disk is mounted, then run again.") from error
    except (OSError, RuntimeError) as error:
        raise SourceError(
            f"{shown} cannot be read: {_reason(error)}. Check its permissions, then run again."
        ) from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise SourceError(f"{shown} is neither a folder nor a file. Choose the folder it is in.")
    if not os.access(root, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
        raise SourceError(
            f"{shown} cannot be read: permission denied. Run Keepwell as a user who may read it, or change its "
            "permissions, then run again."
        )
    return root


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def _refuse_forbidden(roots: Sequence[Path], forbidden: Sequence[Path]) -> None:
    for root in roots:
        real = root.resolve()
        for path in forbidden:
            place = path.resolve()
            if place.is_relative_to(real) or real.is_relative_to(place):
                raise SourceError(
                    f"{printable(os.fspath(root))} and the storage {printable(os.fspath(path))} are one inside the "
                    "other: the copies would contain themselves. Choose narrower paths, or move the storage."
                )


def _has_entry(root: Path, stop: threading.Event | None = None) -> bool:
    """Look for anything that is not a folder; stops at the first, and takes what it may not read as there.

    Raises `Stopped` once `stop` is set.
    """
    if not root.is_dir():
        return True
    pending = [root]
    while pending:
        if stop is not None and stop.is_set():
            raise Stopped
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        return True
                    pending.append(Path(entry.path))
        except OSError:
            return True
    return False


def _empty(path: Path | str) -> str:
    return f"{printable(os.fspath(path))} is empty: no file is in it. Check that the disk is mounted, then run again."
