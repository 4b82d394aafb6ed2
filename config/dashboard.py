"""What the first page says: what needs someone first, then how things stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Count, Exists, Max, OuterRef, Q, Subquery, Sum

from backups.models import Backup, BackupJob, BackupRun, Options, Target
from config import attention as trouble
from config.attention import LISTED, Attention
from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling.heartbeat import Heartbeat
from scheduling.items import ScheduledItem
from scheduling.job_state import soonest_starts
from scheduling.models import Pause, Run
from scheduling.registry import all_kinds

NEXT_RUNS = 5
LAST_RUNS = 8
LAST_FAILURES = 5


@dataclass(frozen=True, kw_only=True)
class NextRun:
    """A job's next run; `at` is in the zone of its schedule."""

    name: str
    kind: str
    url: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """`heading` is the answer to “is everything all right?”: it says so only when nothing is in `attention`."""

    is_new: bool
    attention: list[Attention]
    attention_count: int
    targets: int
    protected: int
    copies: int
    stored_bytes: int
    last_backup: datetime | None
    stalest: Target | None
    next_runs: list[NextRun]
    last_runs: list[Run]
    failures: list[Run]

    @property
    def heading(self) -> str:
        if self.is_new:
            return "Nothing is protected yet"
        if self.attention_count == 1:
            return self.attention[0].title
        if self.attention_count:
            return f"{self.attention_count} things need you"
        return "The one target is protected" if self.targets == 1 else f"All {self.targets} targets are protected"

    @property
    def has_open(self) -> bool:
        return any(run.is_open for run in self.last_runs)


def dashboard(*, user: User | AnonymousUser, heartbeat: Heartbeat, now: datetime) -> Dashboard:
    """Everything on the first page, in a fixed number of queries. On each storage's disk two small files are read."""
    jobs, maintenance_jobs = list(BackupJob.objects.all()), list(MaintenanceJob.objects.all())
    targets, bare = Target.objects.count(), _bare_targets()
    bare_count = len(bare) if len(bare) <= LISTED else Target.objects.filter(_without_good_copy()).count()
    options = Options.load()
    attention = [
        *trouble.scheduler_down(heartbeat, jobs),
        *trouble.queues_unserved(now),
        *trouble.clock_jumped(may_confirm=user.has_perm("maintenance.approve_cleanupplan")),
        *trouble.undecided_plans(),
        *trouble.failed_last(BackupRun, jobs),
        *trouble.failed_last(MaintenanceRun, maintenance_jobs),
        *trouble.storages(may_change=user.has_perm("backups.change_storage")),
        *trouble.cleanup_missed(maintenance_jobs, jobs, options, now),
        *trouble.cleanup_freed_nothing(),
        *trouble.trash_overdue(maintenance_jobs, options, now),
        *(trouble.unprotected(target) for target in bare[:LISTED]),
        *trouble.faulty_copies(),
        *trouble.no_rule(options, jobs, may_change=user.has_perm("backups.change_options")),
    ]
    copies = Backup.objects.good().aggregate(count=Count("pk"), size=Sum("size"), newest=Max("created_at"))
    runs = _runs(user)
    return Dashboard(
        is_new=not targets and not jobs,
        attention=attention[:LISTED],
        attention_count=len(attention) + max(0, bare_count - LISTED),
        targets=targets,
        protected=targets - bare_count,
        copies=copies["count"],
        stored_bytes=copies["size"] or 0,
        last_backup=copies["newest"],
        stalest=_stalest(),
        next_runs=_next_runs(jobs, maintenance_jobs, options.timezone, heartbeat.pause, now),
        last_runs=runs["last"],
        failures=runs["failing"],
    )


def _without_good_copy() -> Q:
    return ~Q(Exists(Backup.objects.good().filter(target=OuterRef("pk"))))


def _bare_targets() -> list[Target]:
    """Targets that no good copy exists of, in a job or not; one more than are listed, to tell when there are more."""
    named = BackupJob.targets.through.objects.filter(target=OuterRef("pk"))
    rows = Target.objects.filter(_without_good_copy()).annotate(has_job=Exists(named)).order_by("name")
    return list(rows[: LISTED + 1])


def _stalest() -> Target | None:
    """The target whose newest good copy is the oldest, with that copy's time as `newest`."""
    newest = Backup.objects.good().filter(target=OuterRef("pk")).order_by("-created_at").values("created_at")[:1]
    return Target.objects.annotate(newest=Subquery(newest)).filter(newest__isnull=False).order_by("newest").first()


def _next_runs(
    jobs: list[BackupJob], maintenance_jobs: list[MaintenanceJob], zone: str, pause: Pause | None, now: datetime
) -> list[NextRun]:
    names: dict[str, tuple[str, str]] = {}
    items: list[tuple[BackupJob | MaintenanceJob, ScheduledItem]] = []
    for job in jobs:
        job.timezone = job.timezone or zone
        items.append((job, ScheduledItem.from_backup_job(job)))
        names[items[-1][1].id] = (job.name, job.get_absolute_url())
    for task in maintenance_jobs:
        task.timezone = task.timezone or zone
        items.append((task, ScheduledItem.from_maintenance_job(task)))
        names[items[-1][1].id] = (task.name, task.get_absolute_url())
    return [
        NextRun(name=names[entry.item.id][0], kind=entry.item.kind, url=names[entry.item.id][1], at=entry.at)
        for entry in soonest_starts(items, now=now, pause=pause, count=NEXT_RUNS)
    ]


def _runs(user: User | AnonymousUser) -> dict[str, list[Run]]:
    """The last runs and the last failing ones, of the kinds that the user may see."""
    found: dict[str, list[Run]] = {"last": [], "failing": []}
    for kind in all_kinds():
        if not user.has_perm(kind.view_permission):
            continue
        model: Any = kind.run_model
        rows = model.objects.defer("result_json", "params")
        found["last"] += rows.newest_first()[:LAST_RUNS]
        found["failing"] += rows.failing().newest_first()[:LAST_FAILURES]
    for name, limit in (("last", LAST_RUNS), ("failing", LAST_FAILURES)):
        found[name] = sorted(found[name], key=lambda run: run.queued_at, reverse=True)[:limit]
    return found
