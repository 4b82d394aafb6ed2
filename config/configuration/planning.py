"""What applying a file would change, entry by entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from backups.models import Backup, BackupJob, BackupRun, Options, Storage, Target
from config.configuration.checking import Wanted
from config.configuration.entries import BACKUP_JOBS, MAINTENANCE_JOBS, OPTION_KEYS, OPTIONS, STORAGES, TARGETS
from config.configuration.existing import Existing
from config.configuration.job_settings import removal_order, settings_stored
from maintenance.models import MaintenanceJob, MaintenanceRun
from maintenance.services import CLEANUP_MANUAL, CLEANUP_NIGHTLY, PURGE_TRASH


class Action(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    KEPT = "kept"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to one entry: `fields` differ, `reason` is why it is kept though the file dropped it."""

    action: Action
    table: str
    name: str
    fields: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A change, the row it is about (None for a new one) and the values wanted."""

    change: Change
    row: Any = None
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the file names, then what it dropped, in the order they are taken. `running` are jobs to be removed that run
    right now.
    """

    wanted: tuple[Step, ...]
    removals: tuple[Step, ...] = ()
    running: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        return (*self.wanted, *self.removals)


def make_plan(wanted: Wanted, existing: Existing, *, prune: bool) -> Plan:
    """Compare what is wanted with what is there; reads only."""
    steps: list[Step] = []
    if wanted.options:
        changed = _differing(wanted.options, _options(existing.options))
        action = Action.UPDATED if changed else Action.UNCHANGED
        change = Change(action=action, table=OPTIONS, name=OPTIONS, fields=changed)
        steps.append(Step(change=change, row=existing.options, values=wanted.options))
    for name, values in wanted.storages.items():
        steps.append(_step(STORAGES, name, values, existing.storages.get(name), _storage))
    for name, values in wanted.targets.items():
        steps.append(_step(TARGETS, name, values, existing.targets.get(name), _target))

    def backup_job(row: BackupJob) -> dict[str, Any]:
        return {**_backup_job(row), **settings_stored(row, existing)}

    def maintenance_job(row: MaintenanceJob) -> dict[str, Any]:
        return {**_maintenance_job(row), **settings_stored(row, existing)}

    for name, values in wanted.backup_jobs.items():
        steps.append(_step(BACKUP_JOBS, name, values, existing.backup_jobs.get(name), backup_job))
    for key, values in wanted.maintenance_jobs.items():
        steps.append(_step(MAINTENANCE_JOBS, key, values, existing.maintenance_jobs.get(key), maintenance_job))
    removals = tuple(_removals(wanted, existing)) if prune else ()
    return Plan(wanted=tuple(steps), removals=removals, running=tuple(_running(removals)))


def _step(table: str, name: str, values: Mapping[str, Any], row: Any, current: Any) -> Step:
    if row is None:
        return Step(change=Change(action=Action.CREATED, table=table, name=name), values=values)
    changed = _differing(values, current(row))
    action = Action.UPDATED if changed else Action.UNCHANGED
    return Step(change=Change(action=action, table=table, name=name, fields=changed), row=row, values=values)


def _differing(wanted: Mapping[str, Any], current: Mapping[str, Any]) -> tuple[str, ...]:
    # `use_existing` is about setting a folder up and is not stored.
    return tuple(key for key, value in wanted.items() if key in current and current[key] != value)


def _options(row: Options) -> dict[str, Any]:
    return {key: getattr(row, key) for key in OPTION_KEYS}


def _storage(row: Storage) -> dict[str, Any]:
    return {"kind": row.kind, "path": row.path}


def _target(row: Target) -> dict[str, Any]:
    return {"source": row.source, "paths": row.paths, "exclude": row.exclude}


def _backup_job(row: BackupJob) -> dict[str, Any]:
    return {
        "targets": sorted(target.name for target in row.targets.all()),
        "storage": row.storage.name,
        "schedule": row.schedule,
        "timezone": row.timezone,
        "enabled": row.enabled,
        "retention": row.retention,
    }


def _maintenance_job(row: MaintenanceJob) -> dict[str, Any]:
    return {
        "name": row.name,
        "schedule": row.schedule_cron,
        "timezone": row.timezone,
        "enabled": row.enabled,
        "visible_in_ui": row.visible_in_ui,
    }


def _removals(wanted: Wanted, existing: Existing) -> Iterator[Step]:
    """Jobs first, then what only they needed. What one of the file's jobs names is named by the file."""
    targets_needed = {name for values in wanted.backup_jobs.values() for name in values["targets"]}
    storages_needed = {values["storage"] for values in wanted.backup_jobs.values()}
    dropped: list[tuple[str, str, BackupJob | MaintenanceJob]] = [
        (BACKUP_JOBS, name, job) for name, job in existing.backup_jobs.items() if name not in wanted.backup_jobs
    ]
    for key, maintenance_job in existing.maintenance_jobs.items():
        if key not in wanted.maintenance_jobs and key not in (CLEANUP_NIGHTLY, CLEANUP_MANUAL, PURGE_TRASH):
            dropped.append((MAINTENANCE_JOBS, key, maintenance_job))
    for table, name, job in sorted(dropped, key=lambda found: -removal_order(found[2], existing)):
        yield _removal(table, name, job)
    for name, target in existing.targets.items():
        if name not in wanted.targets and name not in targets_needed:
            yield _removal(TARGETS, name, target)
    for name, storage in existing.storages.items():
        if name not in wanted.storages and name not in storages_needed:
            count = Backup.objects.filter(storage=storage).count()
            reason = f"the catalogue lists {count:,} backups in it, deleted ones included" if count else ""
            yield _removal(STORAGES, name, storage, reason)


def _removal(table: str, name: str, row: Any, reason: str = "") -> Step:
    action = Action.KEPT if reason else Action.REMOVED
    return Step(change=Change(action=action, table=table, name=name, reason=reason), row=row)


def _running(removals: tuple[Step, ...]) -> Iterator[str]:
    for step in removals:
        match step.row:
            case BackupJob():
                active = BackupRun.objects.filter(job=step.row).active().exists()
            case MaintenanceJob():
                active = MaintenanceRun.objects.filter(job=step.row).active().exists()
            case _:
                active = False
        if active:
            yield step.change.name
