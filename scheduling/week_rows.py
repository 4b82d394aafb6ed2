"""A week as seven pictures of a day, midnight to midnight: bars for runs, or columns for days with too many of them.
Values in, places in percent out. Pure.

A row is as wide as its own day, so on a day of 23 or 25 hours the hours stand elsewhere than on the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise

from scheduling.curves import Tick
from scheduling.days import day_bounds

ROOMY_LANES = 6
"""Lanes up to which there is room for names beside the bars."""
NAMED_TIMES = 3
"""A job that runs more often on a day is not named at each of its bars."""
MOST_BARS = 60
MOST_LANES = 10
LANE, TIGHT_LANE = 18, 10
COLUMNS_HEIGHT = 48
LABEL = 26
"""Characters of a name that are shown."""

# Percent of the picture: a character of a label on a page of middling width, the thinnest bar, and between two bars.
_CHARACTER, _THINNEST, _GAP = 0.95, 0.3, 0.35
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Happening:
    """A run, or a time at which one is to start: `status` is the word for how it went, or "planned" or "passes"."""

    start: datetime
    end: datetime
    name: str
    status: str
    url: str
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A happening's place in the row of one day, in percent and pixels. `label` is "" where there is no room."""

    x: str
    width: str
    lane: int
    label: str
    label_x: str
    anchor: str
    happening: Happening


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """An hour with many runs: heights in pixels from the floor, `bad` those that someone should look at."""

    x: str
    width: str
    y: int
    height: int
    bad_y: int
    bad: int
    status: str
    planned: bool
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One day: bars, or columns when there are too many; `left_out` bars had no room. `now` is the place of now."""

    day: date
    height: int
    lane: int = 0
    bars: tuple[Bar, ...] = ()
    columns: tuple[Column, ...] = ()
    left_out: int = 0
    ticks: tuple[Tick, ...] = ()
    is_unusual: bool = False
    now: str = ""

    @property
    def placed(self) -> list[tuple[Bar, int, int]]:
        """The bars with where their box and their name begin, in pixels from the top."""
        return [(bar, bar.lane * self.lane + 3, bar.lane * self.lane + 13) for bar in self.bars]

    @property
    def thick(self) -> int:
        """The height of a bar."""
        return self.lane - 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Hour:
    """What one hour holds, for its column."""

    start: datetime
    total: int
    bad: int
    planned: int
    status: str
    title: str


def bar_row(day: date, zone: tzinfo, happenings: Sequence[Happening], now: datetime) -> Row:
    """The row of a day with few enough happenings to draw each; those of other days reach in, or are not in it."""
    begin, end = day_bounds([day], zone)
    found = sorted((item for item in happenings if item.start < end and item.end >= begin), key=lambda item: item.start)
    often = Counter(item.name for item in found)
    named = {item.name for item in found if often[item.name] <= NAMED_TIMES}
    bars, height = _bars(found, begin, end, named), LANE
    lanes = max((bar.lane for bar in bars), default=0) + 1
    if lanes > ROOMY_LANES:
        bars, height = _bars(found, begin, end, set()), TIGHT_LANE
        bars = [bar for bar in bars if bar.lane < MOST_LANES]
        lanes = max(bar.lane for bar in bars) + 1
    return Row(
        day=day,
        height=lanes * height + 4,
        lane=height,
        bars=tuple(bars),
        left_out=len(found) - len(bars),
        ticks=hour_ticks(day, zone),
        is_unusual=end - begin != timedelta(days=1),
        now=_now(begin, end, now),
    )


def _bars(found: Sequence[Happening], begin: datetime, end: datetime, named: Collection[str]) -> list[Bar]:
    """The happenings in lanes, each in the first one in which nothing else is in its way."""
    length = (end - begin) / _HOUR
    taken: list[float] = []
    bars = []
    for item in found:
        x = min(max((item.start - begin) / _HOUR, 0.0) / length * 100, 100 - _THINNEST)
        width = max((min(item.end, end) - max(item.start, begin)) / _HOUR / length * 100, _THINNEST)
        width = min(width, 100 - x)
        label = _short(item.name) if item.name in named else ""
        room = len(label) * _CHARACTER + 1.0 if label else 0.0
        to_left = x + width + room > 100
        low, high = (x - room, x + width) if to_left else (x, x + width + room)
        lane = next((number for number, edge in enumerate(taken) if edge + _GAP <= low), len(taken))
        taken[lane : lane + 1] = [high]
        bars.append(
            Bar(
                x=f"{x:.2f}%",
                width=f"{width:.2f}%",
                lane=lane,
                label=label,
                label_x=f"{x if to_left else x + width:.2f}%",
                anchor="end" if to_left else "start",
                happening=item,
            )
        )
    return bars


def column_row(day: date, zone: tzinfo, hours: Sequence[Hour], most: int, now: datetime) -> Row:
    """The row of a day with too many runs to draw each: a column an hour, `most` being as high as the row."""
    begin, end = day_bounds([day], zone)
    length = (end - begin) / _HOUR
    columns = []
    for hour in hours:
        x, width = (hour.start - begin) / _HOUR / length * 100, 100 / length
        for number, planned in ((hour.total, False), (hour.planned, True)):
            if not number:
                continue
            height = _height(number, most)
            bad = min(height, max(3, _height(hour.bad, most))) if hour.bad and not planned else 0
            columns.append(
                Column(
                    x=f"{x + 0.3:.2f}%",
                    width=f"{max(width - 0.6, 0.2):.2f}%",
                    y=COLUMNS_HEIGHT - height,
                    height=height,
                    bad_y=COLUMNS_HEIGHT - bad,
                    bad=bad,
                    status=hour.status,
                    planned=planned,
                    title=hour.title,
                )
            )
    return Row(
        day=day,
        height=COLUMNS_HEIGHT,
        columns=tuple(columns),
        ticks=hour_ticks(day, zone),
        is_unusual=end - begin != timedelta(days=1),
        now=_now(begin, end, now),
    )


def hour_ticks(day: date, zone: tzinfo, step: int = 3) -> tuple[Tick, ...]:
    """Every third hour of a day, where it stands; one that the clocks leave out is left out."""
    begin, end = day_bounds([day], zone)
    ticks = []
    for hour in range(0, 24, step):
        moment = datetime(day.year, day.month, day.day, hour, tzinfo=zone).astimezone(UTC)
        if moment.astimezone(zone).hour == hour and begin <= moment < end:
            ticks.append(Tick(at=f"{(moment - begin) / (end - begin) * 100:.2f}%", label=f"{hour:02d}"))
    return tuple(ticks)


def hour_bounds(days: Sequence[date], zone: tzinfo) -> list[datetime]:
    """The instants between the hours of consecutive days, counted from each midnight: 23 to 25 of them a day."""
    bounds: list[datetime] = []
    edges = day_bounds(days, zone)
    for begin, end in pairwise(edges):
        moment = begin
        while moment < end:
            bounds.append(moment)
            moment += _HOUR
    return [*bounds, edges[-1]]


def _height(number: int, most: int) -> int:
    """By the square root: an hour with one run is to be seen beside one with a thousand."""
    return max(2, round((COLUMNS_HEIGHT - 2) * (number / max(most, 1)) ** 0.5)) if number else 0


def _short(name: str) -> str:
    return name if len(name) <= LABEL else f"{name[: LABEL - 1]}…"


def _now(begin: datetime, end: datetime, now: datetime) -> str:
    return f"{(now - begin) / (end - begin) * 100:.2f}%" if begin <= now < end else ""
