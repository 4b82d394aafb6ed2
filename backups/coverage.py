"""How well targets and jobs are doing, for the pages that show them: a few queries whatever the number of rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Count, Exists, Max, Min, OuterRef, QuerySet, Subquery, Sum

from backups.choices import ON_STORAGE, AttemptStatus
from backups.models import Backup, BackupJob, BackupJobTarget, BackupRun, BackupRunTarget, Options, Target
from backups.querysets import GOOD
from scheduling.cron import ScheduleError, parse_cron
from scheduling.items import ScheduledItem
from scheduling.job_settings import job_id
from scheduling.job_state import JobState, job_states
from scheduling.printable import printable

ENDED_BADLY = (AttemptStatus.FAILED, AttemptStatus.LOST)
SHOWN_TARGETS = 4
NOT_YET = (AttemptStatus.PENDING, AttemptStatus.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Copies:
    """The copies of something that are counted on. `size` in bytes; `newest` and `oldest` are those of good copies."""

    count: int = 0
    size: int = 0
    newest: datetime | None = None
    oldest: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class TargetCover:
    """One target, who backs it up, what there is of it, and the badge that says how it is."""

    target: Target
    jobs: list[BackupJob]
    copies: Copies
    attempt: BackupRunTarget | None
    status: str
    word: str

    @property
    def shown_paths(self) -> str:
        """Its first path, and how many more there are."""
        first, *more = [printable(path) for path in self.target.paths] or ["no path"]
        return f"{first} and {len(more)} more" if more else first


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """One job with its newest run, its next start and what holds it back."""

    job: BackupJob
    targets: list[Target] = field(default_factory=list)
    run: BackupRun | None = None
    next_at: datetime | None = None
    state: JobState

    @property
    def shown_targets(self) -> str:
        """The names of its first targets, and how many more there are."""
        names = [target.name for target in self.targets]
        more = len(names) - SHOWN_TARGETS
        return ", ".join(names[:SHOWN_TARGETS]) + (f" and {more} more" if more > 0 else "") if names else "no target"


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """One target of a job, or one that was, with its copies there."""

    target_id: int | None
    target_name: str
    copies: Copies
    is_current: bool


def targets_unprotected() -> QuerySet[Target]:
    """Targets that no enabled schedule backs up."""
    jobs = BackupJobTarget.objects.filter(target=OuterRef("pk"), job__enabled=True).exclude(job__schedule="")
    return Target.objects.filter(~Exists(jobs))


def targets_without_copy() -> QuerySet[Target]:
    """Targets of which there is no good copy."""
    return Target.objects.filter(~Exists(Backup.objects.filter(GOOD, target=OuterRef("pk"))))


def targets_cover(targets: Sequence[Target], *, now: datetime) -> list[TargetCover]:
    """How each target is doing at `now`, in the order given."""
    pks = [target.pk for target in targets]
    copies = copies_by("target_id", Backup.objects.filter(target_id__in=pks))
    jobs: dict[int, list[BackupJob]] = defaultdict(list)
    links = BackupJobTarget.objects.filter(target_id__in=pks).select_related("job", "job__storage")
    for link in links.order_by("job__name"):
        jobs[link.target_id].append(link.job)
    attempts = _last_attempts(pks)
    zone = Options.load().timezone
    covers = []
    for target in targets:
        of_target, attempt = copies.get(target.pk, Copies()), attempts.get(target.pk)
        status, word = _state(jobs[target.pk], of_target, attempt, zone, now)
        covers.append(
            TargetCover(
                target=target,
                jobs=jobs[target.pk],
                copies=of_target,
                attempt=attempt,
                status=status,
                word=word,
            )
        )
    return covers


def job_rows(jobs: Iterable[BackupJob], *, now: datetime) -> list[JobRow]:
    """Jobs with their targets, newest run and next start after `now`, in the order given."""
    listed = list(jobs)
    pks = [job.pk for job in listed]
    targets: dict[int, list[Target]] = defaultdict(list)
    for link in BackupJobTarget.objects.filter(job_id__in=pks).select_related("target").order_by("target__name"):
        targets[link.job_id].append(link.target)
    newest = BackupRun.objects.filter(job=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    with_last = BackupJob.objects.filter(pk__in=pks).order_by().annotate(last=Subquery(newest))
    last = dict(with_last.values_list("pk", "last"))
    runs = BackupRun.objects.in_bulk([pk for pk in last.values() if pk is not None])
    zone = Options.load().timezone
    states = job_states([(job, item_of(job, zone)) for job in listed], now=now)
    rows = []
    for job in listed:
        state = states[job_id(job)]
        run = runs.get(last.get(job.pk, 0))
        rows.append(JobRow(job=job, targets=targets[job.pk], run=run, next_at=state.next_at, state=state))
    return rows


def job_pairs(job: BackupJob) -> list[PairRow]:
    """The job's targets by name with their copies, then former targets of which it still has copies."""
    rows = Backup.objects.filter(job=job)
    copies = copies_by("target_id", rows.filter(target__isnull=False))
    current = {target.pk: target.name for target in job.targets.order_by("name")}
    former = Target.objects.filter(pk__in=copies.keys() - current.keys()).order_by("name").values_list("pk", "name")
    deleted = copies_by("target_name", rows.filter(target__isnull=True))
    return [
        *(_pair(pk, name, copies.get(pk), is_current=True) for pk, name in current.items()),
        *(_pair(pk, name, copies.get(pk), is_current=False) for pk, name in former),
        *(_pair(None, name, found, is_current=False) for name, found in sorted(deleted.items())),
    ]


def copies_by(key: str, backups: QuerySet[Backup]) -> dict[Any, Copies]:
    """The copies on storage among `backups`, summed up by the column `key`."""
    figures = (
        backups.filter(state__in=ON_STORAGE)
        .order_by()
        .values(key)
        .annotate(
            count=Count("pk"),
            total=Sum("size"),
            newest=Max("created_at", filter=GOOD),
            oldest=Min("created_at", filter=GOOD),
        )
    )
    return {
        row[key]: Copies(count=row["count"], size=row["total"] or 0, newest=row["newest"], oldest=row["oldest"])
        for row in figures
    }


def item_of(job: BackupJob, default_zone: str) -> ScheduledItem:
    """The job as the scheduler sees it, without a query for the default time zone."""
    return ScheduledItem(
        kind=BackupRun.KIND,
        job_id=job.pk,
        name=job.name,
        schedule=job.schedule,
        timezone=job.timezone or default_zone,
        enabled=job.enabled,
    )


def is_late(job: BackupJob, newest: datetime, *, default_zone: str, now: datetime) -> bool:
    """Whether the job's schedule has come round twice since the `newest` copy."""
    item = item_of(job, default_zone)
    if not item.is_scheduled:
        return False
    try:
        _, second = parse_cron(item.schedule).next_fires(newest, item.timezone, 2)
    except ScheduleError:
        return False
    return second < now


def _pair(target_id: int | None, name: str, copies: Copies | None, *, is_current: bool) -> PairRow:
    return PairRow(target_id=target_id, target_name=name, copies=copies or Copies(), is_current=is_current)


def _last_attempts(target_ids: list[int]) -> dict[int, BackupRunTarget]:
    newest = BackupRunTarget.objects.filter(target=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    last = Target.objects.filter(pk__in=target_ids).order_by().annotate(last=Subquery(newest)).values_list("pk", "last")
    attempts = BackupRunTarget.objects.select_related("run").in_bulk([pk for _, pk in last if pk is not None])
    return {target: attempts[pk] for target, pk in last if pk in attempts}


def _state(
    jobs: list[BackupJob], copies: Copies, attempt: BackupRunTarget | None, zone: str, now: datetime
) -> tuple[str, str]:
    if attempt is not None and attempt.status in NOT_YET:
        return "running", "Running now"
    if attempt is not None and attempt.status in ENDED_BADLY:
        return "failed", "Last backup failed"
    if not jobs:
        return "disabled", "No job"
    if copies.newest is None:
        return "warning", "Never backed up"
    scheduled = [job for job in jobs if job.enabled and job.schedule]
    if not scheduled:
        return "disabled", "Not scheduled"
    if any(is_late(job, copies.newest, default_zone=zone, now=now) for job in scheduled):
        return "warning", "Late"
    return "succeeded", "Protected"
