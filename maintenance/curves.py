"""What the pictures of a policy's trial are drawn from: paths, marks and labels, placed in percent. Pure.

Percentages, because a picture is as wide as its page while its words keep their size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import sqrt

from backups.retention import Copy, Day, Timeline
from backups.retention.periods import stamp_of
from scheduling.curves import nice_top
from scheduling.units import binary_size

WIDTH, HEIGHT = 1000, 100
"""The box in which paths are given; it is stretched to the picture."""

# Marks closer than this (percent) are drawn as one: a year of hourly copies needs no more of them than fit.
_STEP = 0.25
_DAY = timedelta(days=1)
_AGES = (
    (1, "1 day"),
    (7, "1 week"),
    (30, "1 month"),
    (91, "3 months"),
    (182, "6 months"),
    (365, "1 year"),
    (730, "2 years"),
    (1826, "5 years"),
    (3652, "10 years"),
)
# Labels closer than this (percent) would run into each other on a telephone.
_LABEL_ROOM = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A label on an axis; `at` in percent of the picture. A minor one has room only on a wide page."""

    at: str
    label: str
    minor: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Two lines over the days ahead, of the saved policy and of the one to try, and the latter's with its trash.

    The lines are paths in a box of `WIDTH` x `HEIGHT`. `levels` are the horizontal lines with their amounts.
    """

    old: str
    new: str
    trash: str
    levels: tuple[Tick, ...]
    months: tuple[Tick, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A copy on the axis of time, or `number` of them so close together that they are one mark; `at` in percent.

    `only` says that the other policy does not have it then; `missing` marks where the other one has a copy.
    """

    at: str
    title: str
    number: int = 1
    only: bool = False
    missing: bool = False
    expected: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """The copies of one day under the saved policy and under the one to try, on one axis that ends with that day.

    The axis gives recent times more room than old ones: it goes by the square root of the age.
    """

    old: tuple[Mark, ...]
    new: tuple[Mark, ...]
    ages: tuple[Tick, ...]


def storage_curve(old: Timeline, new: Timeline) -> Curve:
    """Bytes on storage, day by day; copies where nothing has a size, as of a job that has not run yet."""
    has_sizes = any(day.bytes for day in (*old.days, *new.days))
    value = _bytes if has_sizes else _copies
    label = _round_size if has_sizes else str
    top = max((value(day) for day in (*old.days, *new.days)), default=0)
    if has_sizes:
        top = max(top, max(day.bytes + day.trash_bytes for day in new.days))
    scale = nice_top(top, binary=has_sizes)
    days = len(new.days)
    return Curve(
        old=_path(old.days, value, scale),
        new=_path(new.days, value, scale),
        trash=_path(new.days, lambda day: day.bytes + day.trash_bytes, scale) if has_sizes else "",
        levels=tuple(
            Tick(at=_percent(1 - share), label=label(int(scale * share)) if share else "0") for share in (1, 0.5, 0)
        ),
        months=_months(new.days[0].day, days),
    )


def day_marks(old: Timeline, new: Timeline, day: date) -> Marks:
    """The copies at the end of a day that both simulate. Raises ValueError for another day."""
    before, after = old.copies_on(day), new.copies_on(day)
    end = datetime.combine(day + _DAY, datetime.min.time(), tzinfo=new.zone)
    oldest = min((copy.created for copy in (*before, *after)), default=end - _DAY)
    span = max((end - oldest) / _DAY, 1.0)
    known_before, known_after = set(map(_identity, before)), set(map(_identity, after))

    def place(copy: Copy) -> float:
        return 100 * (1 - sqrt(max((end - copy.created) / _DAY, 0.0) / span))

    gone = [copy for copy in before if _identity(copy) not in known_after]
    return Marks(
        old=_marks(before, place, new.zone, only=lambda copy: _identity(copy) not in known_after),
        new=(
            *_marks(after, place, new.zone, only=lambda copy: _identity(copy) not in known_before),
            *_marks(gone, place, new.zone, missing=True),
        ),
        ages=_ages(span),
    )


def _marks(
    copies: Sequence[Copy],
    place: Callable[[Copy], float],
    zone: object,
    *,
    only: Callable[[Copy], bool] = lambda _: False,
    missing: bool = False,
) -> tuple[Mark, ...]:
    groups: dict[tuple[int, bool, bool], list[Copy]] = {}
    for copy in copies:
        groups.setdefault((round(place(copy) / _STEP), only(copy), copy.expected), []).append(copy)
    return tuple(
        Mark(
            at=f"{min(max(step * _STEP, 0.6), 99.4):.2f}%",
            title=_title(group, zone),
            number=len(group),
            only=is_only,
            missing=missing,
            expected=expected,
        )
        for (step, is_only, expected), group in groups.items()
    )


def _title(copies: Sequence[Copy], zone: object) -> str:
    newest, oldest = (copy.created.astimezone(zone) for copy in (copies[0], copies[-1]))  # type: ignore[arg-type]
    if len(copies) == 1:
        return f"{newest:%a} {newest.day} {newest:%b %Y, %H:%M}"
    return f"{len(copies)} copies from {oldest.day} {oldest:%b %Y} to {newest.day} {newest:%b %Y}"


def _ages(span: float) -> tuple[Tick, ...]:
    ticks: list[Tick] = []
    last = 100.0
    for days, label in _AGES:
        place = 100 * (1 - sqrt(days / span)) if days <= span else -1.0
        if 4 < place < last - _LABEL_ROOM:
            ticks.append(Tick(at=f"{place:.2f}%", label=label))
            last = place
    return tuple(ticks)


def _months(first: date, days: int) -> tuple[Tick, ...]:
    """The first of each month; a narrow page shows one in three, and none beside the word that stands for today."""
    ticks = []
    for number in range(1, days):
        day = first + number * _DAY
        at = 100 * number / max(days - 1, 1)
        if day.day == 1 and 6 < at < 97:
            label = f"{day:%b %Y}" if day.month == 1 else f"{day:%b}"
            ticks.append(Tick(at=f"{at:.2f}%", label=label, minor=day.month % 3 != 1 or at < 20))
    return tuple(ticks)


def _path(days: Sequence[Day], value: Callable[[Day], int], scale: int) -> str:
    across = WIDTH / max(len(days) - 1, 1)
    points: list[tuple[float, float]] = []
    for number, day in enumerate(days):
        height = HEIGHT * (1 - value(day) / scale)
        # A level stretch needs its ends only.
        if len(points) > 1 and points[-1][1] == points[-2][1] == height:
            points.pop()
        points.append((number * across, height))
    return "M" + "L".join(f"{x:.1f} {y:.2f}" for x, y in points)


def _identity(copy: Copy) -> tuple[str, int]:
    return (copy.uid, stamp_of(copy.created))


def _bytes(day: Day) -> int:
    return day.bytes


def _copies(day: Day) -> int:
    return day.copies


def _round_size(size: int) -> str:
    return binary_size(size, space="\u00a0").replace(".0\u00a0", "\u00a0")


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
