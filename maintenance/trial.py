"""What a cleanup would do, under the saved options or under others: plans only, nothing is changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Sum

from backups.models import Backup, Options
from backups.retention import PolicyError
from backups.services.options import effective_policy
from backups.services.retention import Pair, plan_pair, retention_pairs

MAX_LISTED = 100


@dataclass(frozen=True, kw_only=True)
class PairTrial:
    """One pair: how many copies would stay and go, and the policy that decides. `freed` in bytes."""

    pair: Pair
    policy: str
    kept: int
    deleted: int
    freed: int
    notes: tuple[str, ...] = ()
    problem: str = ""


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

    `digest` changes whenever what would be deleted does.
    """

    pairs: list[PairTrial]
    deletions: list[Deletion]
    kept: int
    deleted: int
    freed: int
    policy: str
    digest: str

    @property
    def unlisted(self) -> int:
        return self.deleted - len(self.deletions)

    @property
    def problems(self) -> list[str]:
        return [f"{entry.pair.label}: {entry.problem}" for entry in self.pairs if entry.problem]


def retention_trial(*, options: Options, now: datetime) -> RetentionTrial:
    """Plan every pair with these options, saved or not; a job's own policy stays its own.

    Raises `PolicyError` when the policy of the options cannot be used.
    """
    policy = effective_policy(override=None, options=options)
    digest = hashlib.sha256()
    pairs: list[PairTrial] = []
    deletions: list[Deletion] = []
    for pair in retention_pairs():
        try:
            plan = plan_pair(pair=pair, options=options, now=now)
        except PolicyError as error:
            problem = f"its retention policy cannot be used: {error}. Correct it in the job."
            pairs.append(PairTrial(pair=pair, policy="", kept=0, deleted=0, freed=0, problem=problem))
            continue
        digest.update(f"{pair.label} {plan.plan.digest}\n".encode())
        pairs.append(
            PairTrial(
                pair=pair,
                policy=plan.plan.policy.describe() if pair.job.retention is not None else "",
                kept=len(plan.plan.keep),
                deleted=len(plan.plan.delete),
                freed=plan.bytes_to_delete,
                notes=plan.plan.notes,
            )
        )
        for verdict in plan.plan.delete[: MAX_LISTED - len(deletions)]:
            backup = plan.backups[verdict.uid]
            reasons = tuple(reason.text for reason in verdict.reasons)
            deletions.append(Deletion(pair=pair, backup=backup, age=now - backup.created_at, reasons=reasons))
    return RetentionTrial(
        pairs=pairs,
        deletions=deletions,
        kept=sum(entry.kept for entry in pairs),
        deleted=sum(entry.deleted for entry in pairs),
        freed=sum(entry.freed for entry in pairs),
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
