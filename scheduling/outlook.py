"""What all schedules together make happen, summed up over spans such as the days of a month. Pure.

Made for ten thousand of them: jobs whose timetables agree are one, ordinary days are counted and not stepped through,
and of each span only its earliest times are kept. Everything inside is whole seconds since 1970.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import lru_cache

from scheduling.cron import ScheduleError, load_zone, parse_cron
from scheduling.days import day_of, day_start
from scheduling.projection import Pattern, Timetable, changed_fires, is_ordinary, pattern_of, starts_between

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Coming:
    """The first time of one timetable in a span: `at` in seconds since 1970, its number, how many such times the span
    has, and why they pass without a run ("" when they do not)."""

    at: int
    table: int
    count: int
    held: str = ""


@dataclass(slots=True)
class Span:
    """What is to happen in one span: how many runs start, how many times pass without one, and the earliest of both."""

    starts: int = 0
    held: int = 0
    earliest: list[Coming] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Day:
    """One day of a zone: `whole` is the one span that it lies in entirely, or -1."""

    day: date
    begin: int
    end: int
    ordinary: bool
    whole: int


def project(
    tables: Sequence[tuple[Timetable, int]], bounds: Sequence[datetime], now: datetime, *, keep: int
) -> list[Span]:
    """What `tables` (each with how many jobs have it) make happen after `now` in each span between the `bounds`.

    Of each span the `keep` earliest times are named. Schedules and zones that cannot be used make nothing happen.
    """
    projector = _Projector(bounds, now, keep)
    if projector.begin < projector.edges[-1]:
        for number, (table, jobs) in enumerate(tables):
            try:
                projector.add(number, table, jobs)
            except ScheduleError:
                continue
    return projector.spans


class _Projector:
    def __init__(self, bounds: Sequence[datetime], now: datetime, keep: int) -> None:
        self.edges = [int(moment.timestamp()) for moment in bounds]
        # Strictly after now, as the clock's own next fire is.
        self.begin = max(self.edges[0], int(now.timestamp()) + 1)
        self.bounds, self.keep = bounds, keep
        self.spans = [Span() for _ in bounds[1:]]
        self._days: dict[str, list[_Day]] = {}
        self._fitting: dict[tuple[str, tuple[str, str, str]], list[_Day]] = {}

    def add(self, number: int, table: Timetable, jobs: int) -> None:
        """Count what one timetable makes happen. Raises `ScheduleError`."""
        cron = parse_cron(table.schedule)
        pattern = pattern_of(cron.expression)
        held_until = int(table.paused_until.timestamp()) if table.paused_until else 0
        windowed = table.rules.window is not None and table.rules.window[0] != table.rules.window[1]
        if windowed or table.rules.blackouts or held_until > self.begin:
            self._add_ruled(number, jobs, table, pattern, held_until, windowed=windowed)
            return
        for day in self._fit(table.rules.zone, pattern):
            self._add_day(number, jobs, day, pattern.minutes, "")
        for day in self.days(table.rules.zone):
            if not day.ordinary:
                fires = changed_fires(cron, table.rules.zone, day.day)
                self._add_fires(number, jobs, [int(fire.timestamp()) for fire in fires])

    def _add_ruled(
        self, number: int, jobs: int, table: Timetable, pattern: Pattern, held_until: int, *, windowed: bool
    ) -> None:
        for day in self.days(table.rules.zone):
            held = self._held(table, day, held_until)
            # What waits for a window may have been due on the day before, under other rules.
            mixed = windowed and (held or table.rules.blackouts or held_until > day.begin - 90_000)
            if held is None or not day.ordinary or mixed:
                self._step(number, jobs, table, day)
            elif not windowed:
                if pattern.fires_on(day.day):
                    self._add_day(number, jobs, day, pattern.minutes, held)
            elif (minutes := _windowed(table, pattern, day.day)) is None:
                self._step(number, jobs, table, day)
            elif minutes:
                self._add_day(number, jobs, day, minutes, "")

    def days(self, zone: str) -> list[_Day]:
        """The days of a zone that the spans reach into."""
        if zone not in self._days:
            tz = load_zone(zone)
            # What is due after `begin` alone counts, so an earlier day costs nothing.
            day = day_of(max(self.bounds[0], datetime.fromtimestamp(self.begin, tz)), tz)
            last, found = day_of(self.bounds[-1], tz), []
            while day <= last:
                begin, end = (int(day_start(moment, tz).timestamp()) for moment in (day, day + _DAY))
                span = bisect_right(self.edges, begin) - 1
                inside = begin >= self.begin and 0 <= span < len(self.spans) and end <= self.edges[span + 1]
                ordinary = is_ordinary(day, zone)
                found.append(_Day(day=day, begin=begin, end=end, ordinary=ordinary, whole=span if inside else -1))
                day += _DAY
            self._days[zone] = found
        return self._days[zone]

    def _fit(self, zone: str, pattern: Pattern) -> list[_Day]:
        key = (zone, pattern.days)
        if key not in self._fitting:
            self._fitting[key] = [day for day in self.days(zone) if day.ordinary and pattern.fires_on(day.day)]
        return self._fitting[key]

    @staticmethod
    def _held(table: Timetable, day: _Day, held_until: int) -> str | None:
        """Why the times of a whole day pass without a run; None when only some of them may."""
        if day.end <= held_until:
            return "paused"
        if day.begin < held_until:
            return None
        return "blackout" if any(day.day in days for days in table.rules.blackouts) else ""

    def _step(self, number: int, jobs: int, table: Timetable, day: _Day) -> None:
        tz = load_zone(table.rules.zone)
        begin, end = datetime.fromtimestamp(day.begin, tz), datetime.fromtimestamp(day.end, tz)
        held: dict[str, list[int]] = {}
        for start in starts_between(table, begin, end):
            held.setdefault(start.held, []).append(int(start.at.timestamp()))
        for why, fires in held.items():
            self._add_fires(number, jobs, fires, why)

    def _add_day(self, number: int, jobs: int, day: _Day, minutes: Sequence[int], held: str) -> None:
        """Count the times of an ordinary day."""
        if day.whole >= 0:
            self._count(day.whole, day.begin + 60 * minutes[0], number, jobs, len(minutes), held)
            return
        low = bisect_left(minutes, -((day.begin - self.begin) // 60)) if day.begin < self.begin else 0
        while low < len(minutes):
            first = day.begin + 60 * minutes[low]
            span = bisect_right(self.edges, first) - 1
            if span >= len(self.spans):
                return
            until = bisect_left(minutes, -((day.begin - self.edges[span + 1]) // 60), low)
            if span >= 0:
                self._count(span, first, number, jobs, until - low, held)
            low = until

    def _add_fires(self, number: int, jobs: int, fires: Sequence[int], held: str = "") -> None:
        """Count single times, ascending."""
        low = bisect_left(fires, self.begin)
        while low < len(fires):
            span = bisect_right(self.edges, fires[low]) - 1
            if span >= len(self.spans):
                return
            until = bisect_left(fires, self.edges[span + 1], low)
            self._count(span, fires[low], number, jobs, until - low, held)
            low = until

    def _count(self, number: int, first: int, table: int, jobs: int, times: int, held: str) -> None:
        span = self.spans[number]
        if held:
            span.held += jobs * times
        else:
            span.starts += jobs * times
        if len(span.earliest) < self.keep or first < span.earliest[-1].at:
            insort(span.earliest, Coming(at=first, table=table, count=times, held=held), key=_at)
            del span.earliest[self.keep :]


def _at(coming: Coming) -> int:
    return coming.at


def _windowed(table: Timetable, pattern: Pattern, day: date) -> tuple[int, ...] | None:
    """The minutes of an ordinary day at which runs start that may have waited for the window.

    None when the day has to be stepped through: the day before is not an ordinary one and leaves something to it.
    """
    window = table.rules.window
    assert window is not None  # noqa: S101 - only asked for timetables that have one
    if any(moment.second or moment.microsecond for moment in window):
        return None
    own, late = _split(window, pattern)
    minutes = own if pattern.fires_on(day) else ()
    if late is not None:
        before = day - _DAY
        if not is_ordinary(before, table.rules.zone):
            return None
        if pattern.fires_on(before) and late not in minutes:
            minutes = tuple(sorted((*minutes, late)))
    return minutes


@lru_cache(maxsize=4096)
def _split(window: tuple[time, time], pattern: Pattern) -> tuple[tuple[int, ...], int | None]:
    """The minutes at which the times of a day start their runs on that same day, and the minute of the next day at
    which those do that are due after the window's end; None when there are none of these."""
    opens, closes = (60 * moment.hour + moment.minute for moment in window)
    own: set[int] = set()
    late = None
    for minute in pattern.minutes:
        if opens > closes:
            own.add(opens if closes <= minute < opens else minute)
        elif minute < closes:
            own.add(max(minute, opens))
        else:
            late = opens
    return tuple(sorted(own)), late
