"""The planner's view of the catalogue: pairs, their candidates, and the plan for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backups.models import Backup, BackupJob, Options
from backups.retention import Candidate, Plan, plan
from backups.services.options import effective_policy


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One target of one job: the unit that retention is evaluated on."""

    job: BackupJob
    target_id: int
    target_name: str

    @property
    def label(self) -> str:
        return f"{self.job.name} / {self.target_name}"


@dataclass(frozen=True, kw_only=True)
class PairPlan:
    """The plan for one pair, with the rows it speaks of by uid."""

    pair: Pair
    plan: Plan
    backups: Mapping[str, Backup]

    @property
    def to_delete(self) -> list[Backup]:
        return [self.backups[verdict.uid] for verdict in self.plan.delete]

    @property
    def bytes_to_delete(self) -> int:
        return sum(backup.size for backup in self.to_delete)


def retention_pairs(*, job_id: int | None = None, target_id: int | None = None) -> list[Pair]:
    """Every pair that has copies, by name; of one job and target when these are given.

    Pairs of a deleted job or target are left alone for ever.
    """
    rows = Backup.objects.on_storage().filter(job__isnull=False, target__isnull=False)
    if job_id is not None:
        rows = rows.filter(job_id=job_id)
    if target_id is not None:
        rows = rows.filter(target_id=target_id)
    found = rows.order_by().values_list("job_id", "target_id", "target__name").distinct()
    jobs = BackupJob.objects.select_related("storage").in_bulk([job for job, _, _ in found])
    pairs = [Pair(job=jobs[job], target_id=target, target_name=name) for job, target, name in found if job in jobs]
    return sorted(pairs, key=lambda pair: pair.label)


def plan_pair(
    *,
    pair: Pair,
    options: Options,
    now: datetime,
    policy: Mapping[str, Any] | None = None,
    minimum_keep: int | None = None,
) -> PairPlan:
    """Plan one pair at `now`.

    `policy` and `minimum_keep` try out other values than those in Options; a job's own policy stays its own.
    """
    tried = Options(
        timezone=options.timezone,
        retention=options.retention if policy is None else dict(policy),
    )
    rows = {
        backup.uid: backup
        for backup in Backup.objects.of_pair(pair.job.pk, pair.target_id)
        .on_storage()
        .select_related("storage")
        .order_by("-created_at")
    }
    candidates = [
        Candidate(uid=row.uid, created=row.created_at, size=row.size, verified_at=row.verified_at, flaw=row.flaw)
        for row in rows.values()
    ]
    effective = effective_policy(override=pair.job.retention, options=tried)
    floor = options.minimum_keep if minimum_keep is None else minimum_keep
    return PairPlan(pair=pair, plan=plan(candidates, effective, now, floor), backups=rows)
