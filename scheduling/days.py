"""Days, weeks and months by the calendar on the wall, in a time zone. Pure: today is always passed in.

A day is the span between two midnights, which is 23 or 25 hours when the clocks change. Instants are UTC: aware times
of one zone are compared by their wall clock, which lies on such a day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from scheduling.units import spoken

MONDAY_FIRST = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2199, 12, 31)
"""The days that can be asked for."""

_DAY = timedelta(days=1)
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class ClockChange:
    """A change of the clocks during a day: at the instant `at` they go forward (or, below zero, back) `by` this."""

    at: datetime
    by: timedelta
    zone: tzinfo

    @property
    def words(self) -> str:
        """Such as “clocks go forward 1 h at 02:00”."""
        # The time that the clocks show when they are moved.
        before = (self.at - timedelta(seconds=1)).astimezone(self.zone) + timedelta(seconds=1)
        way = "forward" if self.by > timedelta() else "back"
        return f"clocks go {way} {spoken(abs(self.by))} at {before:%H:%M}"


def day_start(day: date, zone: tzinfo) -> datetime:
    """The instant (UTC) at which a date begins; where midnight is left out that day, the first one after it."""
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


def day_of(moment: datetime, zone: tzinfo) -> date:
    """The date that the wall shows at an instant."""
    return moment.astimezone(zone).date()


def day_bounds(days: Sequence[date], zone: tzinfo) -> list[datetime]:
    """The instants between consecutive days: one more than there are days."""
    return [*(day_start(day, zone) for day in days), day_start(days[-1] + _DAY, zone)]


def days_from(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`, both included."""
    return [first + number * _DAY for number in range((last - first).days + 1)]


def clock_change(day: date, zone: tzinfo) -> ClockChange | None:
    """The change of the clocks during a day, if there is one."""
    low, high = day_start(day, zone), day_start(day + _DAY, zone)
    before, after = _offset(low, zone), _offset(high - timedelta(seconds=1), zone)
    if before == after:
        # A change at midnight itself belongs to the day that it begins.
        low -= timedelta(seconds=1)
        before = _offset(low, zone)
        if before == after:
            return None
    high -= timedelta(seconds=1)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        if _offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return ClockChange(at=high.replace(microsecond=0), by=after - before, zone=zone)


def month_weeks(day: date) -> list[list[date]]:
    """The weeks, Monday to Sunday, that hold the days of a day's month."""
    first = day.replace(day=1)
    start = week_start(first)
    weeks = []
    while start < month_after(first):
        weeks.append(days_from(start, start + 6 * _DAY))
        start += 7 * _DAY
    return weeks


def week_start(day: date) -> date:
    """The Monday of a day's week."""
    return day - day.weekday() * _DAY


def month_after(day: date) -> date:
    """The first day of the month after a day's."""
    return (day.replace(day=1) + 32 * _DAY).replace(day=1)


def month_before(day: date) -> date:
    """The first day of the month before a day's."""
    return (day.replace(day=1) - _DAY).replace(day=1)


def day_parse(text: str | None) -> date | None:
    """A date as an address writes it, such as 2026-11-03; None when it is none that can be asked for."""
    if not text or _ISO.fullmatch(text) is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if FIRST_DAY <= day <= LAST_DAY else None


def day_words(day: date, *, weekday: bool = True, year: bool = True) -> str:
    """A date for people: `Tue 3 Nov 2026`."""
    text = f"{day.day} {MONTHS[day.month - 1]}" + (f" {day.year}" if year else "")
    return f"{MONDAY_FIRST[day.weekday()]} {text}" if weekday else text


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()
