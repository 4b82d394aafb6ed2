from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
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


class PeriodHeads:
    """For each count rule, the positions at which a new period begins, given `wall_hours` newest first.

    The backup at such a position is the newest of its period. For the rule `last` every position is one. A rule's are
    worked out when they are first asked for.
    """

    __slots__ = ("_found", "_hours")

    def __init__(self, hours: Sequence[int]) -> None:
        self._hours = hours
        self._found: dict[str, Sequence[int]] = {"last": range(len(hours))}

    def __getitem__(self, rule: str) -> Sequence[int]:
        found = self._found.get(rule)
        if found is None:
            found = self._found[rule] = self._find(rule)
        return found

    def _find(self, rule: str) -> list[int]:
        if rule == "hourly":
            return _changes(self["last"], self._hours)
        # A day can only change where the hour does, a week or month only where the day does, a year where the month
        # does.
        positions = self[_WIDER[rule]]
        days = [self._hours[position] // 24 for position in positions]
        if rule == "weekly":
            # 1 January 1970 was a Thursday, and ISO weeks begin on Monday.
            return _changes(positions, [(day + 3) // 7 for day in days])
        if rule == "monthly":
            return _changes(positions, list(map(_month, days)))
        return _changes(positions, days if rule == "daily" else [_month(day) // 12 for day in days])


_WIDER = {"daily": "hourly", "weekly": "daily", "monthly": "daily", "yearly": "monthly"}


@lru_cache(maxsize=2**15)
def _month(day: int) -> int:
    """The number of a day's month, 12 for each year."""
    found = _date(day * 24)
    return found.year * 12 + found.month - 1


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
