"""How a file says how jobs of both kinds run: the same settings under the file's own names.

`window` stands for both ends of it, and `run_after` names a job as `backup:NAME` or `maintenance:KEY`: names are what a
file knows, and the job may stand further down in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from backups.models import BackupJob
from config.configuration.entries import BACKUP_JOBS, MAINTENANCE_JOBS, Document, Entry
from config.configuration.existing import Existing
from config.configuration.problems import Problems
from maintenance.models import MaintenanceJob
from maintenance.services import CLEANUP_MANUAL, ONLY_BY_HAND, settings_of_type_clean
from scheduling.job_settings import DEFAULTS, job_id, settings_clean

PLAIN = ("overlap", "retry_count", "retry_delay", "time_limit", "blackout_dates", "queue")
KINDS = {BACKUP_JOBS: BackupJob.KIND, MAINTENANCE_JOBS: MaintenanceJob.KIND}
TABLES = {kind: table for table, kind in KINDS.items()}

_WINDOW = re.compile(r"\s*(\S+?)\s*-\s*(\S+)\s*", re.ASCII)


def settings_wanted(entry: Entry, job: BackupJob | MaintenanceJob, problems: Problems) -> dict[str, Any]:
    """The settings that an entry asks for, under the file's names; a key that is left out means its default.

    `job` is one of the entry's kind and type, perhaps without a row. What is wrong goes to `problems`; what `run_after`
    names is checked by `check_run_after`.
    """
    values = {name: entry.values.get(name, DEFAULTS[name]) for name in PLAIN}
    run_after = " ".join(entry.values.get("run_after", "").split())
    window = entry.values.get("window", "").strip()
    if window:
        match = _WINDOW.fullmatch(window)
        if match is None:
            problems.add(entry.where, "window", f"“{window[:40]}” is not a window. Write 22:00-06:00.")
        else:
            values |= {"window_start": match[1], "window_end": match[2]}
    if run_after and isinstance(job, MaintenanceJob) and job.key == CLEANUP_MANUAL:
        problems.add(entry.where, "run_after", ONLY_BY_HAND)
    found = Problems()
    clean: dict[str, Any] = {}
    with found.collecting(entry.where):
        if isinstance(job, MaintenanceJob):
            clean = settings_of_type_clean(values, job=job)
        else:
            clean = settings_clean(values, job=job)
    for problem in found:
        key = "window" if problem.key.startswith("window_") else problem.key
        problems.add(entry.where, key, problem.message)
    plain = {name: clean.get(name, DEFAULTS[name]) for name in PLAIN}
    return {**plain, "window": _window(clean), "run_after": run_after}


def settings_stored(job: BackupJob | MaintenanceJob, existing: Existing) -> dict[str, Any]:
    """A job's settings as a file would say them."""
    stored = {name: getattr(job, name) for name in PLAIN}
    window = _window({"window_start": job.window_start, "window_end": job.window_end})
    return {**stored, "window": window, "run_after": existing.run_after[existing.references[job_id(job)]]}


def settings_values(values: dict[str, Any]) -> dict[str, Any]:
    """Take the file's settings out of `values` and give what the services take, but for `run_after`.

    That can only be set when every job of the file is there: `run_after_id` then finds it.
    """
    start, _, end = values.pop("window").partition("-")
    settings = {name: values.pop(name) for name in PLAIN}
    return {**settings, "window_start": start or None, "window_end": end or None}


def run_after_id(reference: str) -> str:
    """The id of the job that a file names, such as `backup:3`; "" for none."""
    kind, _, name = reference.partition(":")
    if not reference:
        return ""
    if kind == BackupJob.KIND:
        return job_id(BackupJob.objects.get(name=name))
    return job_id(MaintenanceJob.objects.get(key=name))


def check_run_after(
    document: Document, wanted: Mapping[str, Mapping[str, dict[str, Any]]], existing: Existing, problems: Problems
) -> None:
    """No job may run after one that is not there, or in the end after itself, be it in the file or indirectly.

    `wanted` is by table and then by name or key.
    """
    after = dict(existing.run_after)
    for table, kind in KINDS.items():
        after |= {f"{kind}:{name}": values["run_after"] for name, values in wanted[table].items()}
    for table, kind in KINDS.items():
        for entry in document.entries(table):
            reference, own = wanted[table][entry.identity]["run_after"], f"{kind}:{entry.identity}"
            if not reference:
                continue
            chain = list(_before(own, after))
            if reference not in after:
                problems.add(entry.where, "run_after", _unknown(reference))
            elif own in chain:
                names = [found.partition(":")[2] for found in (own, *chain[: chain.index(own) + 1])]
                problems.add(entry.where, "run_after", f"It would run after itself: {' after '.join(names)}.")


def removal_order(job: BackupJob | MaintenanceJob, existing: Existing) -> int:
    """How many jobs stand before this one: what runs after another must be removed first."""
    return len(list(_before(existing.references[job_id(job)], existing.run_after)))


def _window(values: Mapping[str, Any]) -> str:
    start, end = values.get("window_start"), values.get("window_end")
    return f"{start:%H:%M}-{end:%H:%M}" if start and end else ""


def _unknown(reference: str) -> str:
    kind, separator, name = reference.partition(":")
    if kind not in TABLES or not separator or not name:
        return f"“{reference[:80]}” is not a job. Write backup:NAME or maintenance:KEY."
    return f"There is no {kind} job “{name[:80]}”, neither in this file nor in the database."


def _before(reference: str, after: Mapping[str, str]) -> Iterator[str]:
    """What a job runs after, what that runs after, and so on until nothing or a circle."""
    seen: set[str] = set()
    while (reference := after.get(reference, "")) and reference not in seen:
        yield reference
        seen.add(reference)
