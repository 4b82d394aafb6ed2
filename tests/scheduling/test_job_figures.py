from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.cron import load_zone
from scheduling.curves import Measured, duration_curve, nice_time, quantile, size_curve
from scheduling.day_counts import WORST_FIRST, Count, StripDay, success_rate, worst_first
from scheduling.week_rows import Happening, bar_row

BERLIN = load_zone("Europe/Berlin")
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
seconds = st.floats(0.001, 40 * 86400)


def measured(value: float | None, number: int, *, failed: bool = False) -> Measured:
    return Measured(at=NOON + number * timedelta(hours=1), value=value, failed=failed)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(WORST_FIRST), st.integers(0, 5)))
def test_a_day_shows_the_worst_that_it_holds(counts: dict[str, int]) -> None:
    found = worst_first(counts)
    day = StripDay(day=NOON.date(), counts=found, quiet="nothing due")
    held = [word for word in WORST_FIRST if counts.get(word)]
    assert day.status == (held[0] if held else "none")
    assert [count.word for count in found] == held
    assert sum(count.number for count in found) == sum(counts.values())


def test_a_day_says_everything_that_it_holds() -> None:
    counts = worst_first({"succeeded": 1204, "failed": 2, "needs_approval": 1, "missed": 3})
    day = StripDay(day=NOON.date(), counts=counts)
    assert day.label == "Fri 27 Nov 2026: 2 failed, 3 missed, 1 needs approval, 1\u202f204 succeeded"
    assert Count(word="warning", number=2).short == "2 warnings"


@pytest.mark.parametrize(
    ("counts", "percent"),
    [
        ({}, "–"),
        ({"cancelled": 3, "skipped": 2, "running": 1, "missed": 4}, "–"),
        ({"succeeded": 1}, "100\u00a0%"),
        ({"warning": 1, "needs_approval": 1, "lost": 2}, "50\u00a0%"),
        ({"succeeded": 9999, "failed": 1}, "99.9\u00a0%"),
        ({"succeeded": 1, "failed": 9999}, "<1\u00a0%"),
        ({"failed": 2}, "0\u00a0%"),
        ({"succeeded": 97, "failed": 3}, "97.0\u00a0%"),
    ],
)
def test_the_success_rate_counts_what_came_to_an_end_of_its_own(counts: dict[str, int], percent: str) -> None:
    assert success_rate(counts).percent == percent


@settings(deadline=None)
@given(st.lists(seconds, min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_is_a_value_that_this_share_does_not_exceed(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


@settings(deadline=None)
@given(seconds)
def test_the_top_of_a_scale_of_time_holds_its_value(value: float) -> None:
    assert nice_time(value) >= value


@settings(deadline=None)
@given(st.lists(st.tuples(st.none() | seconds, st.booleans()), max_size=40))
def test_every_place_of_a_curve_is_inside_its_picture(runs: list[tuple[float | None, bool]]) -> None:
    curve = duration_curve([measured(value, n, failed=bad) for n, (value, bad) in enumerate(runs)], BERLIN)
    good = [value for value, bad in runs if value is not None and not bad]
    if curve is None:
        assert len(good) < 2
        return
    for point in curve.points:
        assert all(0 <= float(place.removesuffix("%")) <= 100 for place in (point.x, point.y))
    assert curve.path.count("L") == len(good) - 1
    assert sum(point.failed for point in curve.points) == sum(bad for _, bad in runs)


def test_a_curve_says_in_words_what_it_shows() -> None:
    runs = [measured(60, 0), measured(90, 1, failed=True), measured(120, 2), measured(180, 3)]
    curve = duration_curve(runs, BERLIN)
    assert curve is not None
    assert curve.words == (
        "Duration of 3 runs from Fri 27 Nov 2026 to Fri 27 Nov 2026: typically 2\u00a0min, between 1\u00a0min and "
        "3\u00a0min, the last 3\u00a0min; 1 that did not succeed is marked."
    )
    assert curve.points[1].title == "Fri 27 Nov 2026, 14:00: did not succeed, after 1\u00a0min 30\u00a0s"
    assert [level.label for level in curve.levels] == ["4\u00a0min", "2\u00a0min", "0"]


def test_a_failed_run_that_took_ages_does_not_flatten_the_curve() -> None:
    curve = duration_curve([measured(60, 0), measured(90_000, 1, failed=True), measured(100, 2)], BERLIN)
    assert curve is not None
    assert curve.levels[0].label == "2\u00a0min"


def test_one_size_makes_no_curve() -> None:
    assert size_curve([measured(2**30, 0), measured(None, 1)], BERLIN, noun="Stored") is None


happenings = st.lists(
    st.tuples(st.integers(-30 * 60, 30 * 60), st.integers(0, 36 * 60), st.sampled_from(["a", "nightly", "x" * 80])),
    max_size=80,
)


@settings(deadline=None)
@given(happenings)
def test_bars_of_one_lane_do_not_touch_and_none_leaves_the_day(found: list[tuple[int, int, str]]) -> None:
    items = [
        Happening(
            start=NOON + timedelta(minutes=at),
            end=NOON + timedelta(minutes=at + took),
            name=name,
            status="succeeded",
            url="",
            title="",
        )
        for at, took, name in found
    ]
    row = bar_row(NOON.date(), BERLIN, items, NOON)
    lanes: dict[int, float] = {}
    for bar in row.bars:
        x, width = float(bar.x[:-1]), float(bar.width[:-1])
        assert 0 <= x <= 100
        assert x + width <= 100.02
        assert x >= lanes.get(bar.lane, -1)
        lanes[bar.lane] = x + width
    begin, end = datetime(2026, 11, 26, 23, tzinfo=UTC), datetime(2026, 11, 27, 23, tzinfo=UTC)
    reaching = sum(item.start < end and item.end >= begin for item in items)
    assert len(row.bars) + row.left_out == reaching
    assert row.height <= 10 * 18 + 4
