"""Schedules across every change of the clocks in two years, in every zone that has one, against a brute force."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.cron import load_zone, parse_cron
from tests.scheduling import cron_oracle as oracle
from tests.scheduling.cron_oracle import Change

TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)

SCHEDULES = (
    "30 2 * * *",
    "0 0 * * *",
    "15,45 0-3 * * *",
    "*/10 * * * *",
    "0 * * * *",
    "45 * * * 6",
    "*/10 2 * * *",
    "0 */2 * * *",
    "*/15 0-6,22-23 * * *",
    "30 23 * * 6",
    "59 1 * * 0,7",
    "0 3 29 3 sun",
    "30 0 * * fri-sat",
    "20 1 */2 * 0",
)

ODD = {
    "Australia/Lord_Howe": "half an hour",
    "Antarctica/Troll": "two hours",
    "Africa/Casablanca": "back for Ramadan, forward after it",
    "Africa/El_Aaiun": "the same, another zone",
    "Europe/Dublin": "winter is the odd time out",
    "Asia/Gaza": "a rule that is decreed",
    "Asia/Beirut": "no midnight",
    "Africa/Cairo": "no midnight on a Friday",
    "America/Santiago": "midnight, southern half",
    "America/Havana": "midnight",
    "America/Nuuk": "the day before ends an hour early",
    "America/St_Johns": "half an hour beside the hour",
    "Pacific/Chatham": "a quarter beside the hour",
    "America/Vancouver": "once, and never again",
}


@cache
def fires_around(schedule: str, change: Change, zone: str, hours: int) -> tuple[datetime, ...]:
    start = change.eve - hours * HOUR
    return tuple(oracle.fires(schedule, ZoneInfo(zone), start, change.eve + hours * HOUR))


@cache
def zone_with(change: Change) -> str:
    """One zone stands for all that change alike: near the change their clocks show the same."""
    return next(name for name in oracle.changing_zones() if change in oracle.changes(name))


def check(schedule: str, zone: str, change: Change, *, hours: int = 3) -> None:
    """Forward, backward and several at once name exactly the oracle's fires."""
    expected = fires_around(schedule, change, zone_with(change), hours)
    start, end = change.eve - hours * HOUR, change.eve + hours * HOUR
    cron = parse_cron(schedule)
    found = [fire.astimezone(UTC) for fire in cron.next_fires(start - TICK, zone, len(expected) + 1)]
    assert tuple(found[:-1]) == expected, (schedule, zone, change)
    assert found[-1] >= end, (schedule, zone, change)
    before = None
    for fire in expected:
        assert cron.last_at_or_before(fire, zone).astimezone(UTC) == fire, (schedule, zone, fire)
        earlier = cron.last_at_or_before(fire - TICK, zone).astimezone(UTC)
        assert earlier == before if before is not None else earlier < start, (schedule, zone, fire)
        assert cron.fires_at(fire, zone), (schedule, zone, fire)
        before = fire


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_zone_that_changes_its_clocks_fires_as_the_words_say(schedule: str) -> None:
    zones = oracle.changing_zones()
    assert len(zones) > 100
    for zone in zones:
        for change in oracle.changes(zone):
            check(schedule, zone, change)


@pytest.mark.parametrize("zone", ODD)
def test_every_minute_around_an_odd_change_looks_back_and_ahead_alike(zone: str) -> None:
    assert oracle.changes(zone)
    for change in oracle.changes(zone)[:2]:
        for schedule in ("30 0,2 * * *", "*/20 * * * *", "0 0 * * 0", "0 */2 * * *"):
            every_minute(schedule, zone, change)


def every_minute(schedule: str, zone: str, change: Change, hours: int = 3) -> None:
    cron = parse_cron(schedule)
    expected = fires_around(schedule, change, zone, hours)
    start, end = change.eve - hours * HOUR, change.eve + hours * HOUR
    for moment in oracle.minutes_of(start, end):
        ahead = next((fire for fire in expected if fire > moment), None)
        back = next((fire for fire in reversed(expected) if fire <= moment), None)
        following = cron.next_after(moment, zone).astimezone(UTC)
        last = cron.last_at_or_before(moment, zone).astimezone(UTC)
        assert following == ahead if ahead else following >= end, (schedule, zone, moment)
        assert last == back if back else last < start, (schedule, zone, moment)
        assert cron.fires_at(moment, zone) == (moment in expected), (schedule, zone, moment)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_minute_of_the_days_around_every_change_looks_back_and_ahead_alike(schedule: str) -> None:
    for change in sorted({change for zone in oracle.changing_zones() for change in oracle.changes(zone)}, key=str):
        every_minute(schedule, zone_with(change), change, hours=30)


@pytest.mark.slow
@pytest.mark.parametrize("zone", [*ODD, "Europe/Berlin", "America/New_York"])
def test_two_whole_years_fire_as_the_words_say(zone: str) -> None:
    start, end = oracle.SPAN
    for schedule in ("30 2 * * *", "*/10 * * * *", "0 0 * * 0", "0 */2 * * *", "30 0 1 * *"):
        expected = oracle.fires(schedule, ZoneInfo(zone), start, end)
        moment, found = start - TICK, []
        cron = parse_cron(schedule)
        while (moment := cron.next_after(moment, zone).astimezone(UTC)) < end:
            found.append(moment)
        assert found == expected
        for earlier, fire in pairwise(found):
            assert cron.last_at_or_before(fire - TICK, zone).astimezone(UTC) == earlier


FIELD = st.sampled_from
CRONS = st.builds(
    " ".join,
    st.tuples(
        FIELD(["*", "0", "30", "59", "*/10", "*/7", "5-25/5", "0,15,45"]),
        FIELD(["*", "0", "1", "2", "3", "23", "*/2", "0-3", "22-23", "0-23", "1,2,3"]),
        FIELD(["*", "*/2", "1", "25-31", "29"]),
        FIELD(["*", "3,10", "4-9"]),
        FIELD(["*", "0", "7", "6", "sun", "fri,sat", "1-5"]),
    ),
)


@given(CRONS, st.data())
def test_any_schedule_fires_at_any_change_as_the_words_say(schedule: str, data: st.DataObject) -> None:
    zone = data.draw(st.sampled_from(oracle.changing_zones()))
    check(schedule, zone, data.draw(st.sampled_from(oracle.changes(zone))), hours=5)


@given(
    st.one_of(
        CRONS, st.sampled_from(["0 0 29 2 *", "30 2 29 2 0", "0 0 13 * 5", "0 0 L * *", "0 0 * * 5L", "0 12 * * 1#1"])
    ),
    st.datetimes(datetime(2000, 1, 1), datetime(2060, 12, 31), timezones=st.just(UTC)),
    st.sampled_from(["Pacific/Apia", "Europe/Berlin", "Asia/Pyongyang", "America/Caracas", "UTC", "Pacific/Kwajalein"]),
)
def test_forward_and_backward_agree_far_from_any_change_too(schedule: str, moment: datetime, zone: str) -> None:
    cron = parse_cron(schedule)
    following = cron.next_after(moment, zone).astimezone(UTC)
    last = cron.last_at_or_before(moment, zone).astimezone(UTC)
    assert last <= moment < following
    assert cron.last_at_or_before(following - TICK, zone).astimezone(UTC) == last
    assert cron.next_after(last, zone).astimezone(UTC) == following
    assert cron.next_after(last - TICK, zone).astimezone(UTC) == last


@pytest.mark.parametrize(
    ("schedule", "zone", "start", "expected"),
    [
        pytest.param(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00+02:00",
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
            id="02:30 comes twice: at the first",
        ),
        pytest.param(
            "30 2 * * *",
            "Europe/Berlin",
            "2027-03-27T12:00+01:00",
            ["2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00"],
            id="02:30 is left out: at 03:00",
        ),
        pytest.param(
            "*/10 2 * * *",
            "Europe/Berlin",
            "2027-03-28T01:00+01:00",
            ["2027-03-28T03:00:00+02:00", "2027-03-29T02:00:00+02:00"],
            id="six times are left out: once, at 03:00",
        ),
        pytest.param(
            "0,30 2,3 * * *",
            "Europe/Berlin",
            "2027-03-28T01:00+01:00",
            ["2027-03-28T03:00:00+02:00", "2027-03-28T03:30:00+02:00"],
            id="a time that is left out falls together with one that is not",
        ),
        pytest.param(
            "0 * * * *",
            "Europe/Berlin",
            "2026-10-25T01:30+02:00",
            ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"],
            id="every hour goes on every hour",
        ),
        pytest.param(
            "0 0-23 * * *",
            "Europe/Berlin",
            "2026-10-25T01:30+02:00",
            ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"],
            id="every hour, however it is written",
        ),
        pytest.param(
            "30 * * * *",
            "Europe/Berlin",
            "2027-03-28T01:15+01:00",
            ["2027-03-28T01:30:00+01:00", "2027-03-28T03:30:00+02:00"],
            id="every hour makes up for nothing",
        ),
        pytest.param(
            "0 0 * * *",
            "Asia/Beirut",
            "2026-03-28T12:00+02:00",
            ["2026-03-29T01:00:00+03:00", "2026-03-30T00:00:00+03:00"],
            id="there is no midnight",
        ),
        pytest.param(
            "30 23 * * 6",
            "America/Nuuk",
            "2026-03-28T12:00-02:00",
            ["2026-03-29T00:00:00-01:00", "2026-04-04T23:30:00-01:00"],
            id="the day ends early: at the first instant of the next",
        ),
    ],
)
def test_the_words_of_the_design(schedule: str, zone: str, start: str, expected: list[str]) -> None:
    fires = parse_cron(schedule).next_fires(datetime.fromisoformat(start), zone, len(expected))
    assert [fire.isoformat() for fire in fires] == expected


def test_a_day_that_a_zone_left_out_runs_at_the_first_instant_after_it() -> None:
    """Samoa went from 29 December 2011 to 31 December."""
    fires = parse_cron("0 3 30 12 *").next_fires(datetime(2011, 12, 29, tzinfo=UTC), "Pacific/Apia", 2)
    assert [fire.isoformat() for fire in fires] == ["2011-12-31T00:00:00+14:00", "2012-12-30T03:00:00+14:00"]


def test_the_time_a_fire_is_for_is_known_when_the_clocks_left_it_out() -> None:
    cron = parse_cron("30 2 * * *")
    fire = cron.next_after(datetime(2027, 3, 27, 12, tzinfo=UTC), "Europe/Berlin")
    assert fire.hour == 3
    assert cron.wall_time(fire, "Europe/Berlin") == datetime(2027, 3, 28, 2, 30)
    assert fire.tzinfo is load_zone("Europe/Berlin")
