"""Where a run fits between others. Pure: whole minutes, counted from the time that is to be moved."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

STEP = 5
REACH = 6 * 60


def free_shift(
    busy: Iterable[tuple[int, int]], *, length: int, minute: int = 0, reach: int = REACH, step: int = STEP
) -> int | None:
    """By how many minutes to move a run of `length` minutes so that it touches none of the `busy` spans.

    Spans are half open, (start, end). `minute` is the minute of the hour that it starts at now: it is moved to a
    multiple of `step`. The smallest move is given, the later one of two alike; 0 when nothing is in the way, None when
    there is no room within `reach`.
    """
    length = max(length, 1)
    spans = merged(busy)
    starts = [start for start, _ in spans]

    def is_free(shift: int) -> bool:
        before = bisect_right(starts, shift + length - 1) - 1
        return before < 0 or spans[before][1] <= shift

    if is_free(0):
        return 0
    moves = [shift for shift in range(-reach, reach + 1) if (minute + shift) % step == 0]
    return next((shift for shift in sorted(moves, key=lambda move: (abs(move), -move)) if is_free(shift)), None)


def merged(busy: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same minutes as spans that neither touch nor overlap, ascending; empty spans are left out."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(span for span in busy if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
