"""Retention cleanup: delete what no rule holds, through the trash, and purge what has been in the trash long enough."""

from __future__ import annotations

import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from backups.models import Backup, Options, Storage
from backups.retention import PolicyError
from backups.services.contents import known_names
from backups.services.retention import Pair, PairPlan, plan_pair, retention_pairs
from backups.services.storages import storage_backend
from backups.services.trash import BackupChangedError, backup_purge, backup_trash
from backups.storage import StorageError
from scheduling.choices import RunOutcome
from scheduling.context import RunContext, RunResult, RunStoppedError
from scheduling.printable import printable

if TYPE_CHECKING:
    from backups.storage import OpenStorage
    from maintenance.models import MaintenanceRun

MAX_LISTED = 1000
MAX_UNKNOWN_LISTED = 100


@dataclass(kw_only=True)
class Tally:
    """What a cleanup has done so far; `figures` is what the run stores."""

    targets_processed: int = 0
    kept_count: int = 0
    deleted: list[tuple[str, int]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left_alone: int = 0
    purged_count: int = 0
    freed_bytes: int = 0
    unknown_files: list[str] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, Any]:
        return {
            "targets_processed": self.targets_processed,
            "deleted_count": len(self.deleted),
            "kept_count": self.kept_count,
            "failed_count": len(self.failed),
            "deleted_paths": [path for path, _ in self.deleted[:MAX_LISTED]],
            "failed_paths": self.failed[:MAX_LISTED],
            "deleted_bytes": sum(size for _, size in self.deleted),
            "freed_bytes": self.freed_bytes,
            "purged_count": self.purged_count,
            "left_alone_count": self.left_alone,
            "unknown_files": self.unknown_files[:MAX_UNKNOWN_LISTED],
            "unknown_count": len(self.unknown_files),
            "pairs": self.pairs,
            "problems": self.problems[:MAX_LISTED],
        }


class Storages:
    """The storages of one cleanup, each opened once, sentinel checked; one that cannot be opened is remembered with
    its reason.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._open: dict[int, OpenStorage] = {}
        self._closed: dict[int, StorageError] = {}

    def open(self, storage: Storage) -> OpenStorage:
        if storage.pk in self._closed:
            raise self._closed[storage.pk]
        if storage.pk not in self._open:
            try:
                self._open[storage.pk] = self._stack.enter_context(storage_backend(storage).open())
            except StorageError as error:
                self._closed[storage.pk] = error
                raise
        # The disk may have gone, or another come, since this cleanup first looked.
        self._open[storage.pk].verify()
        return self._open[storage.pk]


def perform(run: MaintenanceRun, context: RunContext) -> RunResult:
    """Clean up every pair, or the one named in the run's `params`. One pair that fails does not stop the others."""
    options = Options.load()
    now = context.now()
    tally = Tally()
    pairs = _pairs(run)
    try:
        with ExitStack() as stack:
            storages = Storages(stack)
            for pair in pairs:
                context.checkpoint()
                _clean_pair(pair, options, now, run, context, storages, tally)
            if not run.params:
                _purge(options, now, context, storages, tally)
                _report_unknown(context, storages, tally)
    except RunStoppedError:
        raise RunStoppedError(tally.figures) from None
    return _result(tally)


def preview(run: MaintenanceRun) -> RunResult:
    """What `perform` would do now, as the same figures and `deletions` with their reasons.

    Nothing is changed, on disk or in the catalogue.
    """
    options = Options.load()
    now = timezone.now()
    tally = Tally()
    deletions: list[dict[str, Any]] = []
    with ExitStack() as stack:
        storages = Storages(stack)
        for pair in _pairs(run):
            try:
                pair_plan = _plan(pair, options, now)
                for storage in {backup.storage_id: backup.storage for backup in pair_plan.backups.values()}.values():
                    storages.open(storage)
            except (StorageError, PolicyError) as error:
                _fail(tally, pair, str(error))
                continue
            _count(tally, pair_plan)
            tally.deleted += [(backup.shown_path, backup.size) for backup in pair_plan.to_delete]
            deletions += _deletions(pair_plan)
    result = _result(tally, preview=True)
    return replace(result, figures={**result.figures, "deletions": deletions[:MAX_LISTED]})


def _deletions(pair_plan: PairPlan) -> list[dict[str, Any]]:
    """What the plan would delete, each with its reasons; at most `MAX_LISTED`."""
    return [
        {
            "job_id": pair_plan.pair.job.pk,
            "target_id": pair_plan.pair.target_id,
            "uid": verdict.uid,
            "path": pair_plan.backups[verdict.uid].shown_path,
            "size": pair_plan.backups[verdict.uid].size,
            "reasons": [reason.to_mapping() for reason in verdict.reasons],
        }
        for verdict in pair_plan.plan.delete[:MAX_LISTED]
    ]


def _pairs(run: MaintenanceRun) -> list[Pair]:
    return retention_pairs(job_id=run.params.get("job_id"), target_id=run.params.get("target_id"))


def _plan(pair: Pair, options: Options, now: datetime) -> PairPlan:
    return plan_pair(pair=pair, options=options, now=now)


def _clean_pair(
    pair: Pair,
    options: Options,
    now: datetime,
    run: MaintenanceRun,
    context: RunContext,
    storages: Storages,
    tally: Tally,
) -> None:
    try:
        pair_plan = _plan(pair, options, now)
        # Opened before anything is decided: a pair on an unmounted storage is a failure even when its plan deletes
        # nothing.
        for storage in {backup.storage_id: backup.storage for backup in pair_plan.backups.values()}.values():
            storages.open(storage)
        _apply(pair_plan, options, run, context, storages, tally)
    except RunStoppedError:
        raise
    except StorageError as error:
        context.error(f"{pair.label}: {error} Nothing of it was changed.")
        _fail(tally, pair, str(error))
    except PolicyError as error:
        context.error(
            f"{pair.label}: its retention policy cannot be used: {error}. Correct it in the job or in Options."
        )
        _fail(tally, pair, f"its retention policy cannot be used: {error}")
    except Exception as error:  # noqa: BLE001 - one pair's surprise must not keep the others from being cleaned up
        context.error(traceback.format_exc())
        _fail(tally, pair, f"unexpected {type(error).__name__}, see the log")


def _apply(
    pair_plan: PairPlan, options: Options, run: MaintenanceRun, context: RunContext, storages: Storages, tally: Tally
) -> None:
    label, plan = pair_plan.pair.label, pair_plan.plan
    context.info(f"{label}: {len(plan.keep)} kept, {len(plan.delete)} to delete ({plan.policy.describe()}).")
    for note in plan.notes:
        context.info(f"{label}: {note}")
    counted = _count(tally, pair_plan)
    counted["deleted"] = 0
    for verdict in plan.delete:
        context.checkpoint()
        backup = pair_plan.backups[verdict.uid]
        path = backup.shown_path
        try:
            backup_trash(
                backup=backup,
                storage=storages.open(backup.storage),
                minimum_keep=options.minimum_keep,
                verdict=verdict.to_mapping(),
                removed_by=f"{run.kind}:{run.pk}",
                holder=run.holder,
                now=context.now(),
            )
        except BackupChangedError as error:
            # Another cleanup was quicker, or something became known since the plan was made: no failure of this one.
            context.warning(f"{label}: {error}")
            tally.left_alone += 1
            continue
        except (StorageError, ValueError) as error:
            context.error(f"{label}: {path} was not deleted: {error}")
            tally.failed.append(path)
            tally.problems.append(f"{label}: {error}")
            continue
        tally.deleted.append((path, backup.size))
        counted["deleted"] += 1
        context.info(f"{label}: {path} moved to the trash: {verdict.text}")


def _purge(options: Options, now: datetime, context: RunContext, storages: Storages, tally: Tally) -> None:
    before = now - timedelta(hours=options.trash_hours)
    due = Backup.objects.trashed().filter(trashed_at__lte=before).select_related("storage").order_by("trashed_at", "pk")
    for backup in due:
        context.checkpoint()
        path = backup.shown_path
        try:
            backup_purge(
                backup=backup,
                storage=storages.open(backup.storage),
                holder=context.run.holder,
                trashed_before=before,
                now=context.now(),
            )
        except BackupChangedError as error:
            context.warning(str(error))
            tally.left_alone += 1
            continue
        except (StorageError, ValueError) as error:
            context.error(f"{path} was not purged: {error}")
            tally.failed.append(path)
            tally.problems.append(str(error))
            continue
        tally.purged_count += 1
        tally.freed_bytes += backup.size
        context.info(f"{path} purged: it was in the trash for {options.trash_hours} h.")


def _report_unknown(context: RunContext, storages: Storages, tally: Tally) -> None:
    """Say which files lie in a storage that the catalogue does not know. They are never touched."""
    for storage in Storage.objects.all():
        try:
            handle = storages.open(storage)
            for path in handle.unknown_files(known_names(storage)):
                # Anybody's file, so its name may be anything; what cannot be text cannot be stored.
                tally.unknown_files.append(printable(f"{storage.name}: {path}"))
        except StorageError as error:
            context.warning(f"{storage.name} was not looked through for unknown files: {error}")
    for path in tally.unknown_files[:MAX_UNKNOWN_LISTED]:
        context.warning(f"{path} is not in the catalogue. It was left alone.")


def _count(tally: Tally, pair_plan: PairPlan) -> dict[str, Any]:
    """Enter a pair as planned; returns its entry."""
    tally.targets_processed += 1
    tally.kept_count += len(pair_plan.plan.keep)
    tally.notes += [f"{pair_plan.pair.label}: {note}" for note in pair_plan.plan.notes]
    entry = {
        "job": pair_plan.pair.job.name,
        "job_id": pair_plan.pair.job.pk,
        "target": pair_plan.pair.target_name,
        "target_id": pair_plan.pair.target_id,
        "kept": len(pair_plan.plan.keep),
        "deleted": len(pair_plan.plan.delete),
        "policy": pair_plan.plan.policy.to_mapping(),
        "digest": pair_plan.plan.digest,
    }
    tally.pairs.append(entry)
    return entry


def _fail(tally: Tally, pair: Pair, reason: str) -> None:
    if (pair.job.pk, pair.target_id) not in {(entry["job_id"], entry["target_id"]) for entry in tally.pairs}:
        tally.targets_processed += 1
    tally.failed.append(pair.label)
    tally.problems.append(f"{pair.label}: {reason}")


def _result(tally: Tally, *, preview: bool = False) -> RunResult:
    figures = tally.figures
    if tally.problems:
        first = tally.problems[0]
        more = f" ({len(tally.problems) - 1} more, see the log)" if len(tally.problems) > 1 else ""
        return RunResult(message=f"Not everything could be cleaned up. {first}{more}", figures=figures, failed=True)
    if not tally.targets_processed:
        return RunResult(message="There are no backups yet, so there was nothing to clean up.", figures=figures)
    verb = "would be moved to the trash" if preview else "moved to the trash"
    message = f"{len(tally.deleted)} {verb}, {tally.kept_count} kept"
    if tally.purged_count:
        message += f", {tally.purged_count} purged from the trash"
    if tally.left_alone:
        message += f", {tally.left_alone} left alone because they changed meanwhile"
    outcome = RunOutcome.WARNING if tally.unknown_files else RunOutcome.OK
    return RunResult(message=f"{message}.", figures=figures, outcome=outcome)
