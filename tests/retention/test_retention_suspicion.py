from __future__ import annotations

import pytest

from backups.retention import suspect_reason

MIB = 2**20


@pytest.mark.parametrize(
    ("size", "previous_sizes"),
    [
        (1, []),
        (50, [100]),
        (50, [100, 90, 110, 100, 100]),
        (10_000, [100] * 5),
        # Only the newest five count: the target shrank some time ago.
        (50, [60] * 5 + [1000] * 20),
    ],
)
def test_a_copy_of_a_usual_size_is_not_suspect(size: int, previous_sizes: list[int]) -> None:
    assert suspect_reason(size=size, entries=1, previous_sizes=previous_sizes) == ""


@pytest.mark.parametrize(
    ("size", "entries", "previous_sizes", "reason"),
    [
        (1000, 0, [], "it holds no entries"),
        (0, 3, [], "it is empty (0 bytes)"),
        (49, 3, [100], "49 B is under half of 100 B, the copy before it"),
        (
            99 * MIB,
            3,
            [300 * MIB, 200 * MIB, 1, 400 * MIB, 200 * MIB, 1, 1, 1],
            "99.0 MiB is under half of 200 MiB, the median of the 5 copies before it",
        ),
    ],
)
def test_an_empty_or_shrunken_copy_is_suspect(size: int, entries: int, previous_sizes: list[int], reason: str) -> None:
    assert suspect_reason(size=size, entries=entries, previous_sizes=previous_sizes) == reason
