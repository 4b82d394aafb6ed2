from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scheduling.cron import ScheduleError, load_zone, parse_cron

BERLIN = "Europe/Berlin"
MONDAY = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        pytest.param("0 3 * * 0", "2026-11-29 03:00", id="0 is Sunday"),
        pytest.param("0 3 * * 7", "2026-11-29 03:00", id="7 is Sunday"),
        pytest.param("0 3 * * sun", "2026-11-29 03:00", id="names in small letters"),
        pytest.param("0 3 * * 1", "2026-11-30 03:00", id="1 is Monday"),
        pytest.param("0 3 * * 1-5", "2026-11-24 03:00", id="1-5 is Monday to Friday"),
        pytest.param("0 3 13 * 5", "2026-11-27 03:00", id="day of month OR day of week"),
        pytest.param("0 3 */2 * 5", "2026-11-27 03:00", id="AND when the day of month starts with a star"),
        pytest.param("*/15 * * * *", "2026-11-23 12:15", id="every quarter of an hour"),
        pytest.param("@daily", "2026-11-24 00:00", id="@daily"),
        pytest.param("@Weekly", "2026-11-29 00:00", id="@weekly in any case"),
        pytest.param("@monthly", "2026-12-01 00:00", id="@monthly"),
        pytest.param("@yearly", "2027-01-01 00:00", id="@yearly"),
        pytest.param("0 0 29 2 *", "2028-02-29 00:00", id="leap day"),
        pytest.param("  30   2 * *  * ", "2026-11-24 02:30", id="any white space"),
    ],
)
def test_cron_means_what_crontab_means(schedule: str, expected: str) -> None:
    assert parse_cron(schedule).next_after(MONDAY, "UTC") == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param("   ", "empty", id="blank"),
        pytest.param("* * * *", "has 4 fields", id="four fields"),
        pytest.param("0 * * * * *", "has 6 fields", id="six fields are not seconds first"),
        pytest.param("60 * * * *", "minute “60”", id="minute 60"),
        pytest.param("0 24 * * *", "hour “24”", id="hour 24"),
        pytest.param("0 0 31 2 *", "day of month “31”", id="31 February never happens"),
        pytest.param("0 0 * 13 *", "month “13”", id="month 13"),
        pytest.param("0 0 * * 8", "day of week “8”", id="weekday 8"),
        pytest.param("*/0 * * * *", "minute “*/0”", id="step 0"),
        pytest.param("5-1 * * * *", "minute “5-1”", id="backward range"),
        pytest.param("a b c d e", "minute “a”", id="letters"),
        pytest.param("@reboot", "@daily", id="@reboot"),
        pytest.param("@" + "x" * 500, "longer than", id="endless"),
        pytest.param("\0 * * * *", "minute", id="NUL"),
        pytest.param("٣ * * * *", "minute", id="other digits"),
    ],
)
def test_a_bad_schedule_is_refused_with_its_reason(schedule: str, reason: str) -> None:
    with pytest.raises(ScheduleError, match=reason.replace("*", r"\*")):
        parse_cron(schedule)


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "../../etc/passwd", "Europe/Berlin\0", "x" * 1000, "/etc/localtime"]
)
def test_a_bad_zone_is_refused(zone: str) -> None:
    with pytest.raises(ScheduleError, match="not a time zone"):
        load_zone(zone)


def test_a_time_in_the_spring_gap_fires_at_the_first_valid_instant() -> None:
    before = datetime(2026, 3, 28, 12, tzinfo=ZoneInfo(BERLIN))
    fires = parse_cron("30 2 * * *").next_fires(before, BERLIN, 2)
    assert [fire.isoformat() for fire in fires] == ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]


def test_a_time_in_the_autumn_fold_fires_once() -> None:
    before = datetime(2026, 10, 24, 12, tzinfo=ZoneInfo(BERLIN))
    fires = parse_cron("30 2 * * *").next_fires(before, BERLIN, 2)
    assert [fire.isoformat() for fire in fires] == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]


def test_inside_the_second_half_of_the_fold_the_first_half_is_not_fired_again() -> None:
    second_half = datetime(2026, 10, 25, 2, 15, fold=1, tzinfo=ZoneInfo(BERLIN))
    assert parse_cron("30 2 * * *").next_after(second_half, BERLIN).isoformat() == "2026-10-26T02:30:00+01:00"


@example(moment=datetime(2025, 3, 30, 1, tzinfo=UTC), zone=BERLIN, schedule="*/10 * * * *")
@given(
    moment=st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
    zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "UTC", "Asia/Kathmandu"]),
    schedule=st.sampled_from(
        ["*/10 * * * *", "30 2 * * *", "0 * * * *", "15 1,2,3 * * *", "0 3 13 * 5", "@weekly", "30 2 1 * *"]
    ),
)
def test_forward_and_backward_agree(moment: datetime, zone: str, schedule: str) -> None:
    # Instants, not times of one zone: those are compared and counted by the wall clock, which the changes of it upset.
    def ahead(at: datetime) -> datetime:
        return cron.next_after(at, zone).astimezone(UTC)

    def back(at: datetime) -> datetime:
        return cron.last_at_or_before(at, zone).astimezone(UTC)

    cron = parse_cron(schedule)
    following = ahead(moment)
    assert following > moment
    assert back(following) == following
    last = back(moment)
    assert last <= moment
    assert ahead(last) == following
    assert ahead(last - timedelta(microseconds=1)) == last


def test_words_describe_the_schedule() -> None:
    assert "02:30" in parse_cron("30 2 * * *").words


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("0 2 1 1 1", "At 02:00 on the first day of month or on Monday in January"),
        ("0 2 1,15 * 1,3", "At 02:00 on the first and the 15th day of month or on Monday and Wednesday"),
        ("0 2 1 * *", "At 02:00 on the first day of every month"),
        ("0 2 */2 * 1", "At 02:00 on every second day of month if it's on Monday"),
    ],
)
def test_words_say_or_where_a_day_or_a_weekday_is_enough(schedule: str, words: str) -> None:
    assert parse_cron(schedule).words == words
