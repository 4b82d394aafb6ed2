from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backups.models import BackupJob, Storage, Target
from backups.services.jobs import job_create, job_delete, job_set, job_update
from backups.services.options import options_update
from backups.services.policy_record import policies_recorded
from backups.services.storages import storage_create, storage_delete, storage_update
from backups.services.targets import target_create, target_delete, target_update
from config.configuration.checking import check_document
from config.configuration.entries import BACKUP_JOBS, read_document
from config.configuration.existing import Existing
from config.configuration.folders import undoing_sentinels
from config.configuration.job_settings import run_after_id, settings_values
from config.configuration.planning import Action, Change, Step, make_plan
from config.configuration.problems import Problems
from maintenance import services as maintenance

ACTOR = "manage.py apply"


class ApplyRefusedError(Exception):
    """A guard refused; nothing was written, and the text says how to go on."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What was done, or would be: one change an entry."""

    changes: tuple[Change, ...]

    def of(self, action: Action) -> list[Change]:
        return [change for change in self.changes if change.action == action]

    @property
    def is_change(self) -> bool:
        return any(change.action not in (Action.UNCHANGED, Action.KEPT) for change in self.changes)


def apply_configuration(raw: Mapping[str, Any], *, prune: bool = False, dry_run: bool = False) -> Applied:
    """Make the database say what `raw` says, in one transaction, after everything in it was checked.

    `prune` also removes what it does not name, `dry_run` writes nothing. Raises `ConfigurationError` with all problems,
    and `ApplyRefusedError`; either way nothing was written, storages' sentinel files included.
    """
    problems = Problems()
    if prune and not raw:
        raise ApplyRefusedError("The file names nothing, so --prune would remove everything. Is it the right file?")
    with undoing_sentinels() as note_folder, policies_recorded(by=ACTOR):
        document = read_document(raw, problems)
        existing = Existing.load()
        wanted = check_document(document, existing, problems)
        problems.raise_if_any()
        plan = make_plan(wanted, existing, prune=prune)
        if plan.running:
            raise ApplyRefusedError(
                f"Running right now, so not to be removed: {', '.join(plan.running)}. "
                "Wait for the end, then apply again."
            )
        if not dry_run:
            for take, steps in (
                (_take, plan.wanted),
                # Only now is every job there that another may run after, and none of the old ties is left.
                (_take_run_after, plan.wanted),
                (_take, plan.removals),
            ):
                for step in steps:
                    with problems.collecting(f'{step.change.table} "{step.change.name}"'):
                        take(step, note_folder)
                    problems.raise_if_any()
    return Applied(changes=tuple(step.change for step in plan.steps))


def _take(step: Step, note_folder: Callable[[str], None]) -> None:
    change, row, values = step.change, step.row, dict(step.values)
    match change.action, change.table:
        case ((Action.UNCHANGED | Action.KEPT), _):
            pass
        case Action.REMOVED, _:
            _remove(change.table, row)
        case _, "options":
            options_update(**{key: values[key] for key in change.fields})
        case _, "storages":
            note_folder(values["path"])
            _save_storage(change.name, row, values)
        case _, "targets":
            _save_target(change.name, row, values)
        case _, "backup_jobs":
            values["targets"] = list(Target.objects.filter(name__in=values["targets"]))
            values["storage"] = Storage.objects.get(name=values["storage"])
            settings = _settings(step, values)
            if row is None:
                job_create(name=change.name, **values, **settings)
            else:
                job_update(job=row, name=change.name, **values, **settings)
        case _, _:
            values["schedule_cron"] = values.pop("schedule")
            settings = _settings(step, values)
            if row is None:
                maintenance.job_create(key=change.name, **values, **settings)
            else:
                del values["job_type"]
                maintenance.job_update(job=row, **values, **settings)


def _settings(step: Step, values: dict[str, Any]) -> dict[str, Any]:
    """The settings among `values`, which loses them. A job that is to run after another does not do so yet."""
    del values["run_after"]
    settings = settings_values(values)
    return {**settings, "run_after": ""} if "run_after" in step.change.fields else settings


def _take_run_after(step: Step, _note_folder: Callable[[str], None]) -> None:
    """Let a job run after the one that the file names, when that is new."""
    reference = step.values.get("run_after", "")
    if not reference or not (step.change.action == Action.CREATED or "run_after" in step.change.fields):
        return
    if step.change.table == BACKUP_JOBS:
        job_set(job=BackupJob.objects.get(name=step.change.name), run_after=run_after_id(reference))
    else:
        job = maintenance.get_job_by_key(step.change.name)
        maintenance.job_update(job=job, run_after=run_after_id(reference))


def _save_storage(name: str, row: Storage | None, values: dict[str, Any]) -> None:
    if row is None:
        storage_create(name=name, **values)
    else:
        storage_update(storage=row, name=name, path=values["path"], use_existing=values["use_existing"])


def _save_target(name: str, row: Target | None, values: dict[str, Any]) -> None:
    config = {"paths": values["paths"], "exclude": values["exclude"]}
    if row is None:
        target_create(name=name, source=values["source"], config=config)
    else:
        target_update(target=row, name=name, config=config)


def _remove(table: str, row: Any) -> None:
    match table:
        case "backup_jobs":
            job_delete(job=row)
        case "targets":
            target_delete(target=row)
        case "storages":
            storage_delete(storage=row)
        case _:
            maintenance.job_delete(job=row)
