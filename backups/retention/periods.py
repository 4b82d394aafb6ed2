from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import compress, islice
from operator import ne

# Retention asks only whether two neighbours are in the same period. So moments are integers (stamps: microseconds since
# 1970 in UTC), and periods are numbers made from the hour on the wall clock; names are made for the few that are read.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = _EPOCH.toordinal()
_SECOND = 1_000_000
_HOUR = 3600 * _SECOND
_DAY = 24 * _HOUR


def stamp_of(moment: datetime) -> int:
    """Microseconds since 1970 in UTC."""
    # Taking the difference is right in every zone: two aware times of different zones are subtracted in UTC.
    since = (moment if moment.tzinfo is UTC else moment.astimezone(UTC)) - _EPOCH
    return since.days * _DAY + since.seconds * _SECOND + since.microseconds


def moment_of(stamp: int) -> datetime:
    """The time in UTC that `stamp_of` turned into `stamp`."""
    return _EPOCH + timedelta(microseconds=stamp)


def wall_hours(stamps: Sequence[int], zone: tzinfo) -> list[int]:
    """The hour on the wall clock of `zone` at each stamp, counted from the beginning of 1970 there."""
    hours: list[int] = []
    # Day in UTC -> the zone's offset all day in microseconds; None where it changes on that day.
    offsets: dict[int, int | None] = {}
    for stamp in stamps:
        day = stamp // _DAY
        try:
            offset = offsets[day]
        except KeyError:
            start, end = _offset(day * _DAY, zone), _offset((day + 1) * _DAY, zone)
            offset = offsets[day] = start if start == end else None
        if offset is None:
            offset = _offset(stamp, zone)
        hours.append((stamp + offset) // _HOUR)
    return hours


def _offset(stamp: int, zone: tzinfo) -> int:
    offset = moment_of(stamp).astimezone(zone).utcoffset()
    return offset // timedelta(microseconds=1) if offset else 0


def period_heads(hours: Sequence[int]) -> dict[str, Sequence[int]]:
    """For each count rule, the positions at which a new period begins, given `wall_hours` newest first.

    The backup at such a position is the newest of its period. For the rule `last` every position is one.
    """
    every = range(len(hours))
    hourly = _changes(every, hours)
    # A day can only change where the hour does, and the longer periods only where the day does.
    days = [hours[position] // 24 for position in hourly]
    daily = _changes(hourly, days)
    dates = [_date(hours[position]) for position in daily]
    return {
        "last": every,
        "hourly": hourly,
        "daily": daily,
        # Day 1 of the calendar is a Monday, on which ISO weeks begin.
        "weekly": _changes(daily, [(day.toordinal() - 1) // 7 for day in dates]),
        "monthly": _changes(daily, [day.year * 12 + day.month for day in dates]),
        "yearly": _changes(daily, [day.year for day in dates]),
    }


def _changes(positions: Sequence[int], keys: Sequence[int]) -> list[int]:
    if not positions:
        return []
    changed = map(ne, islice(keys, 1, None), keys)
    return [positions[0], *compress(islice(positions, 1, None), changed)]


def _date(hour: int) -> date:
    return date.fromordinal(hour // 24 + _FIRST_DAY)


def period_name(rule: str, hour: int) -> str:
    """The name of the period of a count rule that holds a wall-clock hour, such as `2026-W41`; blank for `last`."""
    day = _date(hour)
    if rule == "hourly":
        return f"{day.isoformat()} {hour % 24:02d}:00"
    if rule == "daily":
        return day.isoformat()
    if rule == "weekly":
        year, week, _ = day.isocalendar()
        return f"{year:04d}-W{week:02d}"
    if rule == "monthly":
        return f"{day.year:04d}-{day.month:02d}"
    return f"{day.year:04d}" if rule == "yearly" else ""
