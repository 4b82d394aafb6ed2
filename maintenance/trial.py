"""What a cleanup would do, under the saved options or under others, as pages show it. Nothing is changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Sum

from backups.models import Backup, Options
from backups.services.options import effective_policy
from backups.services.retention import Pair
from maintenance.retention_plans import retention_plans

MAX_LISTED = 100


@dataclass(frozen=True, kw_only=True)
class PairTrial:
    """One pair: how many copies would stay and go, and the policy that decides. `freed` in bytes."""

    pair: Pair
    policy: str
    kept: int
    deleted: int
    freed: int
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """One backup that would go: the sentence that says why, and each reason by itself."""

    pair: Pair
    backup: Backup
    age: timedelta
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RetentionTrial:
    """What cleaning up every pair would do. `deletions` holds the first `MAX_LISTED`, the counts are of all.

    `problems` says which pairs could not be looked at, and why. `digest` changes whenever what would be deleted does.
    """

    pairs: list[PairTrial]
    deletions: list[Deletion]
    kept: int
    deleted: int
    freed: int
    problems: list[str]
    policy: str
    digest: str

    @property
    def unlisted(self) -> int:
        return self.deleted - len(self.deletions)


def retention_trial(*, options: Options, now: datetime) -> RetentionTrial:
    """Plan every pair with these options, saved or not; a job's own policy stays its own.

    Raises `PolicyError` when the policy of the options cannot be used.
    """
    policy = effective_policy(override=None, options=options)
    found = retention_plans(options=options)
    digest = hashlib.sha256()
    pairs: list[PairTrial] = []
    deletions: list[Deletion] = []
    for planned in found.plans:
        plan = planned.plan
        digest.update(f"{planned.pair.label} {plan.digest}\n".encode())
        pairs.append(
            PairTrial(
                pair=planned.pair,
                policy=plan.policy.describe() if planned.pair.job.retention is not None else "",
                kept=len(plan.keep),
                deleted=len(plan.delete),
                freed=planned.bytes_to_delete,
                notes=plan.notes,
            )
        )
        for verdict in plan.delete[: MAX_LISTED - len(deletions)]:
            backup = planned.backups[verdict.uid]
            reasons = tuple(reason.text for reason in verdict.reasons)
            deletions.append(Deletion(pair=planned.pair, backup=backup, age=now - backup.created_at, reasons=reasons))
    return RetentionTrial(
        pairs=pairs,
        deletions=deletions,
        kept=found.kept_count,
        deleted=found.deleted_count,
        freed=sum(entry.freed for entry in pairs),
        problems=[f"{label}: {reason} Nothing of it would be changed." for label, reason in found.failed.items()],
        policy=policy.describe(),
        digest=digest.hexdigest(),
    )


def trial_options(values: Mapping[str, Any]) -> Options:
    """Options with these values, not saved."""
    return Options(pk=1, **values)


def purge_due(*, options: Options, now: datetime) -> tuple[int, int]:
    """How many backups have been in the trash long enough to be removed for good, and their bytes."""
    before = now - timedelta(hours=options.trash_hours)
    due = Backup.objects.trashed().filter(trashed_at__lte=before).aggregate(count=Count("pk"), size=Sum("size"))
    return int(due["count"]), int(due["size"] or 0)
