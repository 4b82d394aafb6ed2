"""The times of a schedule in a span of time, and what its job's window, blackout dates and pauses make of them. Pure:
no Django and no clock.

On an ordinary day a schedule fires at the same minutes as on every other day that it fires on, so these are counted;
only days with a change of the clocks are stepped through.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from cronsim import CronSim

from scheduling.cron import Cron, load_zone, parse_cron
from scheduling.days import clock_change, day_of, day_start
from scheduling.rules import Rules

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_NOON = datetime(2024, 1, 1, 12)  # noqa: DTZ001 - read for its fields alone
# Windows can be narrow and blackouts long: nobody looks further ahead than this many times.
_LOOKED_AT = 5000


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """A schedule with what its job says of when it may start: jobs that agree in it are projected once."""

    schedule: str
    rules: Rules
    paused_until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Start:
    """One time of a schedule, or `times` of them that come to the same: `due` in UTC, and `at`, when its run would
    start after waiting for the run window.

    `held` says why it passes without a run: "blackout" or "paused"; "" when it does not. `last` is the last of them.
    """

    at: datetime
    due: datetime
    held: str = ""
    times: int = 1
    last: datetime

    @property
    def waits(self) -> bool:
        return self.at > self.due


def fires_between(cron: Cron, zone: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """The fires at or after `start` and before `end`, in UTC, ascending."""
    tz = load_zone(zone)
    day, last = day_of(start, tz), day_of(end, tz)
    pattern = pattern_of(cron.expression)
    while day <= last:
        if is_ordinary(day, zone):
            if pattern.fires_on(day):
                begin = day_start(day, tz)
                for minute in pattern.minutes:
                    if start <= (fire := begin + minute * _MINUTE) < end:
                        yield fire
        else:
            yield from (fire for fire in changed_fires(cron, zone, day) if start <= fire < end)
        day += _DAY


def fires_count(cron: Cron, zone: str, start: datetime, end: datetime) -> int:
    """How many fires there are at or after `start` and before `end`."""
    tz = load_zone(zone)
    day, last, count = day_of(start, tz), day_of(end, tz), 0
    pattern = pattern_of(cron.expression)
    while day <= last:
        if not is_ordinary(day, zone):
            count += sum(start <= fire < end for fire in changed_fires(cron, zone, day))
        elif pattern.fires_on(day):
            begin = day_start(day, tz)
            low, high = (bisect_left(pattern.minutes, (moment - begin) / _MINUTE) for moment in (start, end))
            count += high - low
        day += _DAY
    return count


def starts_between(table: Timetable, start: datetime, end: datetime) -> Iterator[Start]:
    """The times of a timetable whose run would start (or that would pass) at or after `start` and before `end`.

    Times that wait for the same opening of a run window make one run. Raises `ScheduleError` for a schedule or zone
    that cannot be used.
    """
    cron = parse_cron(table.schedule)
    # What waits for a window may have been due up to a day before it starts; a day is 25 hours at most.
    begin = start - timedelta(hours=25) if table.rules.window else start
    opened: datetime | None = None
    for due in fires_between(cron, table.rules.zone, begin, end):
        held = held_reason(table, due)
        at = due if held else table.rules.opens_at(due)
        if not start <= at < end:
            continue
        if not held:
            if at == opened:
                continue
            opened = at
        yield Start(at=at, due=due, last=due, held=held)


def held_reason(table: Timetable, due: datetime) -> str:
    """Why a time of the schedule passes without a run: "paused", "blackout", or "" when it does not."""
    if table.paused_until is not None and due < table.paused_until:
        return "paused"
    return "blackout" if table.rules.blackout(due) is not None else ""


def next_starts(table: Timetable, now: datetime, count: int) -> list[Start]:
    """The next `count` times after `now`, in order; those that start one run, or pass for one reason, are one.

    Raises `ScheduleError` for a schedule or zone that cannot be used.
    """
    cron, zone = parse_cron(table.schedule), table.rules.zone
    found: list[Start] = []
    due = now
    for _ in range(_LOOKED_AT):
        due = cron.next_after(due, zone).astimezone(UTC)
        held = held_reason(table, due)
        start = Start(at=due if held else table.rules.opens_at(due), due=due, last=due, held=held)
        if held:
            start = _all_held(cron, table, start)
            due = start.last
        before = found[-1] if found else None
        if before is not None and before.held == held and (held or before.at == start.at):
            found[-1] = replace(before, last=start.last, times=before.times + start.times)
        elif len(found) == count:
            break
        else:
            found.append(start)
    return found


def _all_held(cron: Cron, table: Timetable, start: Start) -> Start:
    """A time that passes together with those after it that do so for as long as the same pause or blackout lasts."""
    end = start.due + timedelta(seconds=1)
    if start.held == "paused" and table.paused_until is not None:
        end = table.paused_until
    elif (days := table.rules.blackout(start.due)) is not None:
        end = day_start(days.last + _DAY, load_zone(table.rules.zone))
    times = fires_count(cron, table.rules.zone, start.due, end)
    last = cron.last_at_or_before(end - timedelta(seconds=1), table.rules.zone).astimezone(UTC)
    return replace(start, times=max(times, 1), last=max(last, start.due))


@dataclass(frozen=True)
class Pattern:
    """A parsed expression, taken apart: the minutes of the day at which it fires, and a key of the days on which."""

    minutes: tuple[int, ...]
    days: tuple[str, str, str]

    def fires_on(self, day: date) -> bool:
        return _matches(self.days, day)


@lru_cache(maxsize=16384)
def pattern_of(expression: str) -> Pattern:
    _, _, days, months, weekdays = expression.split(" ")
    parsed = CronSim(expression, _NOON)
    minutes = tuple(60 * hour + minute for hour in sorted(parsed.hours) for minute in sorted(parsed.minutes))
    return Pattern(minutes=minutes, days=(days, months, weekdays))


@lru_cache(maxsize=65536)
def _matches(days: tuple[str, str, str], day: date) -> bool:
    matcher = _matcher(days)
    return day.month in matcher.months and bool(matcher.match_day(day))


@lru_cache(maxsize=4096)
def _matcher(days: tuple[str, str, str]) -> CronSim:
    return CronSim(f"0 0 {' '.join(days)}", _NOON)


@lru_cache(maxsize=65536)
def is_ordinary(day: date, zone: str) -> bool:
    """Whether the clocks do not change on this day."""
    tz = load_zone(zone)
    if day_start(day + _DAY, tz) - day_start(day, tz) != _DAY:
        return False
    return clock_change(day, tz) is None


def changed_fires(cron: Cron, zone: str, day: date) -> tuple[datetime, ...]:
    """The fires, in UTC and ascending, of a day on which the clocks change.

    What an evening left out, or a whole day, fires at the start of the day after.
    """
    pattern = pattern_of(cron.expression)
    if not any(pattern.fires_on(day - number * _DAY) for number in range(3)):
        return ()
    return _changed_fires(cron, zone, day)


@lru_cache(maxsize=4096)
def _changed_fires(cron: Cron, zone: str, day: date) -> tuple[datetime, ...]:
    tz = load_zone(zone)
    moment, end = day_start(day, tz) - timedelta(seconds=1), day_start(day + _DAY, tz)
    fires = []
    while (fire := cron.next_after(moment, zone).astimezone(UTC)) < end:
        fires.append(fire)
        moment = fire
    return tuple(fires)
