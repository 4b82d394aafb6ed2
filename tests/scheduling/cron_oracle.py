"""What a schedule means when the clocks change, from the words alone: the wall clock is looked at minute by minute.

In a gap a schedule runs at the first valid instant, in a fold once; one for every hour goes on at its pace.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

MINUTE = timedelta(minutes=1)
SPAN = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC))
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True)
class Change:
    """The last minute before the clocks of a zone change, and the offsets on both sides."""

    eve: datetime
    before: timedelta
    after: timedelta


# No clock of these years is put back farther.
FARTHEST = timedelta(hours=2)


def fires(schedule: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """Every fire from `start` to before `end`."""
    minutes, hours, days, months, weekdays = schedule.split()
    wanted_minutes, wanted_hours = numbers(minutes, 0, 59), numbers(hours, 0, 23)
    by_pace = wanted_hours == set(range(24))

    @cache
    def day_fits(year: int, month: int, day: int) -> bool:
        in_month = day in numbers(days, 1, 31)
        of_week = datetime(year, month, day).isoweekday() % 7 in {number % 7 for number in numbers(weekdays, 0, 7)}
        either = not days.startswith("*") and not weekdays.startswith("*")
        on_day = in_month or of_week if either else in_month and of_week
        return on_day and month in numbers(months, 1, 12)

    def fits(wall: datetime) -> bool:
        if wall.minute not in wanted_minutes or wall.hour not in wanted_hours:
            return False
        return day_fits(wall.year, wall.month, wall.day)

    found = []
    seen: set[datetime] = set()
    shown: datetime | None = None
    for moment in minutes_of(start - FARTHEST, end):
        wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        if by_pace:
            runs = fits(wall)
        else:
            left_out = minutes_of(shown + MINUTE, wall) if shown is not None and wall > shown + MINUTE else iter(())
            runs = any(fits(minute) for minute in left_out if minute not in seen) or (fits(wall) and wall not in seen)
        seen.add(wall)
        shown = wall
        if runs and moment >= start:
            found.append(moment)
    return found


def minutes_of(start: datetime, end: datetime) -> Iterator[datetime]:
    while start < end:
        yield start
        start += MINUTE


@cache
def numbers(text: str, low: int, high: int) -> set[int]:
    """The numbers that one field of a schedule names."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = ("", "", "") if span == "*" else span.partition("-")
        lowest = low if span == "*" else number(first)
        highest = high if span == "*" or (step and not last) else number(last or first)
        found.update(range(lowest, highest + 1, int(step or 1)))
    return found


def number(text: str) -> int:
    return DAYS.index(text.lower()) if text.lower() in DAYS else int(text)


@cache
def changes(name: str) -> tuple[Change, ...]:
    """Every change of the zone's clocks in the two years, found hour by hour and then minute by minute."""
    zone = ZoneInfo(name)
    found = []
    moment, end = SPAN
    while moment < end:
        later = moment + timedelta(hours=6)
        before, after = offset(moment, zone), offset(later, zone)
        if before != after:
            eve = next(minute for minute in minutes_of(moment, later) if offset(minute + MINUTE, zone) == after)
            found.append(Change(eve=eve, before=before, after=after))
        moment = later
    return tuple(found)


@cache
def changing_zones() -> tuple[str, ...]:
    """Every zone of the installed database that changes its offset in the two years."""
    return tuple(name for name in sorted(available_timezones()) if changes(name))


def offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    found = moment.astimezone(zone).utcoffset()
    assert found is not None
    return found
