"""What the first page says: what needs someone first, then how things stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Count, Exists, Max, OuterRef, Q, Subquery, Sum
from django.urls import reverse

from backups.choices import BackupState
from backups.models import Backup, BackupJob, BackupRun, Options, Storage, Target
from backups.storage.names import SENTINEL
from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling.choices import FAILING, RunStatus
from scheduling.heartbeat import Heartbeat
from scheduling.items import ScheduledItem
from scheduling.models import Run
from scheduling.registry import all_kinds
from scheduling.upcoming import upcoming

LISTED = 20
NEXT_RUNS = 5
LAST_RUNS = 8
LAST_FAILURES = 5


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One thing that needs someone: what is wrong, and the page where it is put right."""

    level: str
    title: str
    text: str
    url: str
    action: str


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
    """Everything on the first page, in a fixed number of queries. On each storage's disk one file is looked at."""
    jobs, maintenance_jobs = list(BackupJob.objects.all()), list(MaintenanceJob.objects.all())
    targets, bare = Target.objects.count(), _bare_targets()
    bare_count = len(bare) if len(bare) <= LISTED else Target.objects.filter(_without_good_copy()).count()
    options = Options.load()
    attention = [
        *_scheduler_down(heartbeat, jobs),
        *_failed_last(BackupRun, jobs),
        *_failed_last(MaintenanceRun, maintenance_jobs),
        *_closed_storages(),
        *(_unprotected(target) for target in bare[:LISTED]),
        *_faulty_copies(),
        *_no_rule(options, jobs, may_change=user.has_perm("backups.change_options")),
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
        next_runs=_next_runs(jobs, maintenance_jobs, options.timezone, now),
        last_runs=runs["last"],
        failures=runs["failing"],
    )


def _scheduler_down(heartbeat: Heartbeat, jobs: list[BackupJob]) -> list[Attention]:
    if heartbeat.alive or not jobs:
        return []
    return [
        Attention(
            level="error",
            title="The scheduler is not running",
            text="Nothing is backed up or cleaned up until it does. Start it with “make run”.",
            url=reverse("scheduling:run_list"),
            action="See the runs",
        )
    ]


def _failed_last(model: Any, jobs: list[Any]) -> list[Attention]:
    """One entry for each job whose last run that came to an end by itself failed or was lost."""
    ended = (RunStatus.SUCCEEDED, *FAILING)
    last = model.objects.filter(job=OuterRef("pk"), status__in=ended).order_by("-queued_at", "-pk").values("pk")[:1]
    owner = type(jobs[0]) if jobs else None
    if owner is None:
        return []
    ids = owner._default_manager.annotate(last_run=Subquery(last)).values("last_run")
    failed = model.objects.filter(pk__in=ids, status__in=FAILING).defer("result_json", "params").newest_first()
    return [
        Attention(
            level=str(run.status),
            title=f"{run.job_name} {'failed' if run.status == RunStatus.FAILED else 'was lost'}",
            text=run.message,
            url=run.get_absolute_url(),
            action="See what happened",
        )
        for run in failed[: LISTED + 1]
    ]


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


def _unprotected(target: Target) -> Attention:
    has_job = bool(getattr(target, "has_job", False))
    return Attention(
        level="warning",
        title=f"{target.name} has never been backed up" if has_job else f"{target.name} is in no backup job",
        text="Run its job now, or wait for its schedule." if has_job else "Nothing backs it up. Add it to a job.",
        url=target.get_absolute_url(),
        action="Open the target",
    )


def _closed_storages() -> list[Attention]:
    found = []
    for storage in Storage.objects.all():
        # One look at one file: a page must not wait for a disk to spin up and be read.
        try:
            present = (Path(storage.path) / SENTINEL).is_file()
        except OSError:
            present = False
        if not present:
            found.append(
                Attention(
                    level="error",
                    title=f"The storage {storage.name} cannot be used",
                    text=f"{storage.path} does not hold its marker file. Check that the disk is mounted.",
                    url=storage.get_absolute_url(),
                    action="Open the storage",
                )
            )
    return found


def _faulty_copies() -> list[Attention]:
    """One entry for each kind of fault that copies have."""
    faulty = (
        ("missing", Q(state=BackupState.MISSING), "not where the catalogue says"),
        ("quarantined", Q(state=BackupState.QUARANTINED), "no longer what was written"),
        (
            "suspect",
            Q(state=BackupState.AVAILABLE, accepted_at__isnull=True) & ~Q(suspect_reason=""),
            "suspiciously small",
        ),
    )
    counts = Backup.objects.aggregate(**{name: Count("pk", filter=condition) for name, condition, _ in faulty})
    return [
        Attention(
            level=name,
            title=f"{counts[name]} {'copy is' if counts[name] == 1 else 'copies are'} {what}",
            text="Such copies do not count as good: retention keeps them and relies on others.",
            url=f"{reverse('backups:backup_list')}?state={name}",
            action="See which",
        )
        for name, _, what in faulty
        if counts[name]
    ]


def _no_rule(options: Options, jobs: list[BackupJob], *, may_change: bool) -> list[Attention]:
    rules = {rule for rule in options.retention if rule != "timezone"}
    if rules or not any(job.retention is None for job in jobs):
        return []
    return [
        Attention(
            level="info",
            title="No retention rule is set",
            text="Every copy is kept until its storage is full. "
            + ("Say how many copies to keep." if may_change else "An administrator can say how many to keep."),
            url=reverse("maintenance:options_edit"),
            action="Set rules in Options" if may_change else "See Options",
        )
    ]


def _next_runs(
    jobs: list[BackupJob], maintenance_jobs: list[MaintenanceJob], zone: str, now: datetime
) -> list[NextRun]:
    names: dict[str, tuple[str, str]] = {}
    items = []
    for job in jobs:
        job.timezone = job.timezone or zone
        items.append(ScheduledItem.from_backup_job(job))
        names[items[-1].id] = (job.name, job.get_absolute_url())
    for task in maintenance_jobs:
        task.timezone = task.timezone or zone
        items.append(ScheduledItem.from_maintenance_job(task))
        names[items[-1].id] = (task.name, reverse("maintenance:job_list"))
    return [
        NextRun(name=names[entry.item.id][0], kind=entry.item.kind, url=names[entry.item.id][1], at=entry.at)
        for entry in upcoming(items, now, NEXT_RUNS)
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
