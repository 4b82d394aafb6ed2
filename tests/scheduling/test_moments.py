from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.moments import MomentError, tomorrow_morning, until_parse

BERLIN = ZoneInfo("Europe/Berlin")
# A Friday, 23:30 in Berlin.
NOW = datetime(2026, 11, 27, 22, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("90m", datetime(2026, 11, 28, 0, 0, tzinfo=UTC)),
        ("90 min", datetime(2026, 11, 28, 0, 0, tzinfo=UTC)),
        (" 2h ", datetime(2026, 11, 28, 0, 30, tzinfo=UTC)),
        ("3d", datetime(2026, 11, 30, 22, 30, tzinfo=UTC)),
        ("tomorrow", datetime(2026, 11, 28, 5, 0, tzinfo=UTC)),
        ("2026-12-24", datetime(2026, 12, 23, 23, 0, tzinfo=UTC)),
        ("2026-12-24 06:00", datetime(2026, 12, 24, 5, 0, tzinfo=UTC)),
        ("2026-12-24T06:00", datetime(2026, 12, 24, 5, 0, tzinfo=UTC)),
        ("2026-12-24T06:00Z", datetime(2026, 12, 24, 6, 0, tzinfo=UTC)),
        # Half an hour that the spring change leaves out is as much later.
        ("2027-03-28 02:30", datetime(2027, 3, 28, 1, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_as_people_say_it(said: str, meant: datetime) -> None:
    assert until_parse(said, now=NOW, zone=BERLIN) == meant


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("", "Say until when"),
        ("soon", "is not a moment"),
        ("-2h", "is not a moment"),
        ("99999h", "is not a moment"),
        ("0h", "has passed"),
        ("2026-11-27 23:30", "has passed"),
        ("2026-13-01", "is not a moment"),
        ("9999-12-31 23:59", "Choose a year"),
        ("0001-01-01", "is not a moment"),
        ("2026-12-24 06:00\0", "is not a moment"),
        ("x" * 5000, "is not a moment"),
    ],
)
def test_what_is_no_moment_to_wait_for_is_refused_in_words(said: str, says: str) -> None:
    with pytest.raises(MomentError, match=says) as caught:
        until_parse(said, now=NOW, zone=BERLIN)
    assert len(str(caught.value)) < 300


@given(st.text(max_size=60))
def test_any_text_is_a_later_moment_or_refused(said: str) -> None:
    try:
        moment = until_parse(said, now=NOW, zone=BERLIN)
    except MomentError:
        return
    assert moment > NOW
    assert moment.utcoffset() == timedelta(0)


def test_tomorrow_morning_is_by_the_clocks_of_the_zone() -> None:
    assert tomorrow_morning(NOW, BERLIN).isoformat() == "2026-11-28T06:00:00+01:00"
    assert tomorrow_morning(NOW, ZoneInfo("Asia/Tokyo")).isoformat() == "2026-11-29T06:00:00+09:00"
