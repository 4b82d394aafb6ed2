"""Filters of run lists: what the address asks for, checked, and the chips that lead to other choices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.http import HttpRequest

from scheduling.choices import OPEN, RunOutcome, RunStatus
from scheduling.querysets import RunQuerySet

CURSORS = ("before", "after", "all")

ACTIVE = "active"

# What a person filters by: the words of the badges, with the states that mean "not over yet" under one of them.
# Each but the first names one value of one column, so that an index yields the newest first; only succeeded runs have
# an outcome.
STATUS_FILTERS: dict[str, tuple[str, Q]] = {
    ACTIVE: ("Queued or running", Q(status__in=OPEN)),
    "succeeded": ("Succeeded", Q(status=RunStatus.SUCCEEDED)),
    "warning": ("Warning", Q(outcome=RunOutcome.WARNING)),
    "needs_approval": ("Needs approval", Q(outcome=RunOutcome.NEEDS_APPROVAL)),
    "failed": ("Failed", Q(status=RunStatus.FAILED)),
    "lost": ("Lost", Q(status=RunStatus.LOST)),
    "cancelled": ("Cancelled", Q(status=RunStatus.CANCELLED)),
    "skipped": ("Skipped", Q(status=RunStatus.SKIPPED)),
}


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One choice of a filter, as `includes/filter_chips.html` shows it."""

    label: str
    url: str
    active: bool


def link(request: HttpRequest, **changes: Any) -> str:
    """The page's address with other filters; a blank value drops one.

    A place within the list belongs to the old filters and is dropped too, as are ticks.
    """
    query = request.GET.copy()
    for name in CURSORS:
        query.pop(name, None)
    for name, value in changes.items():
        query.pop(name, None)
        if value not in ("", None):
            query[name] = str(value)
    return f"{request.path}?{query.urlencode()}" if query else request.path


def chips(request: HttpRequest, name: str, choices: Iterable[tuple[str, str]], chosen: str, **also: Any) -> list[Chip]:
    """One chip for all, then one a choice; `also` are further changes that choosing makes."""
    everything = Chip(label="All", url=link(request, **{name: "", **also}), active=not chosen)
    return [
        everything,
        *(
            Chip(label=label, url=link(request, **{name: value, **also}), active=value == chosen)
            for value, label in choices
        ),
    ]


def status_filter(request: HttpRequest) -> str:
    """The status asked for, one of `STATUS_FILTERS`; "" for none or for one that does not exist."""
    asked = request.GET.get("status", "")
    if asked in OPEN:
        return ACTIVE
    return asked if asked in STATUS_FILTERS else ""


def filtered(runs: RunQuerySet[Any], *, status: str, job: Any = None) -> RunQuerySet[Any]:
    """The runs in one of `STATUS_FILTERS` and of one job (itself or its id); "" and None leave all."""
    of_job = {} if job is None else {"job": job}
    if not status:
        return runs.filter(**of_job)
    condition = STATUS_FILTERS[status][1]
    if status == ACTIVE:
        # Always few. Looked up first, and by nothing else beside them: otherwise SQLite reads every run, or every run
        # of the job, in the order of the page to find them.
        return runs.filter(pk__in=runs.model._default_manager.filter(condition, **of_job).values("pk"))
    return runs.filter(condition, **of_job)


def status_chips(request: HttpRequest, chosen: str) -> list[Chip]:
    return chips(request, "status", [(value, label) for value, (label, _) in STATUS_FILTERS.items()], chosen)


def number(text: str | None) -> int | None:
    """A number from an address; None when it is absent, no number, or beyond what a database holds."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) <= 18 else None
