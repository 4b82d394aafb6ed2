from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from scheduling.units import binary_size

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
    return f"{binary_size(size)} is under half of {binary_size(usual)}, {before}"
