"""What a file's entries mean: values cleaned by the rules of the pages, defaults filled in, references checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backups.choices import SourceKindName, StorageKind
from backups.models import BackupJob, Storage, Target
from backups.retention import PolicyError
from backups.services.jobs import schedule_clean, storage_inside_source
from backups.services.names import clean_name
from backups.services.options import options_clean, retention_clean
from backups.services.targets import target_clean
from config.configuration.entries import BACKUP_JOBS, MAINTENANCE_JOBS, OPTIONS, STORAGES, TARGETS, Document, Entry
from config.configuration.existing import Existing
from config.configuration.folders import check_storage_folder
from config.configuration.job_settings import check_run_after, settings_wanted
from config.configuration.problems import Problems
from maintenance.choices import JobType
from maintenance.models import MaintenanceJob
from maintenance.services import CLEANUP_MANUAL, CLEANUP_NIGHTLY, PURGE_TRASH, key_clean

# The jobs that every installation has: an entry that leaves a key out means what they were made with.
DEFAULT_JOBS: dict[str, dict[str, Any]] = {
    CLEANUP_NIGHTLY: {
        "job_type": JobType.RETENTION_CLEANUP,
        "name": "Nightly cleanup",
        "schedule": "0 3 * * *",
        "visible_in_ui": True,
    },
    CLEANUP_MANUAL: {
        "job_type": JobType.RETENTION_CLEANUP,
        "name": "Cleanup by hand",
        "schedule": "",
        "visible_in_ui": False,
    },
    PURGE_TRASH: {
        "job_type": JobType.PURGE_TRASH,
        "name": "Empty the trash",
        "schedule": "30 3 * * *",
        "visible_in_ui": True,
    },
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The state a file asks for: of options what it gives, of entries every value, by name or key."""

    options: Mapping[str, Any] = field(default_factory=dict)
    storages: dict[str, dict[str, Any]] = field(default_factory=dict)
    targets: dict[str, dict[str, Any]] = field(default_factory=dict)
    backup_jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    maintenance_jobs: dict[str, dict[str, Any]] = field(default_factory=dict)


def check_document(document: Document, existing: Existing, problems: Problems) -> Wanted:
    """The state `document` asks for. What is wrong with it goes to `problems`; then the answer is not complete."""
    wanted = Wanted(options=_options(document, problems))
    for entry in document.entries(STORAGES):
        _storage(entry, existing, wanted, problems)
    for entry in document.entries(TARGETS):
        _target(entry, existing, wanted, problems)
    named = {table: {entry.identity for entry in document.entries(table)} for table in (STORAGES, TARGETS)}
    for entry in document.entries(BACKUP_JOBS):
        _backup_job(entry, existing, named, wanted, problems)
    for entry in document.entries(MAINTENANCE_JOBS):
        _maintenance_job(entry, existing, wanted, problems)
    _check_nesting(document, existing, wanted, problems)
    jobs = {BACKUP_JOBS: wanted.backup_jobs, MAINTENANCE_JOBS: wanted.maintenance_jobs}
    check_run_after(document, jobs, existing, problems)
    return wanted


def _options(document: Document, problems: Problems) -> dict[str, Any]:
    with problems.collecting(OPTIONS):
        return options_clean(**document.options)
    return {}


def _storage(entry: Entry, existing: Existing, wanted: Wanted, problems: Problems) -> None:
    values = entry.values
    row = existing.storages.get(entry.identity)
    with problems.collecting(entry.where):
        clean_name(values.get("name", "x"))
    kind = values.get("kind", StorageKind.LOCAL)
    if kind not in StorageKind.values:
        problems.add(
            entry.where, "kind", f"“{kind}” is not a kind of storage. There are: {', '.join(StorageKind.values)}."
        )
    elif row is not None and row.kind != kind:
        problems.add(
            entry.where, "kind", f"{row.name} is of the kind {row.kind}, which cannot be changed. Use another name."
        )
    if "path" not in values:
        return
    use_existing = values.get("use_existing", False)
    with problems.collecting(entry.where):
        path = check_storage_folder(row, entry.identity, values["path"], use_existing=use_existing)
        for name, other in existing.storages.items():
            # One that the file names too has the path that the file gives it.
            if other.path == path and name != entry.identity and name not in wanted.storages:
                problems.add(entry.where, "path", f"{path} is the storage “{name}” already.")
        for name, others in wanted.storages.items():
            if others["path"] == path:
                problems.add(entry.where, "path", f"{path} is the path of the storage “{name}” too.")
        wanted.storages.setdefault(entry.identity, {"kind": kind, "path": path, "use_existing": use_existing})


def _target(entry: Entry, existing: Existing, wanted: Wanted, problems: Problems) -> None:
    values = entry.values
    source = values.get("source", SourceKindName.FILES)
    row = existing.targets.get(entry.identity)
    if row is not None and row.source != source:
        problems.add(entry.where, "source", f"{row.name} is of the source {row.source}, which stays. Use another name.")
    with problems.collecting(entry.where):
        clean_name(values.get("name", "x"))
    if "paths" not in values:
        return
    config = {"paths": values["paths"], "exclude": values.get("exclude", [])}
    with problems.collecting(entry.where):
        clean = target_clean(name=entry.identity or "x", source=source, config=config)
        wanted.targets.setdefault(entry.identity, {"source": clean["source"], **clean["config"]})


def _backup_job(
    entry: Entry, existing: Existing, named: Mapping[str, set[str]], wanted: Wanted, problems: Problems
) -> None:
    values = entry.values
    with problems.collecting(entry.where):
        clean_name(values.get("name", "x"))
    targets = sorted(set(values.get("targets", [])))
    if "targets" in values and not targets:
        problems.add(entry.where, "targets", "Name at least one target to back up.")
    for name in targets:
        if name not in named[TARGETS] and name not in existing.targets:
            problems.add(
                entry.where, "targets", f"There is no target “{name}”, neither in this file nor in the database."
            )
    storage = values.get("storage", "")
    if "storage" in values and storage not in named[STORAGES] and storage not in existing.storages:
        problems.add(
            entry.where, "storage", f"There is no storage “{storage}”, neither in this file nor in the database."
        )
    schedule = {"schedule": "", "timezone": ""}
    with problems.collecting(entry.where):
        schedule = schedule_clean(schedule=values.get("schedule", ""), timezone=values.get("timezone", ""))
    retention = None
    if "retention" in values:
        try:
            retention = retention_clean(values["retention"])
        except PolicyError as error:
            for rule, message in error.errors.items():
                problems.add(entry.where, f"retention.{rule}", message)
    wanted.backup_jobs.setdefault(
        entry.identity,
        {
            "targets": targets,
            "storage": storage,
            **schedule,
            "enabled": values.get("enabled", True),
            "retention": retention,
            **settings_wanted(entry, existing.backup_jobs.get(entry.identity, BackupJob()), problems),
        },
    )


def _maintenance_job(entry: Entry, existing: Existing, wanted: Wanted, problems: Problems) -> None:
    key = entry.identity
    values = {**DEFAULT_JOBS.get(key, {}), **entry.values}
    row = existing.maintenance_jobs.get(key)
    if "key" in entry.values:
        with problems.collecting(entry.where):
            key_clean(entry.values["key"])
    job_type = values.get("job_type", row.job_type if row is not None else None)
    known = ", ".join(JobType.values)
    if job_type is None:
        problems.add(entry.where, "job_type", f"This key is missing: there is no job “{key}” yet. There are: {known}.")
    elif job_type not in JobType.values:
        problems.add(entry.where, "job_type", f"“{job_type}” is not a kind of maintenance. There are: {known}.")
    elif row is not None and row.job_type != job_type:
        problems.add(entry.where, "job_type", f"{key} is a {row.job_type}, which cannot be changed. Use another key.")
    if key == CLEANUP_MANUAL and values["schedule"].strip():
        problems.add(entry.where, "schedule", f"This job is never scheduled. Give the schedule to {CLEANUP_NIGHTLY}.")
    schedule, name = {"schedule": "", "timezone": ""}, ""
    with problems.collecting(entry.where):
        schedule = schedule_clean(schedule=values.get("schedule", ""), timezone=values.get("timezone", ""))
    with problems.collecting(entry.where):
        name = clean_name(values.get("name", key.replace("_", " ").capitalize() or "x"))
    wanted.maintenance_jobs.setdefault(
        key,
        {
            "job_type": job_type,
            "name": name,
            **schedule,
            "enabled": values.get("enabled", True),
            "visible_in_ui": values.get("visible_in_ui", True),
            **settings_wanted(entry, row or MaintenanceJob(key=key, job_type=job_type or ""), problems),
        },
    )


def _check_nesting(document: Document, existing: Existing, wanted: Wanted, problems: Problems) -> None:
    """No job may keep copies inside what it copies, be it in the file or one that the file changes indirectly."""
    storages = {name: Storage(name=name, path=row.path) for name, row in existing.storages.items()}
    storages |= {name: Storage(name=name, path=values["path"]) for name, values in wanted.storages.items()}
    targets = {name: Target(name=name, config=row.config) for name, row in existing.targets.items()}
    targets |= {name: Target(name=name, config={"paths": values["paths"]}) for name, values in wanted.targets.items()}
    jobs = {
        name: (
            f"the backup job “{name}” in the database",
            [target.name for target in job.targets.all()],
            job.storage.name,
        )
        for name, job in existing.backup_jobs.items()
    }
    for entry in document.entries(BACKUP_JOBS):
        values = wanted.backup_jobs[entry.identity]
        jobs[entry.identity] = (entry.where, values["targets"], values["storage"])
    for where, names, storage in jobs.values():
        for name in names:
            if name in targets and storage in storages:
                problem = storage_inside_source(target=targets[name], storage=storages[storage])
                if problem:
                    problems.add(where, "storage", problem)
