"""When the clocks of a time zone are put forward or back. Pure: the span is always passed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

LAST_YEAR = 9998


@dataclass(frozen=True, kw_only=True)
class ClockShift:
    """One change of a zone's distance from UTC: `before` counts until the instant `at` (UTC), `after` from it on."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def forward(self) -> bool:
        """Whether wall times are left out; else some come twice."""
        return self.after > self.before

    @property
    def by(self) -> timedelta:
        return abs(self.after - self.before)

    @property
    def wall_before(self) -> datetime:
        """What the wall clock would have shown at the instant, as a naive time: exclusive end of what it showed."""
        return self.at.replace(tzinfo=None) + self.before

    @property
    def wall_after(self) -> datetime:
        """What the wall clock shows at the instant, as a naive time."""
        return self.at.replace(tzinfo=None) + self.after

    def leaves_out(self, wall: datetime) -> bool:
        """Whether the naive time `wall` does not exist because of this shift."""
        return self.wall_before <= wall < self.wall_after

    def repeats(self, wall: datetime) -> bool:
        """Whether the naive time `wall` comes twice because of this shift."""
        return self.wall_after <= wall < self.wall_before


def shifts_between(zone: ZoneInfo, after: datetime, until: datetime) -> list[ClockShift]:
    """The shifts later than `after` and not later than `until` (both aware), oldest first."""
    years = range(after.astimezone(UTC).year, min(until.astimezone(UTC).year, LAST_YEAR) + 1)
    return [shift for year in years for shift in _shifts_of(zone, year) if after < shift.at <= until]


@lru_cache(maxsize=8192)
def _shifts_of(zone: ZoneInfo, year: int) -> tuple[ClockShift, ...]:
    """The shifts of one year in UTC. No zone has two within a day of each other."""
    found = []
    low, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    before = _offset(low, zone)
    while low < end:
        high = low + timedelta(days=1)
        after = _offset(high, zone)
        if after != before:
            found.append(ClockShift(at=_instant(low, high, zone), before=before, after=after))
        low, before = high, after
    return tuple(found)


def _instant(low: datetime, high: datetime, zone: tzinfo) -> datetime:
    """The first whole second of (low, high] with another offset than `low` has."""
    before, first, last = _offset(low, zone), 0, int((high - low).total_seconds())
    while last - first > 1:
        middle = (first + last) // 2
        if _offset(low + timedelta(seconds=middle), zone) == before:
            first = middle
        else:
            last = middle
    return low + timedelta(seconds=last)


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()
