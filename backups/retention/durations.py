from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

MAXIMUM = 100_000
"""The largest number a duration part or a rule's count may have."""

_UNITS = {"y": "years", "m": "months", "d": "days", "h": "hours"}
_PART = re.compile(r"([0-9]+)([a-z]?)")
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class DurationError(ValueError):
    """A duration that cannot be read; the message is meant for the person who typed it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duration:
    """A calendar span such as `1y5m7d2h`: a month is a calendar month, not 30 days.

    Raises `DurationError` for parts that are not whole numbers from 0 to `MAXIMUM`.
    """

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    def __post_init__(self) -> None:
        for name in _UNITS.values():
            number = getattr(self, name)
            if type(number) is not int or not 0 <= number <= MAXIMUM:
                raise DurationError(f"{name} must be a whole number from 0 to {MAXIMUM}, not {number!r}")

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read `1y5m7d2h`: each of y, m (months), d and h at most once, in any order.

        Raises `DurationError` for anything else, blank text and negative numbers included.
        """
        rest = text.strip()
        if not rest:
            raise DurationError("a duration is missing; write for example 1y5m7d2h")
        parts: dict[str, int] = {}
        while rest:
            found = _PART.match(rest)
            if found is None:
                raise DurationError(f"{text!r} is not a duration: a number is missing before {rest!r}; write 1y5m7d2h")
            digits, unit = found.groups()
            if unit not in _UNITS:
                raise DurationError(f"{text!r} is not a duration: after {digits} write y, m (months), d or h")
            name = _UNITS[unit]
            if name in parts:
                raise DurationError(f"{text!r} is not a duration: {name} are given twice")
            # The length is checked first: Python refuses to convert thousands of digits with an error of its own.
            if len(digits) > 20 or int(digits) > MAXIMUM:
                raise DurationError(f"{text!r} is too long: at most {MAXIMUM} {name}")
            parts[name] = int(digits)
            rest = rest[found.end() :]
        return cls(**parts)

    def __str__(self) -> str:
        parts = [f"{getattr(self, name)}{unit}" for unit, name in _UNITS.items() if getattr(self, name)]
        return "".join(parts) or "0h"

    def __bool__(self) -> bool:
        return any((self.years, self.months, self.days, self.hours))

    def before(self, moment: datetime, zone: tzinfo) -> datetime:
        """Count back from `moment` on the calendar and wall clock of `zone`; the answer is in UTC.

        Years, months and days go first, and a day that the month does not have runs over into the next one (31 March
        less one month is 3 March), as Go's `AddDate` does, which restic uses; then hours of real time. Stops at year 1.
        """
        local = moment.astimezone(zone)
        month = local.year * 12 + local.month - 1 - self.years * 12 - self.months
        if month < 12:
            return _BEGINNING
        ordinal = date(month // 12, month % 12 + 1, 1).toordinal() + local.day - 1 - self.days
        if ordinal < 2:
            return _BEGINNING
        wall = datetime.combine(date.fromordinal(ordinal), local.time(), tzinfo=UTC)
        try:
            return _instant(wall, zone) - timedelta(hours=self.hours)
        except OverflowError:
            return _BEGINNING


def _instant(wall: datetime, zone: tzinfo) -> datetime:
    """The moment at which `zone` shows a wall time (here labelled UTC), in gaps and folds by Go's rule.

    Which is: guess with the offset that holds when UTC shows that time, then look the offset up once more at the guess.
    """
    return wall - _offset(wall - _offset(wall, zone), zone)


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()
