"""What needs someone: one function for each kind of trouble, each with the same few queries however much there is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.db.models import Count, Exists, Max, OuterRef, Q, Subquery, Sum
from django.urls import reverse

from backups.choices import BackupState
from backups.models import Backup, BackupJob, Hold, Options, Storage, Target
from backups.services.epochs import old_database_text
from backups.storage import StorageError
from backups.storage.epoch import read_epoch
from backups.storage.names import SENTINEL
from maintenance.approvals import plans_waiting
from maintenance.choices import JobType
from maintenance.models import CleanupPlanPair, MaintenanceJob, MaintenanceRun
from maintenance.services import PURGE_TRASH
from scheduling import host_overview
from scheduling.choices import FAILING, RunOutcome, RunStatus
from scheduling.cron import ScheduleError, parse_cron
from scheduling.engine.delivery import DEFAULT_QUEUE
from scheduling.heartbeat import Heartbeat
from scheduling.units import binary_size, counted
from scheduling.wall_clock import clock_state

LISTED = 20
# The trash is emptied once a day: what is still there a day after its time was not removed when it should have been.
TRASH_PATIENCE = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One thing that needs someone: what is wrong, and the page where it is put right."""

    level: str
    title: str
    text: str
    url: str
    action: str


def scheduler_down(heartbeat: Heartbeat, jobs: list[BackupJob]) -> list[Attention]:
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


def queues_unserved(now: datetime) -> list[Attention]:
    """Queues whose runs wait for a worker; without a scheduler that of the default queue is its own entry."""
    return [
        Attention(
            level="warning",
            title=f"No worker works the queue {queue.name}",
            text=f"{counted(queue.waiting, 'run')} {'waits' if queue.waiting == 1 else 'wait'} for one. "
            f"On the host that should work it: {queue.command}",
            url=reverse("scheduling:host_list"),
            action="See the hosts",
        )
        for queue in host_overview.queues_unserved(now)
        if queue.name != DEFAULT_QUEUE
    ]


def failed_last(model: Any, jobs: list[Any]) -> list[Attention]:
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


def unprotected(target: Target) -> Attention:
    has_job = bool(getattr(target, "has_job", False))
    return Attention(
        level="warning",
        title=f"{target.name} has never been backed up" if has_job else f"{target.name} is in no backup job",
        text="Run its job now, or wait for its schedule." if has_job else "Nothing backs it up. Add it to a job.",
        url=target.get_absolute_url(),
        action="Open the target",
    )


def clock_jumped(*, may_confirm: bool) -> list[Attention]:
    jump = clock_state()
    if jump is None:
        return []
    return [
        Attention(
            level="needs_approval",
            title="The clock jumped, so nothing is deleted",
            text=f"{jump.text} " + ("" if may_confirm else "An administrator can say that it is right."),
            url=reverse("maintenance:clock_confirm") if may_confirm else reverse("scheduling:run_list"),
            action="Look at the clock" if may_confirm else "See the runs",
        )
    ]


def undecided_plans() -> list[Attention]:
    """One entry for each cleanup that a guard stopped, and that nobody has decided about."""
    found = []
    waiting = list(plans_waiting()[: LISTED + 1])
    pairs = CleanupPlanPair.objects.filter(plan__in=[plan.pk for plan in waiting]).defer("packed", "policy")
    stopped: dict[int, list[CleanupPlanPair]] = {}
    for pair in pairs:
        if pair.stops:
            stopped.setdefault(pair.plan_id, []).append(pair)
    for plan in waiting:
        mine = stopped.get(plan.pk, [])
        count = sum(pair.deleting - pair.moved for pair in mine)
        first = f"{mine[0].label}: {mine[0].stops[0]['text']}" if mine else "A guard stopped it."
        more = f" And {counted(len(mine) - 1, 'more target')}." if len(mine) > 1 else ""
        found.append(
            Attention(
                level="needs_approval",
                title=f"{counted(count, 'deletion')} {'waits' if count == 1 else 'wait'} for a decision",
                text=f"{first}{more}",
                url=reverse("maintenance:plan_detail", kwargs={"uid": plan.uid}),
                action="Look and decide",
            )
        )
    return found


def storages(*, may_change: bool) -> list[Attention]:
    """Storages that cannot be used, and those that have seen what the database has not."""
    found = []
    for storage in Storage.objects.all():
        # Two small files: a page must not wait for a disk to spin up and be read.
        try:
            present = (Path(storage.path) / SENTINEL).is_file()
            lead = _lead(storage) if present else 0
        except OSError:
            present, lead = False, 0
        except StorageError as error:
            found.append(_storage_attention(storage, "cannot be cleaned up", str(error)))
            continue
        if not present:
            text = f"{storage.path} does not hold its marker file. Check that the disk is mounted."
            found.append(_storage_attention(storage, "cannot be used", text))
        elif lead:
            found.append(
                Attention(
                    level="needs_approval",
                    title=f"The storage {storage.name} is ahead of the database",
                    text=f"Nothing in it is deleted for now. {old_database_text(storage.name, lead)}",
                    url=reverse("backups:storage_reconcile", args=[storage.pk])
                    if may_change
                    else storage.get_absolute_url(),
                    action="Compare them" if may_change else "Open the storage",
                )
            )
    return found


def _storage_attention(storage: Storage, what: str, text: str) -> Attention:
    return Attention(
        level="error",
        title=f"The storage {storage.name} {what}",
        text=text,
        url=storage.get_absolute_url(),
        action="Open the storage",
    )


def _lead(storage: Storage) -> int:
    """By how many changes the storage is ahead of its row; looks at the row again before it says so."""
    root = os.open(storage.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        kept = read_epoch(root, uid=storage.uid, label=f"Storage {storage.name}", path=Path(storage.path))
    finally:
        os.close(root)
    if kept <= storage.epoch:
        return 0
    # A cleanup may have raised both since the row was read.
    return max(0, kept - Storage.objects.values_list("epoch", flat=True).get(pk=storage.pk))


def cleanup_missed(
    maintenance_jobs: list[MaintenanceJob], jobs: list[BackupJob], options: Options, now: datetime
) -> list[Attention]:
    """A cleanup whose schedule came round twice without a run, or rules that nothing ever applies."""
    cleanups = [job for job in maintenance_jobs if job.job_type == JobType.RETENTION_CLEANUP]
    scheduled = [job for job in cleanups if job.enabled and job.schedule_cron]
    counting = ~Q(status__in=(RunStatus.SKIPPED, RunStatus.CANCELLED))
    last = dict(
        MaintenanceRun.objects.filter(counting, job__in=[job.pk for job in scheduled])
        .order_by()
        .values_list("job")
        .annotate(Max("queued_at"))
    )
    found = []
    for job in scheduled:
        # Whoever has just changed the schedule has not missed a run of it.
        since = max(last.get(job.pk, job.updated_at), job.updated_at)
        if _came_round_twice(job, since, options.timezone, now):
            found.append(
                Attention(
                    level="warning",
                    title=f"{job.name} did not run",
                    text="Its schedule has come round twice since its last run, so copies may pile up. "
                    "Check that the scheduler is running.",
                    url=reverse("maintenance:job_list"),
                    action="See its runs",
                )
            )
    if not scheduled and cleanups and _has_rules(options, jobs):
        found.append(
            Attention(
                level="warning",
                title="No cleanup is scheduled",
                text="There are retention rules, and nothing applies them: the nightly cleanup is switched off.",
                url=reverse("maintenance:job_list"),
                action="Switch it on",
            )
        )
    return found


def _came_round_twice(job: MaintenanceJob, since: datetime, zone: str, now: datetime) -> bool:
    try:
        _, second = parse_cron(job.schedule_cron).next_fires(since, job.timezone or zone, 2)
    except ScheduleError:
        return False
    return second < now


def _has_rules(options: Options, jobs: list[BackupJob]) -> bool:
    policies = [options.retention, *(job.retention for job in jobs if job.retention is not None)]
    return any(rule != "timezone" and value for policy in policies for rule, value in policy.items())


def cleanup_freed_nothing() -> list[Attention]:
    """The last cleanup, when it went through to its end, wanted to delete and moved nothing."""
    last = (
        MaintenanceRun.objects.filter(
            job_type=JobType.RETENTION_CLEANUP, status__in=(RunStatus.SUCCEEDED, *FAILING), plans__isnull=False
        )
        .defer("result_json", "params")
        .newest_first()
        .first()
    )
    if last is None or last.status != RunStatus.SUCCEEDED or last.outcome == RunOutcome.NEEDS_APPROVAL:
        return []
    sums = CleanupPlanPair.objects.filter(plan__run=last).aggregate(wanted=Sum("deleting"), moved=Sum("moved"))
    if not sums["wanted"] or sums["moved"]:
        return []
    return [
        Attention(
            level="warning",
            title="The last cleanup freed nothing",
            text=f"It was to move {sums['wanted']:,} to the trash and moved none. {last.message}",
            url=last.get_absolute_url(),
            action="See why",
        )
    ]


def trash_overdue(maintenance_jobs: list[MaintenanceJob], options: Options, now: datetime) -> list[Attention]:
    """Copies that should have been removed from the trash a day ago, and that nothing protects."""
    before = now - timedelta(hours=options.trash_hours) - TRASH_PATIENCE
    pinned = Q(pinned_at__isnull=False) & (Q(pin_until__isnull=True) | Q(pin_until__gt=now))
    holds = Hold.objects.in_force(now).filter(
        Q(job__isnull=True) | Q(job=OuterRef("job")),
        Q(target__isnull=True) | Q(target=OuterRef("target")),
        Q(storage__isnull=True) | Q(storage=OuterRef("storage")),
    )
    due = Backup.objects.trashed().filter(~pinned, ~Exists(holds), trashed_at__lte=before)
    found = due.aggregate(count=Count("pk"), size=Sum("size"))
    if not found["count"]:
        return []
    purge = next((job for job in maintenance_jobs if job.key == PURGE_TRASH), None)
    off = purge is None or not purge.enabled or not purge.schedule_cron
    name = purge.name if purge else "Empty the trash"
    why = (
        f"The job “{name}” is switched off." if off else f"The job “{name}” did not remove them: look at its last run."
    )
    return [
        Attention(
            level="warning",
            title=f"{found['count']:,} {'copy is' if found['count'] == 1 else 'copies are'} overdue in the trash",
            text=f"{binary_size(found['size'] or 0)} should have been freed by now. The job “{name}” {why}",
            url=reverse("maintenance:job_list"),
            action="See the jobs",
        )
    ]


def faulty_copies() -> list[Attention]:
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


def no_rule(options: Options, jobs: list[BackupJob], *, may_change: bool) -> list[Attention]:
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
