"""Curves of a job's runs: how long they took, and how much they made. Values in, places in percent out. Pure.

Percentages, because a picture is as wide as its page while its words keep their size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from math import ceil
from statistics import median

from scheduling.days import day_words
from scheduling.units import binary_size, spoken

WIDTH, HEIGHT = 1000, 100
"""The box in which paths are given; it is stretched to the picture."""

NO_BREAK = "\u00a0"
# Failed or lost.
_UNDONE = "did not succeed"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
# Amounts of time whose halves are round as well, in seconds.
_TIMES = tuple(
    step * unit
    for unit, steps in (
        (1, (1, 2, 4, 10, 20, 30)),
        (_MINUTE, (1, 2, 4, 10, 20, 30)),
        (_HOUR, (1, 2, 4, 6, 12)),
        (_DAY, (1, 2, 4, 8, 16, 32)),
    )
    for step in steps
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One run of a curve. `value` is None for what has none; `url` is its page."""

    at: datetime
    value: float | None
    failed: bool
    url: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A run in the picture: its place in percent, and what it says when pointed at."""

    x: str
    y: str
    title: str
    failed: bool
    url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A label on an axis; `at` in percent of the picture."""

    at: str
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCurve:
    """A line through the runs that went well, marks for those that did not, and both in words.

    The line is a path in a box of `WIDTH` x `HEIGHT`; `typical` is the median's height in percent.
    """

    path: str
    points: tuple[Point, ...]
    levels: tuple[Tick, ...]
    dates: tuple[Tick, ...]
    typical: str
    words: str


def duration_curve(runs: Sequence[Measured], zone: tzinfo) -> RunCurve | None:
    """Seconds that runs took, oldest first; None with fewer than two that went well."""
    return _curve(runs, zone, noun="Duration", top=nice_time, shown=_time, failed=lambda run: _failed_after(run.value))


def size_curve(runs: Sequence[Measured], zone: tzinfo, *, noun: str) -> RunCurve | None:
    """Bytes that runs made, oldest first; None with fewer than two that went well."""
    return _curve(runs, zone, noun=noun, top=_nice_bytes, shown=_size, failed=lambda _: _UNDONE)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed. Raises ValueError without values."""
    if not values:
        raise ValueError("There is no value to choose from.")
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def nice_time(top: float) -> float:
    """A round time in seconds, even in its unit, that is not below `top`."""
    found = next((time for time in _TIMES if time >= top), None)
    return float(found if found is not None else 32 * _DAY * ceil(top / (32 * _DAY)))


def nice_top(top: int, *, binary: bool) -> int:
    """A round amount, even in its unit, that is not below `top`: 2, 4, 6, 8, 10, 20 … of a unit."""
    unit = 1
    while binary and top > 1000 * unit:
        unit *= 1024
    amount = max(1, ceil(top / unit))
    power = 1
    while amount > 10 * power:
        power *= 10
    step = next(step for step in (2, 4, 6, 8, 10) if step * power >= amount)
    return step * power * unit


def _curve(
    runs: Sequence[Measured],
    zone: tzinfo,
    *,
    noun: str,
    top: Callable[[float], float],
    shown: Callable[[float], str],
    failed: Callable[[Measured], str],
) -> RunCurve | None:
    good = [run.value for run in runs if run.value is not None and not run.failed]
    if len(good) < 2:
        return None
    # A run that failed late must not flatten those that the curve is about.
    scale = top(max(good))
    first, last = runs[0].at, runs[-1].at
    span = max((last - first).total_seconds(), 1.0)

    def place(run: Measured) -> tuple[float, float]:
        across = (run.at - first).total_seconds() / span
        return across, 1 - min((run.value or 0.0) / scale, 1.0)

    points = []
    line = []
    for run in runs:
        if run.value is None and not run.failed:
            continue
        across, down = place(run)
        if not run.failed:
            line.append(f"{across * WIDTH:.1f} {down * HEIGHT:.2f}")
        when = run.at.astimezone(zone)
        what = failed(run) if run.failed or run.value is None else shown(run.value)
        title = f"{day_words(when.date())}, {when:%H:%M}: {what}"
        points.append(Point(x=_percent(across), y=_percent(down), title=title, failed=run.failed, url=run.url))
    middle = median(good)
    crosses = sum(run.failed for run in runs)
    words = (
        f"{noun} of {len(good)} runs from {day_words(first.astimezone(zone).date())} to "
        f"{day_words(last.astimezone(zone).date())}: typically {shown(middle)}, between {shown(min(good))} and "
        f"{shown(max(good))}, the last {shown(good[-1])}"
        + (f"; {crosses} that did not succeed {'is' if crosses == 1 else 'are'} marked" if crosses else "")
        + "."
    )
    return RunCurve(
        path="M" + "L".join(line),
        points=tuple(points),
        levels=tuple(
            Tick(at=_percent(1 - share), label=shown(scale * share) if share else "0") for share in (1, 0.5, 0)
        ),
        dates=_dates(first, last, zone),
        typical=_percent(1 - min(middle / scale, 1.0)),
        words=words,
    )


def _dates(first: datetime, last: datetime, zone: tzinfo) -> tuple[Tick, ...]:
    """The two ends and the middle, as days, or as times where all is within two days."""
    near = (last - first).total_seconds() < 2 * _DAY
    ticks = []
    for share in (0.0, 0.5, 1.0):
        moment = (first + (last - first) * share).astimezone(zone)
        label = f"{moment:%H:%M}" if near and share == 0.5 else day_words(moment.date(), year=False)
        if near and share != 0.5:
            label = f"{label}, {moment:%H:%M}"
        ticks.append(Tick(at=_percent(share), label=label))
    return tuple(ticks)


def _time(seconds: float) -> str:
    return (
        f"{seconds:.1f}{NO_BREAK}s"
        if 0 < seconds < 9.95 and seconds != round(seconds)
        else spoken(seconds, space=NO_BREAK)
    )


def _failed_after(seconds: float | None) -> str:
    return _UNDONE if seconds is None else f"{_UNDONE}, after {_time(seconds)}"


def _nice_bytes(top: float) -> float:
    return float(nice_top(ceil(top), binary=True))


def _size(size: float) -> str:
    return binary_size(size, space=NO_BREAK).replace(f".0{NO_BREAK}", NO_BREAK)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
