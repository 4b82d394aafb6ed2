"""Cron expressions with crontab's own meaning, in a named time zone. Pure: the moment is always passed in.

The fields are read by cronsim, which follows Debian's cron (0 and 7 are Sunday, names, day-of-month OR day-of-week).
This module adds the `@daily` family, insists on five fields, and says what a schedule means when the clocks change:

- A schedule that names hours (`30 2 * * *`, `*/10 1-5 * * *`, `0 */2 * * *`) is about the clock on the wall. Each of
  its times runs once: at the first instant at which that clock shows the time or a later one. So a time that the spring
  leaves out runs at the first valid instant, together with others that fall there, and a time that the autumn repeats
  runs at its first occurrence.
- A schedule for every hour (`*/10 * * * *`, `0 * * * *`) is about how often. It runs whenever the minute fits, so it
  goes on at its pace through an hour that comes twice, and has nothing to make up for one that is left out.

Either way fires are strictly increasing instants, and going forward and going back name the same ones.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from scheduling.clock_shifts import shifts_between

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = ("minute", "hour", "day of month", "month", "day of week")
MAX_LENGTH = 120
MAX_YEARS = 50
"""How far a fire is looked for: 29 February on a Sunday comes every 28 years, and 40 around 2100."""

_PROBE = datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC"))
_TICK = timedelta(microseconds=1)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
# Farther than any clock was ever put at once.
_FAR = timedelta(days=2)


class ScheduleError(ValueError):
    """A schedule or time zone that cannot be used; the message says why and what would work."""


@dataclass(frozen=True, kw_only=True)
class Cron:
    """One parsed schedule; `text` is what the user wrote, `expression` the five fields behind it."""

    text: str
    expression: str
    minutes: tuple[int, ...] = field(repr=False)
    hours: tuple[int, ...] = field(repr=False)
    _fields: CronSim = field(repr=False, compare=False)

    @property
    def every_hour(self) -> bool:
        """Whether it names no hours, and so runs by its pace when the clocks change."""
        return len(self.hours) == 24

    def next_after(self, moment: datetime, zone: str) -> datetime:
        """The first fire strictly after `moment` (aware), in `zone`."""
        tz = load_zone(zone)
        at = moment.astimezone(UTC)
        found = self._next_by_pace(at, tz) if self.every_hour else self._next_on_the_wall(at, tz)
        return found.astimezone(tz)

    def last_at_or_before(self, moment: datetime, zone: str) -> datetime:
        """The newest fire at or before `moment` (aware), in `zone`."""
        tz = load_zone(zone)
        at = moment.astimezone(UTC)
        found = self._last_by_pace(at, tz) if self.every_hour else self._last_on_the_wall(at, tz)
        return found.astimezone(tz)

    def next_fires(self, moment: datetime, zone: str, count: int) -> list[datetime]:
        """The next `count` fires strictly after `moment`, oldest first."""
        fires: list[datetime] = []
        for _ in range(count):
            moment = self.next_after(moment, zone)
            fires.append(moment)
        return fires

    def fires_at(self, moment: datetime, zone: str) -> bool:
        """Whether `moment` is a fire."""
        tz = load_zone(zone)
        local = moment.astimezone(tz)
        if local.second or local.microsecond:
            return False
        if not local.fold and local.minute in self.minutes and local.hour in self.hours and self._fits(local.date()):
            return True
        return self.last_at_or_before(moment, zone).timestamp() == moment.timestamp()

    def wall_time(self, fire: datetime, zone: str) -> datetime:
        """The time on the wall (naive) that a fire is for: another than its own when the clocks left that out."""
        local = fire.astimezone(load_zone(zone))
        wall = _naive(local)
        return wall if self.every_hour else self._wall_before(wall, included=True)

    def wall_times(self, start: datetime, end: datetime, count: int) -> list[datetime]:
        """Up to `count` of the times on the wall (naive) from `start` to before `end`, whether they exist or not."""
        found: list[datetime] = []
        mark, included = start, True
        while len(found) < count and (mark := self._wall_after(mark, included=included)) < end:
            found.append(mark)
            included = False
        return found

    @property
    def words(self) -> str:
        """The schedule in words, such as “At 03:00 every day”."""
        # With both a day of the month and a weekday, either is enough; cronsim's words join them as if both had to fit.
        return str(self._fields.explain()).replace(" and on ", " or on ")

    def _next_on_the_wall(self, at: datetime, tz: ZoneInfo) -> datetime:
        mark, shown = _latest_shown(at, tz)
        return _first_shown(self._wall_after(mark, included=not shown), tz)

    def _last_on_the_wall(self, at: datetime, tz: ZoneInfo) -> datetime:
        mark, shown = _latest_shown(at, tz)
        return _first_shown(self._wall_before(mark, included=shown), tz)

    def _next_by_pace(self, at: datetime, tz: ZoneInfo) -> datetime:
        """The first instant after `at` at which the wall clock fits, stretch by stretch between the clocks' shifts."""
        included = False
        while True:
            local = at.astimezone(tz)
            wall = self._wall_after(_naive(local), included=included)
            found = _utc(wall, local.utcoffset())
            shifts = shifts_between(tz, at, found)
            if not shifts:
                return found
            # Nothing fits before `wall`; only a shift that follows closely can bring an earlier time back.
            far = [shift for shift in shifts if shift.at < found - _FAR] if shifts[0].at - at > _FAR else []
            at, included = (far[-1] if far else shifts[0]).at, True

    def _last_by_pace(self, at: datetime, tz: ZoneInfo) -> datetime:
        local = at.astimezone(tz)
        wall, offset, included = _naive(local), local.utcoffset(), True
        while True:
            found = _utc(self._wall_before(wall, included=included), offset)
            shifts = shifts_between(tz, found, at)
            if not shifts:
                return found
            far = [shift for shift in shifts if shift.at > found + _FAR] if at - shifts[-1].at > _FAR else []
            shift = far[0] if far else shifts[-1]
            at, wall, offset, included = shift.at - _TICK, shift.wall_before, shift.before, False

    def _wall_after(self, mark: datetime, *, included: bool) -> datetime:
        """The first time on the wall after `mark` (naive), or at it when `included`, wherever the clocks are."""
        start = mark if included else mark + _TICK
        floor = start.replace(second=0, microsecond=0)
        start = floor if floor == start else floor + _MINUTE
        day = start.date()
        if self._fits(day):
            hour = bisect_left(self.hours, start.hour)
            if hour < len(self.hours) and self.hours[hour] == start.hour:
                minute = bisect_left(self.minutes, start.minute)
                if minute < len(self.minutes):
                    return _on(day, start.hour, self.minutes[minute])
                hour += 1
            if hour < len(self.hours):
                return _on(day, self.hours[hour], self.minutes[0])
            day += _DAY
        return _on(self._day_from(day, 1), self.hours[0], self.minutes[0])

    def _wall_before(self, mark: datetime, *, included: bool) -> datetime:
        """The last time on the wall before `mark` (naive), or at it when `included`, wherever the clocks are."""
        end = (mark if included else mark - _TICK).replace(second=0, microsecond=0)
        day = end.date()
        if self._fits(day):
            hour = bisect_right(self.hours, end.hour) - 1
            if hour >= 0 and self.hours[hour] == end.hour:
                minute = bisect_right(self.minutes, end.minute) - 1
                if minute >= 0:
                    return _on(day, end.hour, self.minutes[minute])
                hour -= 1
            if hour >= 0:
                return _on(day, self.hours[hour], self.minutes[-1])
            day -= _DAY
        return _on(self._day_from(day, -1), self.hours[-1], self.minutes[-1])

    def _fits(self, day: date) -> bool:
        return day.month in self._fields.months and bool(self._fields.match_day(day))

    def _day_from(self, day: date, step: int) -> date:
        """The first day from `day` on, or the last up to it, that the schedule allows."""
        first_year, last_year = day.year - MAX_YEARS, day.year + MAX_YEARS
        while first_year <= day.year <= last_year:
            if day.month not in self._fields.months:
                day = (day.replace(day=1) + 32 * _DAY).replace(day=1) if step > 0 else day.replace(day=1) - _DAY
            elif self._fields.match_day(day):
                return day
            else:
                day += step * _DAY
        raise ScheduleError(f"“{self.text}” never happens: no date in {MAX_YEARS} years fits it.")


@lru_cache(maxsize=4096)
def parse_cron(text: str) -> Cron:
    """Parse a crontab schedule: five fields or one of `ALIASES`. Raises `ScheduleError` with the reason."""
    stripped = " ".join(text.split())
    if not stripped:
        raise ScheduleError(
            "The schedule is empty. Write five cron fields, for example “30 2 * * *” for every night at 02:30."
        )
    if len(stripped) > MAX_LENGTH:
        raise ScheduleError(f"The schedule is longer than {MAX_LENGTH} characters.")
    expression = stripped
    if stripped.startswith("@"):
        expression = ALIASES.get(stripped.lower(), "")
        if not expression:
            raise ScheduleError(
                f"“{stripped}” is not a schedule Keepwell knows. Use one of {', '.join(ALIASES)}, or five cron fields."
            )
    fields = expression.split(" ")
    if len(fields) != len(FIELDS):
        raise ScheduleError(f"“{stripped}” has {len(fields)} fields. Cron takes five: {', '.join(FIELDS)}.")
    try:
        parsed = CronSim(expression, _PROBE)
    except CronSimError as error:
        raise ScheduleError(f"“{stripped}” is not a valid schedule: {_reason(str(error), fields)}.") from error
    cron = Cron(
        text=stripped,
        expression=expression,
        minutes=tuple(sorted(parsed.minutes)),
        hours=tuple(sorted(parsed.hours)),
        _fields=parsed,
    )
    # Raises when it never happens.
    cron.next_after(_PROBE, "UTC")
    return cron


def _reason(message: str, fields: list[str]) -> str:
    for name, value in zip(FIELDS, fields, strict=True):
        if message == f"Bad {name.replace(' ', '-')}":
            return f"the {name} “{value}” cannot be read or never happens"
    return message[:1].lower() + message[1:]


@lru_cache(maxsize=1024)
def load_zone(name: str) -> ZoneInfo:
    """The IANA time zone called `name`. Raises `ScheduleError` when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(
            f"“{name}” is not a time zone. Use an IANA name such as “Europe/Berlin” or “UTC”."
        ) from error


def _latest_shown(at: datetime, zone: ZoneInfo) -> tuple[datetime, bool]:
    """The latest time (naive) that the wall clock has shown up to `at`, and whether it has shown just that one."""
    local = at.astimezone(zone)
    if not local.fold:
        return _naive(local), True
    # For the second time: it has been later before, up to but not including the moment of the shift.
    return shifts_between(zone, at - _DAY, at)[-1].wall_before, False


def _first_shown(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant (UTC) at which the wall clock shows `wall` (naive) or a later time."""
    found = wall.replace(tzinfo=zone).astimezone(UTC)
    if _naive(found.astimezone(zone)) == wall:
        return found
    return next(shift.at for shift in shifts_between(zone, found - _DAY, found) if shift.leaves_out(wall))


def _naive(local: datetime) -> datetime:
    return local.replace(tzinfo=None, fold=0)


def _utc(wall: datetime, offset: timedelta | None) -> datetime:
    return (wall - (offset or timedelta())).replace(tzinfo=UTC)


def _on(day: date, hour: int, minute: int) -> datetime:
    return datetime.combine(day, time(hour, minute))
