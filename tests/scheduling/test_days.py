from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.cron import load_zone
from scheduling.days import (
    clock_change,
    day_bounds,
    day_of,
    day_parse,
    day_start,
    days_from,
    month_after,
    month_before,
    month_weeks,
    week_start,
)
from scheduling.week_rows import hour_bounds, hour_ticks

zones = st.sampled_from(sorted(available_timezones() - {"localtime", "Factory"})).map(load_zone)
days = st.dates(date(2012, 1, 1), date(2036, 12, 31))


@settings(deadline=None)
@given(days, zones)
def test_days_follow_each_other_without_gap_or_overlap(day: date, zone: object) -> None:
    first, second = day_start(day, zone), day_start(day + timedelta(days=1), zone)  # type: ignore[arg-type]
    assert timedelta(hours=20) <= second - first <= timedelta(hours=28)
    assert day_of(first, zone) == day  # type: ignore[arg-type]
    assert day_of(first - timedelta(seconds=1), zone) < day  # type: ignore[arg-type]


@settings(deadline=None)
@given(days, zones)
def test_a_change_of_the_clocks_is_found_exactly_on_the_days_that_are_longer_or_shorter(
    day: date, zone: object
) -> None:
    begin, end = day_bounds([day], zone)  # type: ignore[arg-type]
    change = clock_change(day, zone)  # type: ignore[arg-type]
    before, after = (
        (moment - timedelta(seconds=1)).astimezone(zone).utcoffset()  # type: ignore[arg-type]
        for moment in (begin, end)
    )
    if before != after:
        assert change is not None
        assert change.by == after - before  # type: ignore[operator]
        assert begin <= change.at < end
    else:
        assert change is None


@settings(deadline=None)
@given(days, zones)
def test_the_hours_of_a_day_add_up_to_it(day: date, zone: object) -> None:
    bounds = hour_bounds([day, day + timedelta(days=1)], zone)  # type: ignore[arg-type]
    edges = day_bounds([day, day + timedelta(days=1)], zone)  # type: ignore[arg-type]
    assert set(edges) <= set(bounds)
    steps = {later - earlier for earlier, later in pairwise(bounds)}
    assert steps <= {timedelta(hours=1), timedelta(minutes=30), timedelta(minutes=45), timedelta(minutes=15)}


@settings(deadline=None)
@given(days)
def test_a_month_is_whole_weeks_that_hold_each_of_its_days_once(day: date) -> None:
    weeks = month_weeks(day)
    shown = [each for week in weeks for each in week]
    assert all(len(week) == 7 and week[0].weekday() == 0 for week in weeks)
    assert shown == days_from(shown[0], shown[-1])
    of_month = [each for each in shown if (each.year, each.month) == (day.year, day.month)]
    assert of_month == days_from(day.replace(day=1), month_after(day) - timedelta(days=1))
    assert 4 <= len(weeks) <= 6


@settings(deadline=None)
@given(days)
def test_next_and_previous_lead_back(day: date) -> None:
    first = day.replace(day=1)
    assert month_before(month_after(day)) == first == month_after(month_before(day))
    assert week_start(day) <= day < week_start(day) + timedelta(days=7)


@pytest.mark.parametrize(
    ("zone", "day", "words"),
    [
        ("Europe/Berlin", date(2026, 3, 29), "clocks go forward 1 h at 02:00"),
        ("Europe/Berlin", date(2026, 10, 25), "clocks go back 1 h at 03:00"),
        ("Australia/Lord_Howe", date(2026, 4, 5), "clocks go back 30 min at 02:00"),
        ("Africa/Cairo", date(2026, 4, 24), "clocks go forward 1 h at 00:00"),
        ("America/Santiago", date(2026, 4, 4), "clocks go back 1 h at 00:00"),
    ],
)
def test_a_change_is_told_by_the_time_that_the_clocks_show(zone: str, day: date, words: str) -> None:
    change = clock_change(day, load_zone(zone))
    assert change is not None
    assert change.words == words


def test_an_hour_that_the_clocks_leave_out_is_not_on_the_axis() -> None:
    labels = [tick.label for tick in hour_ticks(date(2026, 3, 29), load_zone("Europe/Berlin"), step=1)]
    assert "02" not in labels
    assert len(labels) == 23


def test_a_day_begins_at_the_first_midnight_when_there_are_two() -> None:
    # In Havana the clocks go back from 01:00 to midnight.
    assert day_start(date(2026, 11, 1), load_zone("America/Havana")) == datetime(2026, 11, 1, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "today",
        "2026-02-30",
        "2026-2-3",
        "1999-12-31",
        "2200-01-01",
        "9999-12-31",
        "0001-01-01",
        "2026-11-27\n",
        "２０２６-11-27",
        "2026-11-27T00:00",
        "2026-W48-5",
        "\0",
        "-" * 5000,
    ],
)
def test_what_is_no_day_that_can_be_asked_for_is_none(text: str | None) -> None:
    assert day_parse(text) is None


def test_a_leap_day_can_be_asked_for() -> None:
    assert day_parse("2028-02-29") == date(2028, 2, 29)
