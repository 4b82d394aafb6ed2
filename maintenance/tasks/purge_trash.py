"""Emptying the trash: remove for good what has been in a storage's trash for long enough."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import batched, groupby
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from backups.models import Backup, Options
from backups.services.audit import Authority
from backups.services.epochs import OldDatabaseError
from backups.services.moved import BATCH
from backups.services.purge import backups_purge
from backups.storage import StorageError
from maintenance.retention_plans import Storages
from scheduling.choices import RunOutcome
from scheduling.context import RunContext, RunResult, RunStoppedError
from scheduling.fencing import RunFence
from scheduling.wall_clock import ClockWatch, clock_jump, clock_state

if TYPE_CHECKING:
    from backups.querysets import BackupQuerySet
    from maintenance.models import MaintenanceRun

MAX_LISTED = 1000


@dataclass(kw_only=True)
class Tally:
    """What has been purged so far; `figures` is what the run stores. Sizes in bytes."""

    purged: list[tuple[str, int]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left_alone: int = 0
    waiting_count: int = 0
    waiting_bytes: int = 0
    stops: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, Any]:
        return {
            "purged_count": len(self.purged),
            "freed_bytes": sum(size for _, size in self.purged),
            "purged_paths": [path for path, _ in self.purged[:MAX_LISTED]],
            "failed_count": len(self.failed),
            "failed_paths": self.failed[:MAX_LISTED],
            "left_alone_count": self.left_alone,
            "waiting_count": self.waiting_count,
            "waiting_bytes": self.waiting_bytes,
            "stops": self.stops,
            "problems": self.problems[:MAX_LISTED],
        }

    def stop(self, kind: str, text: str) -> None:
        self.stops.append({"kind": kind, "text": text, "approvable": False, "pair": ""})


def perform(run: MaintenanceRun, context: RunContext) -> RunResult:
    """Purge what is due, storage by storage; nothing after the clock jumped, until someone says that it is right."""
    watch = ClockWatch()
    options, now, tally = Options.load(), context.now(), Tally()
    before = now - timedelta(hours=options.trash_hours)
    waiting = Backup.objects.trashed().filter(trashed_at__gt=before)
    tally.waiting_count = waiting.count()
    tally.waiting_bytes = sum(waiting.values_list("size", flat=True))
    jump = clock_jump()
    if jump is not None and trash_due(before).exists():
        tally.stop("clock", jump.text)
        context.warning(f"Nothing was purged. {jump.text}")
        return _result(tally, options)
    fence = RunFence(context=context)
    due = trash_due(before)
    sizes = list(due.order_by().values_list("size", flat=True))
    if sizes:
        context.progress.update(
            step="Emptying the trash", items=0, items_total=len(sizes), bytes=0, bytes_total=sum(sizes)
        )
    authority = Authority(actor=run.requested_by or f"{run.job_name} (schedule)", run=f"{run.kind}:{run.pk}")
    try:
        with ExitStack() as stack:
            storages = Storages(stack)
            for _, group in groupby(due, key=lambda backup: backup.storage_id):
                for some in batched(group, BATCH):
                    context.checkpoint()
                    if watch.jumped():
                        jump = clock_jump()
                        tally.stop("clock", jump.text if jump else "The clock jumped while the trash was emptied.")
                        return _result(tally, options)
                    if not _purge(list(some), storages, before, authority, fence, tally):
                        break
    except RunStoppedError:
        raise RunStoppedError(tally.figures, done=_stopped_midway(tally, len(sizes))) from None
    result = _result(tally, options)
    context.info(result.message)
    return result


def preview(_run: MaintenanceRun) -> RunResult:
    """What `perform` would remove now; nothing is changed."""
    options, tally = Options.load(), Tally()
    before = timezone.now() - timedelta(hours=options.trash_hours)
    tally.purged = [(backup.shown_path, backup.size) for backup in trash_due(before)]
    if tally.purged and (jump := clock_state()) is not None:
        tally.stop("clock", jump.text)
    return _result(tally, options, would=True)


def trash_due(before: datetime) -> BackupQuerySet:
    """What has been in the trash since before then, storage by storage, longest first."""
    due = Backup.objects.trashed().filter(trashed_at__lte=before)
    return due.select_related("storage").order_by("storage", "trashed_at", "pk")


def _purge(
    some: list[Backup],
    storages: Storages,
    before: datetime,
    authority: Authority,
    fence: RunFence,
    tally: Tally,
) -> bool:
    """Purge some copies of one storage; False when the storage lets nothing be purged."""
    storage, context = some[0].storage, fence.context
    try:
        result = backups_purge(
            backups=some,
            storage=storages.open(storage),
            trashed_before=before,
            authority=authority,
            holder=context.run.holder,
            now=context.now(),
            fence=fence,
        )
    except OldDatabaseError as behind:
        tally.stop("epoch", str(behind))
        context.warning(f"Nothing of {storage.name} was purged. {behind}")
        return False
    except StorageError as problem:
        context.error(f"Nothing more of {storage.name} was purged. {problem}")
        tally.failed.append(storage.name)
        tally.problems.append(str(problem))
        return False
    context.progress.add(items=len(some), bytes=sum(backup.size for backup in some))
    for backup in result.done:
        tally.purged.append((backup.shown_path, backup.size))
        context.info(f"{backup.shown_path} purged: it was moved to the trash at {backup.trashed_at:%Y-%m-%d %H:%M}.")
    for _, why in result.left:
        tally.left_alone += 1
        context.info(why)
    for backup, error in result.failed:
        tally.failed.append(backup.shown_path)
        tally.problems.append(f"{backup.shown_path}: {error}")
        context.error(f"{backup.shown_path} was not purged: {error}")
    return True


def _stopped_midway(tally: Tally, due: int) -> str:
    return (
        f"{len(tally.purged)} of {due} had been removed for good until then; the others are in the trash as they were."
    )


def _result(tally: Tally, options: Options, *, would: bool = False) -> RunResult:
    figures = tally.figures
    if tally.problems:
        first = tally.problems[0]
        return RunResult(message=f"Not everything could be purged. {first}", figures=figures, failed=True)
    verb = "would be removed for good" if would else "removed for good"
    message = f"{len(tally.purged)} {verb}"
    if tally.waiting_count:
        message += f", {tally.waiting_count} still within their {options.trash_hours} h"
    if tally.left_alone:
        message += f", {tally.left_alone} protected or brought back"
    message += "."
    if tally.stops:
        message += f" {tally.stops[0]['text']}"
    outcome = RunOutcome.NEEDS_APPROVAL if tally.stops else RunOutcome.OK
    return RunResult(message=message, figures=figures, outcome=outcome)
