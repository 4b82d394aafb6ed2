"""The file that says a data folder is a demonstration's, so that no other installation is ever written over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

MARKER = "demo.json"
# What may be there before the marker is: the settings make the key, and the lock is taken first.
UNMARKED = {"secret_key", "scheduler.lock"}
FORMAT = 1


class NotADemoError(Exception):
    """The data folder holds something that the demonstration did not make."""


def is_finished(data: Path) -> bool:
    """Whether `data` holds a demonstration built to its end. Raises `NotADemoError` if it holds anything else."""
    marker = data / MARKER
    if marker.exists():
        try:
            value = json.loads(marker.read_text(encoding="utf-8"))
            if value["format"] == FORMAT:
                return bool(value["finished"])
        except (ValueError, KeyError, TypeError):
            pass
        raise NotADemoError(f"{marker} cannot be understood, so {data} is left alone. Choose another KEEPWELL_DATA.")
    if any(path.name not in UNMARKED for path in data.iterdir()):
        raise NotADemoError(
            f"{data} holds an installation of Keepwell or other files, and a demonstration would mix with them. "
            "Set KEEPWELL_DATA to a new folder."
        )
    return False


def begin(data: Path) -> None:
    """Mark `data` as a demonstration that is being built, and remove what an earlier, interrupted one left in it."""
    write(data, finished=False)
    for path in data.iterdir():
        if path.name in UNMARKED | {MARKER}:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def write(data: Path, *, finished: bool) -> None:
    """Say in the marker how far the demonstration is."""
    (data / MARKER).write_text(json.dumps({"format": FORMAT, "finished": finished}) + "\n", encoding="utf-8")
