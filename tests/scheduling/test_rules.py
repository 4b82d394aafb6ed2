"""Run windows and blackout dates, against the wall clock looked at minute by minute."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scheduling.rules import MAX_BLACKOUTS, Days, RuleError, Rules, blackouts_parse, rules_of
from tests.scheduling import cron_oracle as oracle

BERLIN = "Europe/Berlin"
NIGHT = (time(22), time(6))


def is_open(window: tuple[time, time], zone: ZoneInfo, moment: datetime) -> bool:
    """The oracle: whether the wall clock shows a time of the window."""
    start, end = ((at.hour * 60 + at.minute) for at in window)
    wall = moment.astimezone(zone)
    now = wall.hour * 60 + wall.minute
    return any(start <= now + days * 1440 < (end if end > start else end + 1440) for days in (0, 1))


def first_open(window: tuple[time, time], zone: ZoneInfo, moment: datetime) -> datetime:
    """The oracle: the first of the minutes from `moment` on at which the window is open."""
    return next(at for at in oracle.minutes_of(moment, moment + timedelta(days=5)) if is_open(window, zone, at))


MINUTES = st.integers(0, 1439).map(lambda minute: time(minute // 60, minute % 60))
NEAR = st.integers(0, 16).map(
    lambda quarter: time((22 + quarter // 4) % 24 if quarter > 8 else quarter // 4, 15 * (quarter % 4))
)


@example("Asia/Beirut", 0, (time(0), time(0, 30)), -30)
@example("Europe/Berlin", 1, (time(2, 30), time(3)), 70)
@given(
    st.sampled_from(oracle.changing_zones()),
    st.integers(0, 3),
    st.tuples(st.one_of(MINUTES, NEAR), st.one_of(MINUTES, NEAR)),
    st.integers(-1500, 300),
)
def test_a_window_opens_when_the_wall_clock_next_shows_it(
    zone: str, number: int, window: tuple[time, time], minutes: int
) -> None:
    changes = oracle.changes(zone)
    moment = changes[number % len(changes)].eve + timedelta(minutes=minutes)
    rules = Rules(zone=zone, window=window)
    assert rules.is_open(moment) == is_open(window, ZoneInfo(zone), moment)
    assert rules.opens_at(moment) == first_open(window, ZoneInfo(zone), moment)


@given(st.sampled_from(oracle.changing_zones()), st.tuples(MINUTES, MINUTES), st.integers(0, 2 * 365 * 1440))
def test_what_waited_for_a_window_finds_it_open(zone: str, window: tuple[time, time], minutes: int) -> None:
    moment = oracle.SPAN[0] + timedelta(minutes=minutes, seconds=17)
    rules = Rules(zone=zone, window=window)
    opening = rules.opens_at(moment)
    assert moment <= opening < moment + timedelta(hours=49)
    assert rules.is_open(opening)
    assert rules.opens_at(opening) == opening
    assert opening == moment or not rules.is_open(opening - timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("window", "zone", "moment", "opening"),
    [
        pytest.param(NIGHT, BERLIN, "2026-11-23T21:59+01:00", "2026-11-23T22:00+01:00", id="in the evening"),
        pytest.param(NIGHT, BERLIN, "2026-11-24T05:59+01:00", "2026-11-24T05:59+01:00", id="open past midnight"),
        pytest.param(NIGHT, BERLIN, "2026-11-24T06:00+01:00", "2026-11-24T22:00+01:00", id="its end is outside"),
        pytest.param((time(9), time(9)), BERLIN, "2026-11-24T06:00+01:00", "2026-11-24T06:00+01:00", id="all day"),
        pytest.param(
            (time(2, 15), time(4)),
            BERLIN,
            "2027-03-28T01:30+01:00",
            "2027-03-28T03:00+02:00",
            id="its start is left out",
        ),
        pytest.param(
            (time(2), time(2, 30)),
            BERLIN,
            "2027-03-28T01:30+01:00",
            "2027-03-29T02:00+02:00",
            id="all of it is left out",
        ),
        pytest.param(
            (time(2, 30), time(3)), BERLIN, "2026-10-25T02:10+01:00", "2026-10-25T02:30+01:00", id="it comes twice"
        ),
        pytest.param(
            (time(0), time(1)), "Asia/Beirut", "2026-03-28T23:00+02:00", "2026-03-30T00:00+03:00", id="no midnight hour"
        ),
    ],
)
def test_a_window_is_read_on_the_wall_clock(window: tuple[time, time], zone: str, moment: str, opening: str) -> None:
    assert Rules(zone=zone, window=window).opens_at(datetime.fromisoformat(moment)) == datetime.fromisoformat(opening)


@given(
    st.sampled_from(oracle.changing_zones()),
    st.dates(date(2026, 1, 1), date(2027, 12, 20)),
    st.integers(0, 5),
    st.integers(0, 2 * 365 * 1440),
)
def test_a_blackout_is_its_days_on_the_wall(zone: str, first: date, days: int, minutes: int) -> None:
    rules = Rules(zone=zone, blackouts=(Days(first=first, last=first + timedelta(days=days)),))
    moment = oracle.SPAN[0] + timedelta(minutes=minutes)
    day = moment.astimezone(ZoneInfo(zone)).date()
    assert (rules.blackout(moment) is not None) == (0 <= (day - first).days <= days)


@given(st.lists(st.tuples(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(0, 400)), max_size=MAX_BLACKOUTS))
def test_blackout_dates_are_read_as_they_are_written(spans: list[tuple[date, int]]) -> None:
    days = tuple(Days(first=first, last=first + timedelta(days=length)) for first, length in spans)
    assert blackouts_parse(str(each) for each in days) == days


@pytest.mark.parametrize(
    "text",
    [
        "",
        "24.12.2026",
        "2026-02-30",
        "2026-12-24..",
        "2026-12-26..2026-12-24",
        "2026-12-24\0",
        "٢٠٢٦-12-24",
        "x" * 9999,
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        blackouts_parse([text])


def test_a_job_without_rules_may_always_start() -> None:
    rules = rules_of(zone="UTC", start=None, end=None, blackouts=[])
    moment = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)
    assert rules.opens_at(moment) == moment
    assert rules.blackout(moment) is None
