"""Pages of runs, newest first, over one table or several, by keyset: the thousandth page costs what the first does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from django.db.models import Q

from scheduling.models import Run
from scheduling.querysets import RunQuerySet

PAGE_SIZE = 50

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = re.compile(r"(\d{1,16})\.([a-z]{1,32})\.(\d{1,18})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """The place of one run in the order of all: newest first, then by kind, then the higher id first."""

    at: datetime
    kind: str
    pk: int

    @classmethod
    def of(cls, run: Run) -> Self:
        return cls(at=run.queued_at, kind=run.kind, pk=run.pk)

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """A cursor from an address; None when it is absent or was not written by `__str__`."""
        found = _CURSOR.fullmatch(text or "")
        if found is None:
            return None
        try:
            at = _EPOCH + timedelta(microseconds=int(found[1]))
            # The database adapter needs a year that has neighbours in every zone.
            return cls(at=at, kind=found[2], pk=int(found[3])) if at.year < 9999 else None
        except OverflowError:
            return None

    def __str__(self) -> str:
        return f"{(self.at - _EPOCH) // timedelta(microseconds=1)}.{self.kind}.{self.pk}"

    def older(self, kind: str) -> Q:
        """The runs of one kind that come after this place."""
        if kind == self.kind:
            return Q(queued_at__lte=self.at) & (Q(queued_at__lt=self.at) | Q(pk__lt=self.pk))
        return Q(queued_at__lte=self.at) if kind > self.kind else Q(queued_at__lt=self.at)

    def newer(self, kind: str) -> Q:
        """The runs of one kind that come before this place."""
        if kind == self.kind:
            return Q(queued_at__gte=self.at) & (Q(queued_at__gt=self.at) | Q(pk__gt=self.pk))
        return Q(queued_at__gte=self.at) if kind < self.kind else Q(queued_at__gt=self.at)


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """Up to a page of runs, newest first, with the cursors of its neighbours; "" where there is none."""

    runs: list[Run]
    newer: str = ""
    older: str = ""

    @property
    def open_count(self) -> int:
        """How many of these runs are not over."""
        return sum(run.is_open for run in self.runs)

    @property
    def queued_count(self) -> int:
        return sum(run.is_open and not run.is_active for run in self.runs)

    @property
    def is_newest(self) -> bool:
        return not self.newer


def run_page(
    querysets: Mapping[str, RunQuerySet[Any]],
    *,
    before: str | None = None,
    after: str | None = None,
    size: int = PAGE_SIZE,
) -> RunPage:
    """The page older than `before`, or newer than `after`, or the newest one.

    `querysets` are keyed by the kind of their runs; each is asked once, for at most `size` + 1 rows. A cursor that
    cannot be read, or that has nothing on its side, gives the newest page.
    """
    if (start := Cursor.parse(before)) is not None:
        rows = _fetch(querysets, size, start, newer=False)
        if rows:
            return RunPage(
                runs=rows[:size],
                newer=str(Cursor.of(rows[0])),
                older=str(Cursor.of(rows[size - 1])) if rows[size:] else "",
            )
    elif (end := Cursor.parse(after)) is not None:
        rows = _fetch(querysets, size, end, newer=True)
        if len(rows) > size:
            rows = rows[1:]
            return RunPage(runs=rows, newer=str(Cursor.of(rows[0])), older=str(Cursor.of(rows[-1])))
    rows = _fetch(querysets, size, None, newer=False)
    return RunPage(runs=rows[:size], older=str(Cursor.of(rows[size - 1])) if rows[size:] else "")


def _fetch(querysets: Mapping[str, RunQuerySet[Any]], size: int, place: Cursor | None, *, newer: bool) -> list[Run]:
    """The `size` + 1 runs nearest to the place on one side of it, newest first."""
    rows: list[Run] = []
    for kind, queryset in querysets.items():
        if place is not None:
            queryset = queryset.filter(place.newer(kind) if newer else place.older(kind))
        order = ("queued_at", "pk") if newer else ("-queued_at", "-pk")
        rows += queryset.order_by(*order)[: size + 1]
    rows.sort(key=_place)
    return rows[-(size + 1) :] if newer else rows[: size + 1]


def _place(run: Run) -> tuple[float | int, str, int]:
    return (-((run.queued_at - _EPOCH) // timedelta(microseconds=1)), run.kind, -run.pk)
