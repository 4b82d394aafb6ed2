from __future__ import annotations

from collections.abc import Sequence
from statistics import median

LOOK_BACK = 5


def suspect_reason(*, size: int, entries: int, previous_sizes: Sequence[int]) -> str:
    """Why a new copy is probably not what it should be; blank when nothing speaks against it.

    `size` in bytes, `entries` the files, rows or documents inside, `previous_sizes` the sizes of the good copies before
    it, newest first, of which the first five count. A copy is suspect when it is empty or under half their median.
    """
    if entries <= 0:
        return "it holds no entries"
    if size <= 0:
        return "it is empty (0 bytes)"
    recent = previous_sizes[:LOOK_BACK]
    if not recent:
        return ""
    usual = median(recent)
    if size * 2 >= usual:
        return ""
    before = "the copy before it" if len(recent) == 1 else f"the median of the {len(recent)} copies before it"
    return f"{_shown(size)} is under half of {_shown(usual)}, {before}"


def _shown(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
