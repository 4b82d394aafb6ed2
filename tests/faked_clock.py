"""Child processes whose wall clock the test moves while they run, by libfaketime."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PLACES = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")


def libfaketime() -> Path:
    """The library for programs with threads. Skips the test, which is to be marked with `services`, without it."""
    for place in PLACES:
        for found in Path("/").glob(f"{place[1:]}/libfaketimeMT.so.1"):
            return found
    pytest.skip("no libfaketime here (apt install faketime)")


class FakedClock:
    """The time of the processes that are started with `environment`: the machine's, moved by an offset.

    With `monotonic` the clocks that nobody can set are moved as well, as some tools do. What a file says, the machine's
    uptime among it, stays true.
    """

    def __init__(self, folder: Path, *, monotonic: bool) -> None:
        self.file = folder / "faketime"
        self.move("+0")
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(libfaketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "0" if monotonic else "1",
            "NO_FAKE_STAT": "1",
        }

    def move(self, offset: str) -> None:
        """Let the time be `offset` from the machine's from now on: "+0", "+400d", "-30d"."""
        move_clock(self.file, offset)


def move_clock(file: Path, offset: str) -> None:
    """Whole or not at all: the file is read at every look at a clock, and an empty one ends the process."""
    draft = file.with_suffix(".new")
    draft.write_text(f"{offset}\n")
    draft.rename(file)
