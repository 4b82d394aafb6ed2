from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduling.cron import load_zone, parse_cron
from scheduling.days import day_bounds, days_from, month_weeks
from scheduling.outlook import project
from scheduling.projection import Timetable, fires_between, fires_count, next_starts, starts_between
from scheduling.rules import rules_of

BERLIN = "Europe/Berlin"
# With changes at midnight, of half an hour, on either side of the equator, and without any.
ZONES = ("UTC", BERLIN, "America/Santiago", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata", "America/Nuuk")
SCHEDULES = (
    "30 2 * * *",
    "0 0 * * *",
    "15 0,12,23 * * *",
    "*/7 * * * *",
    "0 */5 * * *",
    "59 23 * * 0",
    "30 23 * * 6",
    "30 2 29 2 *",
    "0 3 1 * *",
    "10 1 13 * 5",
    "5 4 L * *",
    "0 1-3 * 3,10 *",
    "@weekly",
)
schedules, zones = st.sampled_from(SCHEDULES), st.sampled_from(ZONES)
moments = st.datetimes(datetime(2023, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))
# Around the changes of 2026 in these zones, where the mistakes would be.
near_changes = st.sampled_from(
    [
        date(2026, 3, 28),
        date(2026, 3, 29),
        date(2026, 4, 4),
        date(2026, 4, 5),
        date(2026, 4, 24),
        date(2026, 9, 6),
        date(2026, 10, 25),
    ]
).flatmap(
    lambda day: st.integers(-60 * 60, 36 * 60).map(
        lambda minute: datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minute)
    )
)
windows = st.one_of(
    st.none(),
    st.tuples(st.times(), st.times()).map(lambda ends: tuple(end.replace(second=0, microsecond=0) for end in ends)),
)
blackouts = st.sampled_from([(), ("2026-03-28..2026-03-29",), ("2026-10-25",), ("2026-04-04..2026-04-24",)])


def stepped(schedule: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """The fires as the clock itself finds them, one after the other."""
    cron, fires = parse_cron(schedule), []
    fire = cron.next_after(start - timedelta(seconds=1), zone)
    while fire < end:
        if fire >= start:
            fires.append(fire.astimezone(UTC))
        fire = cron.next_after(fire, zone)
    return fires


# In Nuuk the clocks leave out the last hour of a Saturday: what was due then fires when Sunday begins.
@settings(deadline=None)
@example("30 23 * * 6", "America/Nuuk", datetime(2026, 3, 28, 12, tzinfo=UTC), 24)
@given(schedules, zones, moments | near_changes, st.integers(0, 100))
def test_the_fires_of_a_span_are_those_that_the_clock_would_step_through(
    schedule: str, zone: str, start: datetime, hours: int
) -> None:
    end = start + timedelta(hours=hours, minutes=hours % 7)
    expected = stepped(schedule, zone, start, end)
    assert list(fires_between(parse_cron(schedule), zone, start, end)) == expected
    assert fires_count(parse_cron(schedule), zone, start, end) == len(expected)


def timetable(
    schedule: str,
    zone: str,
    window: tuple[time, time] | None = None,
    days: tuple[str, ...] = (),
    paused: datetime | None = None,
) -> Timetable:
    start, end = window or (None, None)
    return Timetable(
        schedule=schedule, rules=rules_of(zone=zone, start=start, end=end, blackouts=days), paused_until=paused
    )


@settings(deadline=None)
@given(
    st.lists(st.tuples(schedules, zones, windows, blackouts, st.none() | near_changes), min_size=1, max_size=4),
    zones,
    near_changes,
    near_changes,
)
def test_what_is_counted_for_a_page_is_what_stepping_through_every_time_finds(
    jobs: list[tuple[str, str, tuple[time, time] | None, tuple[str, ...], datetime | None]],
    viewer: str,
    shown: datetime,
    now: datetime,
) -> None:
    tables = [timetable(*job) for job in jobs]
    days = days_from(shown.date() - timedelta(days=4), shown.date() + timedelta(days=4))
    bounds = day_bounds(days, load_zone(viewer))
    spans = project([(table, 2) for table in tables], bounds, now, keep=3)
    expected = [[0, 0, []] for _ in days]
    for table in tables:
        for start in starts_between(table, bounds[0], bounds[-1]):
            if start.at > now:
                found = expected[bisect_right(bounds, start.at) - 1]
                found[1 if start.held else 0] += 2
                found[2].append(int(start.at.timestamp()))
    for span, (starts, held, times) in zip(spans, expected, strict=True):
        assert (span.starts, span.held) == (starts, held)
        assert [coming.at for coming in span.earliest[:1]] == sorted(times)[:1]


def test_times_that_wait_for_one_opening_are_one_run() -> None:
    table = timetable("0 * * * *", BERLIN, (time(22), time(2)))
    now = datetime(2026, 11, 27, 7, 30, tzinfo=UTC)
    first, second = next_starts(table, now, 2)
    assert (first.at, first.due, first.times) == (
        datetime(2026, 11, 27, 21, tzinfo=UTC),
        datetime(2026, 11, 27, 8, tzinfo=UTC),
        14,
    )
    assert (second.at, second.waits, second.times) == (datetime(2026, 11, 27, 22, tzinfo=UTC), False, 1)


def test_times_that_pass_for_one_reason_are_told_together() -> None:
    table = timetable("30 2 * * *", BERLIN, None, ("2026-12-24..2026-12-26",), datetime(2026, 12, 1, tzinfo=UTC))
    starts = next_starts(table, datetime(2026, 11, 27, tzinfo=UTC), 30)
    assert [(start.held, start.times, start.last.day) for start in starts if start.held] == [
        ("paused", 4, 30),
        ("blackout", 3, 26),
    ]
    assert len(starts) == 30


@pytest.mark.parametrize("schedule", ["* * * * *", "*/5 9-17 * * *"])
def test_a_long_pause_costs_no_more_than_a_short_one(schedule: str) -> None:
    table = timetable(schedule, BERLIN, None, (), datetime(2036, 12, 1, tzinfo=UTC))
    first, second = next_starts(table, datetime(2026, 11, 27, tzinfo=UTC), 2)
    assert first.held == "paused"
    assert first.times > 100_000
    assert second.at >= datetime(2036, 12, 1, tzinfo=UTC)


def test_ten_thousand_schedules_are_summed_up_by_the_day() -> None:
    tables = [(timetable(f"{n % 60} {n // 60 % 24} * * *", BERLIN), 7) for n in range(1440)]
    bounds = day_bounds([day for week in month_weeks(date(2026, 10, 1)) for day in week], load_zone(BERLIN))
    spans = project(tables, bounds, bounds[0] - timedelta(days=1), keep=3)
    assert {span.starts for span in spans} == {7 * 1440}
    assert all(len(span.earliest) == 3 for span in spans)
