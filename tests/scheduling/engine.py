"""Jobs and runs of either kind, for tests that hold for both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from backups.models import BackupRun
from maintenance.models import MaintenanceRun
from scheduling.choices import RunStatus, RunTrigger
from scheduling.context import RunResult
from scheduling.dispatch import scheduled_dispatch
from scheduling.ledger import run_claim, run_finish, run_record
from scheduling.registry import RunKind, get_kind
from tests.factories import BackupJobFactory, BackupRunFactory, MaintenanceJobFactory, MaintenanceRunFactory

KINDS = ("backup", "maintenance")
SLOT = datetime(2026, 11, 24, 3, tzinfo=UTC)
JOB_FACTORIES: dict[str, Any] = {"backup": BackupJobFactory, "maintenance": MaintenanceJobFactory}
RUN_FACTORIES: dict[str, Any] = {"backup": BackupRunFactory, "maintenance": MaintenanceRunFactory}
RUNS: dict[str, Any] = {"backup": BackupRun, "maintenance": MaintenanceRun}
DONE = RunResult(message="Done.")


def kind_of(job: Any) -> RunKind:
    return get_kind(type(job).KIND)


def make_job(kind: str, **values: Any) -> Any:
    return JOB_FACTORIES[kind](**values)


def job_id(job: Any) -> str:
    return f"{kind_of(job).kind}:{job.pk}"


def record(job: Any, trigger: RunTrigger = RunTrigger.MANUAL, **values: Any) -> Any:
    """What the ledger makes of a request, past the rules of the job."""
    named = {} if kind_of(job).kind == "backup" else {"job_key": job.key, "job_type": job.job_type}
    return run_record(kind=kind_of(job), job=job, job_name=job.name, trigger=trigger, **named, **values)


def ask(job: Any, trigger: RunTrigger = RunTrigger.MANUAL, **values: Any) -> Any:
    """What the one door makes of a request."""
    return scheduled_dispatch(kind_of(job).kind, job.pk, trigger=trigger, **values)


def claim(run: Any, holder: str = "one", **values: Any) -> Any:
    return run_claim(kind=get_kind(run.kind), run_id=run.pk, holder=holder, **values)


def finish(run: Any, status: RunStatus = RunStatus.SUCCEEDED, **values: Any) -> bool:
    return run_finish(kind=get_kind(run.kind), run=run, status=status, **{"result": DONE, **values})


def carried_out(job: Any, status: RunStatus = RunStatus.SUCCEEDED, **values: Any) -> Any:
    """A run of `job` that was asked for by hand, started, and ended so."""
    run = claim(ask(job, **values))
    assert run is not None
    assert finish(run, status)
    run.refresh_from_db()
    return run


def in_state(kind: str, status: RunStatus, **values: Any) -> Any:
    """A row that says so."""
    started = status not in (RunStatus.QUEUED, RunStatus.SKIPPED)
    ended = status not in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.CANCELLING)
    return RUN_FACTORIES[kind](
        status=status, **{"started_at": SLOT if started else None, "finished_at": SLOT if ended else None, **values}
    )


def all_at_once(works: Iterable[Callable[[], None]]) -> None:
    """Carry each out in a thread of its own, on a connection of its own, all from one moment on; raises what they
    raise.
    """
    works = list(works)
    start, errors = threading.Barrier(len(works)), []

    def carry_out(work: Callable[[], None]) -> None:
        try:
            start.wait(20)
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=carry_out, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
