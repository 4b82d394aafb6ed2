from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.free_slots import free_shift, merged

SPANS = st.lists(st.tuples(st.integers(-90, 90), st.integers(0, 40)).map(lambda span: (span[0], sum(span))), max_size=8)


def minutes(spans: list[tuple[int, int]]) -> set[int]:
    return {minute for start, end in spans for minute in range(start, end)}


@given(SPANS, st.integers(1, 45), st.integers(0, 59), st.integers(0, 60), st.sampled_from([1, 5, 15]))
def test_the_nearest_free_time_is_found(
    busy: list[tuple[int, int]], length: int, minute: int, reach: int, step: int
) -> None:
    taken = minutes(busy)
    free = [shift for shift in range(-reach, reach + 1) if not taken & set(range(shift, shift + length))]
    aligned = [shift for shift in free if (minute + shift) % step == 0]
    found = free_shift(busy, length=length, minute=minute, reach=reach, step=step)
    if 0 in free:
        assert found == 0
    elif aligned:
        assert found in aligned
        assert abs(found) == min(abs(shift) for shift in aligned)
        assert found > 0 or -found not in aligned
    else:
        assert found is None


@given(SPANS)
def test_merged_spans_are_the_same_minutes(busy: list[tuple[int, int]]) -> None:
    spans = merged(busy)
    assert minutes(spans) == minutes(busy)
    assert spans == sorted(spans)
    assert all(earlier[1] < later[0] for earlier, later in pairwise(spans))


@pytest.mark.parametrize(
    ("busy", "length", "minute", "shift"),
    [
        pytest.param([], 30, 2, 0, id="nothing in the way"),
        pytest.param([(0, 30)], 30, 0, 30, id="after it, the later of two alike"),
        pytest.param([(-30, 20)], 10, 0, 20, id="it touches what ends as it starts"),
        pytest.param([(-60, 61)], 10, 30, 65, id="at the next five minutes"),
        pytest.param([(-1000, 1000)], 10, 0, None, id="no room"),
        pytest.param([(0, 10)], 0, 0, -5, id="a run of no length still needs its minute"),
    ],
)
def test_where_a_run_fits(busy: list[tuple[int, int]], length: int, minute: int, shift: int | None) -> None:
    assert free_shift(busy, length=length, minute=minute) == shift
