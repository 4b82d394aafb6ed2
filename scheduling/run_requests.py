"""What a program asks of one run: to stop it, or to do the same again. A refusal is a 409 that says why."""

from __future__ import annotations

from django.db import IntegrityError
from ninja.errors import HttpError

from scheduling.choices import RunStatus, RunTrigger
from scheduling.dispatch import run_again
from scheduling.ledger import run_cancel
from scheduling.models import Run
from scheduling.registry import get_kind


def cancelled[R: Run](run: R, *, by: str) -> R:
    """The run as it is then: cancelled, or being stopped. Answers 409 when it had ended."""
    outcome = run_cancel(kind=get_kind(run.kind), run_id=run.pk, by=by)
    run.refresh_from_db()
    # Asked for twice, it is being stopped all the same.
    if outcome is None and run.status != RunStatus.CANCELLING:
        raise HttpError(409, f"Run {run.pk} of {run.job_name} had ended before it could be cancelled.")
    return run


def repeated(run: Run, *, by: str) -> Run:
    """The run that does the same again. Answers 409 when it has not ended, or its job is gone.

    Raises `AnotherRunWaitsError`, which is a 409 as well, when a run of the job waits that does something else.
    """
    if run.is_open:
        raise HttpError(409, f"Run {run.pk} of {run.job_name} has not ended. When it has, it can be run again.")
    try:
        queued = run_again(kind_name=run.kind, run=run, by=by, trigger=RunTrigger.API)
    except IntegrityError as error:
        raise HttpError(
            409, f"{run.job_name} was changed or deleted just now, so nothing was queued. Look, then try again."
        ) from error
    if queued is None:
        raise HttpError(409, f"{run.job_name} was deleted, so it cannot be run again. Nothing was queued.")
    return queued
