"""The planner's view of the catalogue: pairs, their candidates, and the plan for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from backups.choices import AttemptStatus
from backups.models import Backup, BackupJob, BackupRunTarget, Options, Storage
from backups.retention import Candidate, Guards, Plan, Stop, StoragePart, plan
from backups.services.options import effective_policy
from backups.services.protections import protections_of

# What the planner, its guards and the protections read of a copy. A pair can have tens of thousands of rows, and half
# of the time to read one goes into what nobody looks at there.
DECIDING_COLUMNS = (
    "uid",
    "job_id",
    "target_id",
    "target_name",
    "storage_id",
    "created_at",
    "size",
    "state",
    "suspect_reason",
    "accepted_at",
    "verified_at",
    "pinned_at",
    "pinned_by",
    "pin_until",
    "pin_note",
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One target of one job: the unit that retention is evaluated on."""

    job: BackupJob
    target_id: int
    target_name: str

    @property
    def label(self) -> str:
        return f"{self.job.name} / {self.target_name}"

    @property
    def key(self) -> tuple[int, int]:
        """The ids of job and target."""
        return (self.job.pk, self.target_id)


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

    @property
    def storages(self) -> list[Storage]:
        """The storages that its copies lie in: one, unless the job was given another."""
        return list({backup.storage_id: backup.storage for backup in self.backups.values()}.values())

    @property
    def storages_to_delete_from(self) -> set[int]:
        """The ids of the storages that the plan deletes from."""
        return {backup.storage_id for backup in self.to_delete}

    def part_in(self, storage: Storage) -> StoragePart:
        """What the plan adds to the blast radius of a storage."""
        counted = (verdict.uid for verdict in self.plan.verdicts if verdict.rank >= 0)
        good = sum(1 for uid in counted if self.backups[uid].storage_id == storage.pk)
        sizes = [backup.size for backup in self.to_delete if backup.storage_id == storage.pk]
        return StoragePart(good=good, deletions=sizes, arrivals=self.plan.guards.arrivals)

    def with_stops(self, *stops: Stop) -> PairPlan:
        return replace(self, plan=self.plan.with_stops(*stops))


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
    last_cleaned: datetime | None = None,
    stops: Sequence[Stop] = (),
) -> PairPlan:
    """Plan one pair at `now`, under the guards of `options`.

    `policy` and `minimum_keep` try out other values than those in Options; a job's own policy stays its own. Copies
    that came in since `last_cleaned` may each replace an older one without counting towards the blast radius; `stops`
    are what is in the way already.
    """
    tried = Options(
        timezone=options.timezone,
        retention=options.retention if policy is None else dict(policy),
    )
    rows = pair_backups(pair)
    effective = effective_policy(override=pair.job.retention, options=tried)
    guards = pair_guards(
        options=options, rows=rows.values(), now=now, minimum_keep=minimum_keep, last_cleaned=last_cleaned, stops=stops
    )
    planned = plan(candidates_of(list(rows.values()), now=now), effective, now, guards)
    return PairPlan(pair=pair, plan=planned, backups=rows)


def pair_backups(pair: Pair) -> dict[str, Backup]:
    """The rows that retention looks at, by uid, newest first."""
    rows = Backup.objects.of_pair(pair.job.pk, pair.target_id).on_storage().select_related("storage")
    return {backup.uid: backup for backup in rows.order_by("-created_at", "-pk")}


def candidates_of(rows: Sequence[Backup], *, now: datetime) -> list[Candidate]:
    """Copies as the planner sees them, with what protects them."""
    protected = protections_of(rows, now=now)
    return [
        Candidate(
            uid=row.uid,
            created=row.created_at,
            size=row.size,
            verified_at=row.verified_at,
            flaw=row.flaw,
            protections=protected.get(row.pk, ()),
        )
        for row in rows
    ]


def pair_guards(
    *,
    options: Options,
    rows: Iterable[Backup],
    now: datetime,
    minimum_keep: int | None = None,
    last_cleaned: datetime | None = None,
    stops: Sequence[Stop] = (),
) -> Guards:
    """The guards of Options for one pair, whose copies are `rows`."""
    arrived = (row for row in rows if last_cleaned is not None and last_cleaned < row.created_at <= now)
    return Guards(
        minimum_keep=options.minimum_keep if minimum_keep is None else minimum_keep,
        max_share=options.guard_pair_share,
        max_count=options.guard_pair_count,
        max_bytes=options.guard_pair_bytes,
        arrivals=sum(1 for row in arrived if not row.flaw),
        stops=tuple(stops),
    )


def busy_stop(pair: Pair) -> Stop | None:
    """What keeps a pair from being cleaned up while a new copy of it is being made: that one comes first."""
    unsettled = BackupRunTarget.objects.filter(run__job=pair.job, target_id=pair.target_id)
    being_made = unsettled.filter(active=True, status__in=(AttemptStatus.PENDING, AttemptStatus.RUNNING))
    if not being_made.exists():
        return None
    return Stop(kind="busy", text="A new copy is being made right now; the next cleanup follows it.", approvable=False)
