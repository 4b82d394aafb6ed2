"""The log of a run as its page reads it: the newest lines, those after the last that the page has, and counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db.models import Count

from scheduling.choices import LogLevel

if TYPE_CHECKING:
    from scheduling.models import LogLine, Run
    from scheduling.registry import RunKind

# How many lines a page begins with, and how many one answer adds at most.
TAIL = 400
BATCH = 500

# What a reader can choose to see: value in the address, words, and the levels in it (none: all).
LEVELS: dict[str, tuple[str, tuple[LogLevel, ...]]] = {
    "": ("All", ()),
    "warning": ("Warnings and errors", (LogLevel.WARNING, LogLevel.ERROR)),
    "error": ("Errors", (LogLevel.ERROR,)),
}


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Lines in their order. `last_seq` is where the next answer goes on, `hidden` how many come before the first of
    them and are not shown, `more` whether there are further ones already.
    """

    lines: list[LogLine]
    last_seq: int
    hidden: int = 0
    more: bool = False
    counts: dict[str, int] = field(default_factory=dict)


def known_level(value: str | None) -> str:
    return value if value in LEVELS else ""


def log_counts(kind: RunKind, run: Run) -> dict[str, int]:
    """How many lines each choice of `LEVELS` shows."""
    model: Any = kind.log_model
    counted = model.objects.filter(run_id=run.pk).order_by().values_list("level").annotate(Count("pk"))
    by_level: dict[str, int] = dict(counted)
    return {
        value: sum(count for level, count in by_level.items() if not levels or level in levels)
        for value, (_, levels) in LEVELS.items()
    }


def log_of(kind: RunKind, run: Run, level: str = "") -> Any:
    """The lines of one choice of `LEVELS`, as a queryset in their order."""
    model: Any = kind.log_model
    lines = model.objects.filter(run_id=run.pk).order_by("seq")
    levels = LEVELS[level][1]
    return lines.filter(level__in=levels) if levels else lines


def log_tail(kind: RunKind, run: Run, *, level: str, whole: bool) -> Lines:
    """The newest lines, or all of them: a log is bounded."""
    counts = log_counts(kind, run)
    lines = log_of(kind, run, level)
    found = list(lines) if whole else list(lines.order_by("-seq")[:TAIL])[::-1]
    return Lines(
        lines=found,
        last_seq=found[-1].seq if found else 0,
        hidden=max(0, counts[level] - len(found)),
        counts=counts,
    )


def log_after(kind: RunKind, run: Run, *, level: str, after: int) -> Lines:
    """Up to `BATCH` lines after the one that the page has."""
    found = list(log_of(kind, run, level).filter(seq__gt=after)[: BATCH + 1])
    new = found[:BATCH]
    return Lines(
        lines=new,
        last_seq=new[-1].seq if new else after,
        more=len(found) > BATCH,
        counts=log_counts(kind, run) if new else {},
    )
