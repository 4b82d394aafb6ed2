from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

SIZE_LIMIT = 4 << 20


class UnreadableFileError(Exception):
    """A file that is not there, cannot be read, or is not TOML; the text says where."""


def read_configuration(path: Path) -> dict[str, Any]:
    """The file's tables as plain values. Raises `UnreadableFileError`, with the line for a syntax error."""
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error
    if len(raw) > SIZE_LIMIT:
        raise UnreadableFileError(f"{path} is larger than {SIZE_LIMIT >> 20} MiB: this is not a configuration.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableFileError(f"{path} is not UTF-8 text (line {line}). Save it as UTF-8.") from error
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise UnreadableFileError(f"{path} is not usable: its values are nested too deeply.") from error
    except ValueError as error:
        raise UnreadableFileError(f"{path} is not TOML: {error}.") from error
