from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retention_samples import durations

from backups.retention import Duration, DurationError

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("1y5m7d2h", Duration(years=1, months=5, days=7, hours=2)),
        ("30d", Duration(days=30)),
        ("2h7d1y", Duration(years=1, days=7, hours=2)),
        (" 12m ", Duration(months=12)),
        ("9999y", Duration(years=9999)),
        ("007d", Duration(days=7)),
        ("0h", Duration()),
    ],
)
def test_a_duration_is_read_in_any_order(text: str, duration: Duration) -> None:
    assert Duration.parse(text) == duration


@pytest.mark.parametrize(
    ("text", "part_of_message"),
    [
        ("", "missing"),
        ("   ", "missing"),
        ("d", "a number is missing before 'd'"),
        ("-3d", "a number is missing before '-3d'"),
        ("7", "after 7 write y, m (months), d or h"),
        ("7w", "after 7 write y, m (months), d or h"),
        ("7D", "after 7 write y, m (months), d or h"),
        ("1d 2h", "a number is missing before ' 2h'"),
        ("1d2d", "days are given twice"),
        ("1.5d", "after 1 write"),
        ("٣d", "a number is missing"),
        ("100001d", "at most 100000 days"),
        ("9" * 5000 + "d", "at most 100000 days"),
    ],
)
def test_what_is_not_a_duration_is_refused_in_words(text: str, part_of_message: str) -> None:
    with pytest.raises(DurationError) as caught:
        Duration.parse(text)
    assert part_of_message in str(caught.value)


@pytest.mark.parametrize("parts", [{"days": -1}, {"hours": True}, {"years": 1.5}, {"months": 100_001}], ids=str)
def test_a_duration_cannot_be_made_from_bad_parts(parts: dict[str, int]) -> None:
    with pytest.raises(DurationError):
        Duration(**parts)


@given(durations)
def test_the_text_of_a_duration_reads_back(duration: Duration) -> None:
    assert Duration.parse(str(duration)) == duration


def test_the_text_is_canonical() -> None:
    assert str(Duration.parse("2h7d5m1y")) == "1y5m7d2h"
    assert (str(Duration()), bool(Duration()), bool(Duration(hours=1))) == ("0h", False, True)


@pytest.mark.parametrize(
    ("moment", "span", "zone", "expected"),
    [
        ("2026-03-31T12:00+00:00", "1m", "UTC", "2026-03-03T12:00+00:00"),
        ("2024-03-31T12:00+00:00", "1m", "UTC", "2024-03-02T12:00+00:00"),
        ("2024-02-29T12:00+00:00", "1y", "UTC", "2023-03-01T12:00+00:00"),
        ("2026-01-15T12:00+00:00", "1m", "UTC", "2025-12-15T12:00+00:00"),
        ("2026-01-15T12:00+00:00", "13m20d", "UTC", "2024-11-25T12:00+00:00"),
        # The clock of the zone stays, so the day on which summer time begins has 23 hours ...
        ("2026-03-29T12:00+02:00", "1d", "Europe/Berlin", "2026-03-28T12:00+01:00"),
        # ... while hours are hours.
        ("2026-03-29T12:00+02:00", "24h", "Europe/Berlin", "2026-03-28T11:00+01:00"),
        # A time in the gap east of Greenwich: after it.
        ("2026-03-30T02:30+02:00", "1d", "Europe/Berlin", "2026-03-29T03:30+02:00"),
        # A time in the fold there: the second one.
        ("2026-10-26T02:30+01:00", "1d", "Europe/Berlin", "2026-10-25T02:30+01:00"),
        # West of Greenwich Go's rule lands on the other side of each.
        ("2026-03-09T02:30-04:00", "1d", "America/New_York", "2026-03-08T01:30-05:00"),
        ("2026-11-02T01:30-05:00", "1d", "America/New_York", "2026-11-01T01:30-04:00"),
        ("2026-01-01T12:00+00:00", "9999y", "UTC", "0001-01-01T00:00+00:00"),
        ("0002-03-01T12:00+00:00", "100000h", "UTC", "0001-01-01T00:00+00:00"),
    ],
)
def test_counting_back_follows_the_calendar_of_the_zone(moment: str, span: str, zone: str, expected: str) -> None:
    before = Duration.parse(span).before(datetime.fromisoformat(moment), ZoneInfo(zone))

    assert before == datetime.fromisoformat(expected)
    assert before.tzinfo is UTC


@given(durations, st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)))
def test_counting_back_never_goes_forward(duration: Duration, wall: datetime) -> None:
    moment = wall.replace(tzinfo=UTC)

    # An hour more: Go may read a wall time in a fold as the later of the two.
    assert (moment - duration.before(moment, BERLIN)).total_seconds() >= -3600
