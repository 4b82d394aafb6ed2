"""Figures as people read them. Pure."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
TIMES = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def binary_size(size: float, *, space: str = " ") -> str:
    """Bytes in binary units with three significant figures at most, such as `1.4 GiB` or `312 B`."""
    sign, rest = ("−", -float(size)) if size < 0 else ("", float(size))
    unit = 0
    # 1023.5 would round to 1024: it is the next unit's 1.0.
    while rest >= (1023.5 if unit else 1024) and unit < len(UNITS) - 1:
        rest /= 1024
        unit += 1
    figure = f"{rest:.0f}" if unit == 0 or rest >= 99.95 else f"{rest:.1f}"
    return f"{sign}{figure}{space}{UNITS[unit]}"


def counted(count: int, noun: str) -> str:
    """A number with its noun in the right form, such as `1 file` or `1,204 files`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def spoken(value: timedelta | float, *, space: str = " ") -> str:
    """A length of time (or seconds) in the two largest units that say something, such as `3 h 12 min` or `45 s`."""
    seconds = round(value.total_seconds() if isinstance(value, timedelta) else value)
    for (unit, size), (below, small) in pairwise(TIMES):
        if seconds >= size:
            rest = seconds % size // small
            tail = f" {rest}{space}{below}" if rest else ""
            return f"{seconds // size}{space}{unit}{tail}"
    return f"{seconds}{space}s"
