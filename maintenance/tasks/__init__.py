"""The kinds of maintenance: one module a kind, found by its job type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maintenance.choices import JobType
from maintenance.tasks import purge_trash, retention_cleanup

if TYPE_CHECKING:
    from maintenance.models import MaintenanceRun
    from scheduling.context import RunContext, RunResult


@dataclass(frozen=True, kw_only=True)
class Task:
    """How one job type is run: `perform` does the work, `preview` says as figures what it would do.

    A job type that deletes has `may_retry` False: it is never tried again without a person.
    """

    perform: Callable[[MaintenanceRun, RunContext], RunResult]
    preview: Callable[[MaintenanceRun], RunResult]
    may_retry: bool = False


TASKS: dict[str, Task] = {
    JobType.RETENTION_CLEANUP: Task(perform=retention_cleanup.perform, preview=retention_cleanup.preview),
    JobType.PURGE_TRASH: Task(perform=purge_trash.perform, preview=purge_trash.preview),
}
