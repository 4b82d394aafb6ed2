"""What lies in the trash, why it went there, and when it is removed for good: for the pages that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Count, Max, Min, Q, Sum

from backups.models import Backup, Hold, Options
from backups.querysets import BackupQuerySet
from backups.references import RunReference, run_reference
from backups.retention import Protection
from backups.services.protections import protections_of
from backups.verdict_words import delete_words, reasons_of
from scheduling.items import ScheduledItem
from scheduling.registry import get_kind
from scheduling.upcoming import next_fire

PURGE_KEY = "purge_trash"
"""The key of the maintenance job that empties the trash; jobs are looked up by key."""

MAX_RUNS = 8


@dataclass(frozen=True, kw_only=True)
class Purge:
    """The job that empties the trash; `next_at` is its next fire, None while it is switched off or not there."""

    item: ScheduledItem | None
    next_at: datetime | None

    @property
    def key(self) -> str:
        return PURGE_KEY

    def removes_at(self, due: datetime, now: datetime) -> datetime | None:
        """When a copy that may be removed from `due` on is; None when no run is going to."""
        if self.item is None:
            return None
        # A run at the very moment takes it.
        return next_fire(self.item, max(due - timedelta(microseconds=1), now))


@dataclass(frozen=True, kw_only=True)
class TrashedCopy:
    """A row of the trash: why it was deleted in a sentence and in all reasons, from when on its bytes may be removed
    and when they are, and what keeps them.
    """

    backup: Backup
    why: str
    reasons: Sequence[Mapping[str, Any]]
    run: RunReference | None
    due: datetime | None
    removed_at: datetime | None
    protections: tuple[Protection, ...]


@dataclass(frozen=True, kw_only=True)
class TrashSummary:
    """What all of it is: `size` in bytes; `next_at` when the first of it is removed, None when nothing is going to."""

    count: int
    size: int
    next_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class TrashedRun:
    """What one run left in the trash: how many copies of how many bytes, and when it moved the last of them."""

    text: str
    run: RunReference | None
    count: int
    size: int
    at: datetime

    @property
    def label(self) -> str:
        return self.run.label if self.run else self.text


def purge_schedule(now: datetime) -> Purge:
    """The job that empties the trash, as its own schedule says."""
    item = next((item for item in get_kind("maintenance").items() if item.name == PURGE_KEY), None)
    return Purge(item=item, next_at=next_fire(item, now) if item else None)


def trashed_copies(backups: Sequence[Backup], *, options: Options, purge: Purge, now: datetime) -> list[TrashedCopy]:
    """The rows for a page of trashed backups, in their order."""
    protected = protections_of(backups, now=now)
    rows = []
    for backup in backups:
        reasons = reasons_of(backup.verdict)
        due = backup.trashed_at + timedelta(hours=options.trash_hours) if backup.trashed_at else None
        protections = protected.get(backup.pk, ())
        rows.append(
            TrashedCopy(
                backup=backup,
                why=delete_words(reasons),
                reasons=reasons,
                run=run_reference(backup.removed_by),
                due=due,
                removed_at=purge.removes_at(due, now) if due and not protections else None,
                protections=protections,
            )
        )
    return rows


def trash_summary(rows: BackupQuerySet, *, options: Options, purge: Purge, now: datetime) -> TrashSummary:
    """The figures over all of `rows`, which are in the trash."""
    found = rows.order_by().aggregate(
        count=Count("pk"), size=Sum("size"), first=Min("trashed_at", filter=~_protected(now))
    )
    first = found["first"]
    due = first + timedelta(hours=options.trash_hours) if first else None
    return TrashSummary(
        count=found["count"], size=found["size"] or 0, next_at=purge.removes_at(due, now) if due else None
    )


def trashed_runs(rows: BackupQuerySet) -> list[TrashedRun]:
    """The runs that left something in the trash, the newest first; of very many the newest few."""
    found = (
        rows.exclude(removed_by="")
        .order_by()
        .values("removed_by")
        .annotate(count=Count("pk"), size=Sum("size"), at=Max("trashed_at"))
        .order_by("-at")[:MAX_RUNS]
    )
    return [
        TrashedRun(
            text=row["removed_by"],
            run=run_reference(row["removed_by"]),
            count=row["count"],
            size=row["size"],
            at=row["at"],
        )
        for row in found
    ]


def _protected(now: datetime) -> Q:
    """The rows that a pin or a hold keeps. What is in use in the trash is not asked: nothing there is being read."""
    pinned = Q(pinned_at__isnull=False) & (Q(pin_until__isnull=True) | Q(pin_until__gt=now))
    return reduce(or_, map(covered, Hold.objects.in_force(now)), pinned)


def covered(hold: Hold) -> Q:
    """The rows that a hold keeps."""
    named = {"job_id": hold.job_id, "target_id": hold.target_id, "storage_id": hold.storage_id}
    # Without a scope it covers every row.
    return Q(**{name: pk for name, pk in named.items() if pk is not None} or {"pk__isnull": False})
