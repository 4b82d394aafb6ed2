"""Pages of runs, newest first, over one table or several, by keyset: the thousandth page costs what the first does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from django.utils import timezone

from scheduling.cursor import Cursor, microseconds
from scheduling.models import Run

PAGE_SIZE = 50
# A queued run that starts later than this changes nothing on the page until then.
SOON = timedelta(minutes=1)

__all__ = ["PAGE_SIZE", "Cursor", "Listing", "RunPage", "every_run", "run_page"]


class Listing(Protocol):
    """Runs of one kind that can be read from any place on: a RunQuerySet, or a Search."""

    def near(self, kind: str, place: Cursor | None, *, newer: bool, limit: int) -> Any: ...


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
    def is_moving(self) -> bool:
        """Whether a run is active, or may start within the minute: else the page can be asked for again seldom."""
        soon = timezone.now() + SOON
        return any(
            run.is_active or (run.is_open and (run.not_before is None or run.not_before <= soon)) for run in self.runs
        )

    @property
    def is_newest(self) -> bool:
        return not self.newer


def run_page(
    listings: Mapping[str, Listing],
    *,
    before: str | None = None,
    after: str | None = None,
    size: int = PAGE_SIZE,
    strict: bool = False,
) -> RunPage:
    """The page older than `before`, or newer than `after`, or the newest one.

    `listings` are keyed by the kind of their runs; each is asked once, for at most `size` + 1 rows. A cursor that
    cannot be read, or that has nothing on its side, gives the newest page; when `strict`, the latter gives none.
    """
    if (start := Cursor.parse(before)) is not None:
        rows = _fetch(listings, size, start, newer=False)
        if rows or strict:
            return RunPage(
                runs=rows[:size],
                newer=str(Cursor.of(rows[0])) if rows else "",
                older=str(Cursor.of(rows[size - 1])) if rows[size:] else "",
            )
    elif (end := Cursor.parse(after)) is not None:
        rows = _fetch(listings, size, end, newer=True)
        if len(rows) > size:
            rows = rows[1:]
            return RunPage(runs=rows, newer=str(Cursor.of(rows[0])), older=str(Cursor.of(rows[-1])))
    rows = _fetch(listings, size, None, newer=False)
    return RunPage(runs=rows[:size], older=str(Cursor.of(rows[size - 1])) if rows[size:] else "")


def every_run(listings: Mapping[str, Listing], *, size: int = 1000) -> Iterator[Run]:
    """All of them, newest first, in steps of `size`: memory does not grow with their number."""
    place: Cursor | None = None
    while True:
        rows = _fetch(listings, size, place, newer=False)
        yield from rows[:size]
        if len(rows) <= size:
            return
        place = Cursor.of(rows[size - 1])


def _fetch(listings: Mapping[str, Listing], size: int, place: Cursor | None, *, newer: bool) -> list[Run]:
    """The `size` + 1 runs nearest to the place on one side of it, newest first."""
    rows: list[Run] = []
    for kind, listing in listings.items():
        rows += listing.near(kind, place, newer=newer, limit=size + 1)
    rows.sort(key=_place)
    return rows[-(size + 1) :] if newer else rows[: size + 1]


def _place(run: Run) -> tuple[int, str, int]:
    return (-microseconds(run.queued_at), run.kind, -run.pk)
