"""The calendar of one pair as a picture: values in, places and words out. Pure: no Django and no clock.

Rows are weekdays, columns ISO weeks. What a day shows is told by its shape, its colour and its words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Protocol

PITCH = 17
"""From one day to the next in the picture's units, which are pixels at its natural size."""
SIZE = 14
LEFT = 30
TOP = 18
MONTH_GAP = 4
"""Columns that the name of a month with its year needs."""

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

KEPT, LEAVING, FLAWED, TRASHED, DELETED = "kept", "leaving", "flawed", "trashed", "deleted"
FAILED, MISSED = "failed", "missed"
COPIES = (KEPT, LEAVING, FLAWED, TRASHED, DELETED)
PAST_KINDS = (*COPIES, FAILED, MISSED)
"""What a day that has been can hold; the first of them that it holds is what it shows."""

STAYING, EXPECTED, LOSING, QUIET = "staying", "expected", "losing", "quiet"
# The middle of a number's base line in the marks that have room for one. Of deleted copies it would only be noise.
_NUMBER_PLACES = {KEPT: (7, 10), FLAWED: (7, 12), TRASHED: (7, 10), LEAVING: (9, 8)}


_WORDS = {
    KEPT: ("copy kept", "copies kept"),
    LEAVING: ("copy that the next cleanup moves to the trash", "copies that the next cleanup moves to the trash"),
    FLAWED: ("copy that does not count as good", "copies that do not count as good"),
    TRASHED: ("copy in the trash", "copies in the trash"),
    DELETED: ("copy deleted", "copies deleted"),
    FAILED: ("run failed", "runs failed"),
}


class Facts(Protocol):
    """What the picture asks of a day."""

    @property
    def kind(self) -> str:
        """What the day shows; "" when there is nothing to show."""

    @property
    def count(self) -> int:
        """How many of that it holds."""

    @property
    def words(self) -> str:
        """All that it holds, in words."""

    @property
    def is_protected(self) -> bool: ...

    @property
    def is_losing(self) -> bool: ...

    @property
    def asks(self) -> bool: ...


@dataclass(slots=True)
class PastDay:
    """What happened on one day, counted by the kinds in `PAST_KINDS`; `protected` copies are pinned, held or in use."""

    counts: dict[str, int] = field(default_factory=dict)
    protected: int = 0

    is_losing = False
    asks = False

    def add(self, kind: str, *, protected: bool = False) -> None:
        """Count one more of a kind."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.protected += protected

    @property
    def kind(self) -> str:
        return next((kind for kind in PAST_KINDS if kind in self.counts), "")

    @property
    def count(self) -> int:
        return self.counts.get(self.kind, 0)

    @property
    def is_protected(self) -> bool:
        return self.protected > 0

    @property
    def words(self) -> str:
        parts = [_counted(self.counts[kind], *_WORDS[kind]) for kind in PAST_KINDS[:-1] if kind in self.counts]
        if self.protected:
            parts.append(f"{self.protected} protected")
        if MISSED in self.counts:
            parts.append("no run, though one was due")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class AheadDay:
    """What is expected of one day: copies `due`, those of them still there on `last` (the forecast's last day), and
    existing copies that go. `asks`: its cleanup would stop at a guard and ask.
    """

    due: int = 0
    staying: int = 0
    going: int = 0
    asks: bool = False
    last: date

    is_protected = False

    @property
    def kind(self) -> str:
        if self.staying:
            return STAYING
        if self.due:
            return EXPECTED
        return LOSING if self.going else QUIET if self.asks else ""

    @property
    def count(self) -> int:
        return self.staying or self.due

    @property
    def is_losing(self) -> bool:
        return self.going > 0

    @property
    def words(self) -> str:
        parts = []
        if self.due:
            due = _counted(self.due, "copy due", "copies due")
            if self.staying:
                which = "" if self.staying == self.due else f"{self.staying} of them "
                parts.append(f"{due}, {which}still there on {day_words(self.last, weekday=False)}")
            else:
                parts.append(f"{due}, gone again by {day_words(self.last, weekday=False)}")
        if self.going:
            parts.append(f"{_counted(self.going, 'copy goes', 'copies go')} to the trash")
        if self.asks:
            parts.append("the cleanup would stop and ask")
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One day of the picture; `label` says in words what it shows."""

    day: date
    x: int
    y: int
    facts: Facts
    label: str

    @property
    def number(self) -> str:
        """What is written into the day's mark: how many, when that is more than one and the mark has room for it."""
        count = self.facts.count
        if count < 2 or self.facts.kind not in _NUMBER_PLACES:
            return ""
        return str(count) if count < 100 else "99+"

    @property
    def iso(self) -> str:
        return self.day.isoformat()

    @property
    def number_x(self) -> int:
        return _NUMBER_PLACES.get(self.facts.kind, (0, 0))[0]

    @property
    def number_y(self) -> int:
        return _NUMBER_PLACES.get(self.facts.kind, (0, 0))[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    text: str
    x: int
    y: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A calendar: its days with something to show, and one path of `blanks` for the others."""

    width: int
    height: int
    months: tuple[Label, ...]
    weekdays: tuple[Label, ...]
    cells: tuple[Cell, ...]
    blanks: str
    today: Label | None
    chosen: Label | None
    """The place of the day that is looked at; None when it is not in this picture, as with `today`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MonthRow:
    """One month in numbers, for those who read the calendar as a table: `counts` by `PAST_KINDS`."""

    first: date
    counts: tuple[int, ...]
    protected: int


def picture(
    facts: Mapping[date, Facts], *, first: date, last: date, today: date, chosen: date | None = None
) -> Picture:
    """Lay out the days from `first` to `last` (both included) in columns of ISO weeks."""
    start = first - timedelta(days=first.weekday())
    columns = (last - start).days // 7 + 1
    cells = []
    blanks = []
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        x, y = _place(day, start)
        found = facts.get(day)
        if found is not None and found.kind:
            label = f"{day_words(day)}: {found.words}"
            cells.append(Cell(day=day, x=x, y=y, facts=found, label=label))
        else:
            blanks.append(f"M{x + 5.5} {y + 5.5}h3v3h-3z")
    return Picture(
        width=LEFT + columns * PITCH,
        height=TOP + 7 * PITCH,
        months=_months(start, first, columns),
        weekdays=tuple(Label(text=text, x=0, y=TOP + row * PITCH + SIZE - 3) for row, text in enumerate(WEEKDAYS)),
        cells=tuple(cells),
        blanks="".join(blanks),
        today=_marked(today, start, first, last),
        chosen=_marked(chosen, start, first, last),
    )


def months(facts: Mapping[date, PastDay]) -> tuple[MonthRow, ...]:
    """The past days summed up by month, newest first; months without anything are left out."""
    sums: dict[date, PastDay] = {}
    for day, found in facts.items():
        month = sums.setdefault(day.replace(day=1), PastDay())
        for kind, number in found.counts.items():
            month.counts[kind] = month.counts.get(kind, 0) + number
        month.protected += found.protected
    return tuple(
        MonthRow(
            first=first,
            counts=tuple(sums[first].counts.get(kind, 0) for kind in PAST_KINDS),
            protected=sums[first].protected,
        )
        for first in sorted(sums, reverse=True)
        if sums[first].counts
    )


def day_words(day: date, *, weekday: bool = True) -> str:
    """A date for people: `Tue 3 Nov 2026`."""
    text = f"{day.day} {MONTHS[day.month - 1]} {day.year}"
    return f"{WEEKDAYS[day.weekday()]} {text}" if weekday else text


def year_before(today: date) -> date:
    """The Monday on which a picture of the past year begins: 52 whole weeks and the present one."""
    return today - timedelta(days=today.weekday(), weeks=52)


def _place(day: date, start: date) -> tuple[int, int]:
    week, weekday = divmod((day - start).days, 7)
    return LEFT + week * PITCH, TOP + weekday * PITCH


def _marked(day: date | None, start: date, first: date, last: date) -> Label | None:
    if day is None or not first <= day <= last:
        return None
    x, y = _place(day, start)
    return Label(text=day_words(day), x=x, y=y)


def _months(start: date, first: date, columns: int) -> tuple[Label, ...]:
    """The name of each month above the first column that holds its first day, with the year where that changes."""
    found: list[tuple[int, date]] = [(0, first)]
    for column in range(columns):
        days = (start + timedelta(weeks=column, days=row) for row in range(7))
        begins = next((day for day in days if day.day == 1 and day > first), None)
        if begins is not None:
            if len(found) == 1 and column - found[0][0] < MONTH_GAP:
                found.pop()
            found.append((column, begins))
    labels: list[Label] = []
    year = 0
    for column, day in found:
        text = MONTHS[day.month - 1] if day.year == year else f"{MONTHS[day.month - 1]} {day.year}"
        year = day.year
        if columns - column > 1:
            labels.append(Label(text=text, x=LEFT + column * PITCH, y=TOP - 7))
    return tuple(labels)


def _counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
