"""A month or a week of the calendar as values, and the addresses that it leads to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from urllib.parse import urlencode

from django.urls import reverse

from scheduling.day_counts import Count, worst_first
from scheduling.days import day_words
from scheduling.registry import RunKind
from scheduling.week_rows import Row

MONTH, WEEK = "month", "week"
# Jobs of a period that stand there to be chosen; with more, one is found by its name.
JOB_CHIPS = 12
PLANNED, PASSES = "planned", "passes"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the address asks for; `job` is one of `kinds`' only kind."""

    view: str
    day: date
    kinds: tuple[RunKind, ...]
    kind: str = ""
    job: int | None = None


@dataclass(frozen=True, kw_only=True)
class Line:
    """One job on one day: what happened to it, or what is to."""

    status: str
    time: str
    name: str
    note: str = ""
    url: str = ""
    title: str


@dataclass(frozen=True, kw_only=True)
class LinkedCount:
    count: Count
    url: str


@dataclass(kw_only=True)
class CalendarDay:
    """One day: `lines` of runs and of times to come, and how many more of each there are.

    `counts` are all its runs, worst first; `starts` all that are to come, `held` times that pass without a run.
    """

    day: date
    is_today: bool
    is_outside: bool
    change: str
    counts: tuple[LinkedCount, ...] = ()
    lines: list[Line] = field(default_factory=list)
    more: int = 0
    coming: list[Line] = field(default_factory=list)
    more_coming: int = 0
    starts: int = 0
    held: int = 0
    runs_url: str = ""
    week_url: str = ""
    row: Row | None = None

    @property
    def total(self) -> int:
        return sum(linked.count.number for linked in self.counts)

    @property
    def is_empty(self) -> bool:
        return not (self.counts or self.starts or self.held or self.change)

    @property
    def label(self) -> str:
        return day_words(self.day)

    @property
    def shows_counts(self) -> bool:
        """Whether its runs are too many to be told apart."""
        return bool(self.counts) and not self.lines


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """A month or a week; `previous`, `following` and `today` are days in the one to go to.

    `jobs` are those that ran or are to run in it; not all of them unless `names_all`.
    """

    title: str
    weeks: list[list[CalendarDay]]
    previous: date
    following: date
    jobs: tuple[tuple[str, int, str], ...]
    names_all: bool = True

    @property
    def days(self) -> list[CalendarDay]:
        return [day for week in self.weeks for day in week]

    @property
    def counts(self) -> tuple[Count, ...]:
        """All runs of the days that are asked for, worst first."""
        total: dict[str, int] = {}
        for day in self.days:
            for linked in day.counts:
                if not day.is_outside:
                    total[linked.count.word] = total.get(linked.count.word, 0) + linked.count.number
        return worst_first(total)

    @property
    def total(self) -> int:
        return sum(count.number for count in self.counts)

    @property
    def starts(self) -> int:
        return sum(day.starts for day in self.days if not day.is_outside)

    @property
    def held(self) -> int:
        return sum(day.held for day in self.days if not day.is_outside)


def runs_url(asked: Asked, day: date, *, kind: str = "", job: int | None = None, **filters: str) -> str:
    """The runs of one day under the filters of the page, and further ones."""
    of_job = job if job is not None else asked.job
    query = {"kind": kind or asked.kind, "job": of_job or "", **filters, "from": day, "to": day}
    chosen = {name: value for name, value in query.items() if value}
    return f"{reverse('scheduling:run_list')}?{urlencode(chosen)}"


def week_url(asked: Asked, day: date) -> str:
    """The week of a day, under the filters of the page."""
    query = {"view": WEEK, "date": day, "kind": asked.kind, "job": asked.job or ""}
    return f"?{urlencode({name: value for name, value in query.items() if value})}"
