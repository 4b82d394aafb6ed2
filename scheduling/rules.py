"""When a job may start by itself: run windows and blackout dates. Pure: the moment is always passed in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from scheduling.clock_shifts import shifts_between
from scheduling.cron import load_zone

MAX_BLACKOUTS = 100
DAYS_AHEAD = 4
"""A window opens every day, but for one that a gap of the clocks covers, and a day that a zone left out."""

_DAYS = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.\.(\d{4}-\d{2}-\d{2}))?", re.ASCII)


class RuleError(ValueError):
    """A window or blackout date that cannot be used; the message says why and what would work."""


@dataclass(frozen=True, kw_only=True)
class Days:
    """Days without runs, both ends included."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def __str__(self) -> str:
        return self.first.isoformat() if self.first == self.last else f"{self.first}..{self.last}"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The hours in which a job may start, and the days on which it may not, in its IANA zone.

    A window whose end is not after its start ends on the next day; one whose ends are equal is open all day.
    """

    zone: str
    window: tuple[time, time] | None = None
    blackouts: tuple[Days, ...] = ()

    def blackout(self, moment: datetime) -> Days | None:
        """The blackout that `moment` falls into, by the day in the job's zone."""
        day = moment.astimezone(load_zone(self.zone)).date()
        return next((days for days in self.blackouts if day in days), None)

    def is_open(self, moment: datetime) -> bool:
        """Whether `moment` lies in the window: at or after its start, before its end, by the clock on the wall."""
        if self.window is None or self.window[0] == self.window[1]:
            return True
        start, end = self.window
        local = moment.astimezone(load_zone(self.zone)).time()
        return start <= local < end if start < end else local >= start or local < end

    def opens_at(self, moment: datetime) -> datetime:
        """`moment` itself when the window is open, else the next instant (UTC) at which it is.

        An opening that a gap leaves out is the first valid instant, if the window is still open then; a fold may open
        it for a second time.
        """
        if self.is_open(moment):
            return moment
        assert self.window is not None  # noqa: S101 - without a window it is always open
        zone = load_zone(self.zone)
        today = moment.astimezone(zone).date()
        # It opens when the wall clock comes to its start, or is put forward or back into it.
        openings = [shift.at for shift in shifts_between(zone, moment, moment + timedelta(days=DAYS_AHEAD))]
        for day in (today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD)):
            local = datetime.combine(day, self.window[0], zone)
            openings += [local.replace(fold=fold).astimezone(UTC) for fold in (0, 1)]
        return min(opening for opening in openings if opening >= moment and self.is_open(opening))


def blackouts_parse(texts: Iterable[str]) -> tuple[Days, ...]:
    """Blackout dates such as “2026-12-24” and “2026-12-24..2026-12-26”. Raises `RuleError`."""
    found = []
    for text in texts:
        match = _DAYS.fullmatch(str(text).strip())
        try:
            if match is None:
                raise ValueError  # noqa: TRY301 - one message for both ways of being unreadable
            first = date.fromisoformat(match[1])
            last = date.fromisoformat(match[2]) if match[2] else first
        except ValueError:
            raise RuleError(
                f"“{text}” is not a date. Write 2026-12-24, or 2026-12-24..2026-12-26 for several days."
            ) from None
        if last < first:
            raise RuleError(f"“{text}” ends before it starts.")
        found.append(Days(first=first, last=last))
    if len(found) > MAX_BLACKOUTS:
        raise RuleError(f"There are {len(found)} blackout dates; {MAX_BLACKOUTS} are the most.")
    return tuple(found)


def rules_of(*, zone: str, start: time | None, end: time | None, blackouts: Sequence[str]) -> Rules:
    """The rules that a job's row holds. Blackout dates that cannot be read were never saved, and count as none."""
    try:
        days = blackouts_parse(blackouts)
    except RuleError:
        days = ()
    window = None if start is None or end is None else (start, end)
    return Rules(zone=zone, window=window, blackouts=days)
