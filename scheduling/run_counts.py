"""How many runs there were in spans of time, by how they went: counted by the database, whatever their number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Case, Count, F, IntegerField, Value, When

from scheduling.choices import RunOutcome, RunStatus
from scheduling.registry import RunKind

# Beyond that, what a run says of itself is its status.
_OUTCOMES = (RunOutcome.WARNING, RunOutcome.NEEDS_APPROVAL)

type Counts = dict[str, int]
"""Runs by the word of their badge: a status, or the outcome of those that succeeded with more to say."""


def counts_by_span(kinds: Iterable[RunKind], bounds: Sequence[datetime], *, job: int | None = None) -> list[Counts]:
    """The runs recorded in each span between consecutive `bounds`, of all jobs of these kinds or of one: one query.

    It reads indexes only: (status, queued_at) and (outcome, queued_at), with the job before them if one is asked for.
    """
    counts: list[Counts] = [{} for _ in bounds[1:]]
    parts = [part for kind in kinds for part in _parts(kind, bounds, job)]
    if not parts:
        return counts
    rows = parts[0].union(*parts[1:], all=True).order_by()
    for word, span, number in rows:
        found = counts[span]
        found[word] = found.get(word, 0) + number
        if word in _OUTCOMES:
            # Those have been counted as succeeded as well.
            found[RunStatus.SUCCEEDED] = found.get(RunStatus.SUCCEEDED, 0) - number
    return [{str(word): number for word, number in found.items() if number} for found in counts]


def _parts(kind: RunKind, bounds: Sequence[datetime], job: int | None) -> list[Any]:
    model: Any = kind.run_model
    runs = model.objects.filter(queued_at__gte=bounds[0], queued_at__lt=bounds[-1]).order_by()
    if job is not None:
        runs = runs.filter(job=job)
    span = span_case("queued_at", bounds)
    return [
        runs.filter(**{f"{column}__in": words})
        .annotate(span=span, word=F(column))
        .values("word", "span")
        .annotate(number=Count("*"))
        .values_list("word", "span", "number")
        for column, words in (("status", RunStatus.values), ("outcome", _OUTCOMES))
    ]


def span_case(column: str, bounds: Sequence[datetime]) -> Case:
    """The number of the span that a time between the first and the last of the `bounds` lies in."""
    whens = [When(**{f"{column}__lt": end, "then": Value(number)}) for number, end in enumerate(bounds[1:])]
    return Case(*whens, output_field=IntegerField())
