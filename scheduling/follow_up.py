"""What the end of a run leads to: its retry, and the jobs that run after its own."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from scheduling.choices import FAILING, RunStatus, RunTrigger
from scheduling.registry import all_kinds

if TYPE_CHECKING:
    from scheduling.context import Now
    from scheduling.models import Run
    from scheduling.registry import RunKind

logger = logging.getLogger(__name__)


def run_follow_up(*, kind: RunKind, run: Run, status: RunStatus, now: Now = timezone.now) -> None:
    """Record what follows from a run that has just ended with `status`, in the transaction that ended it.

    A failed or lost run is retried as its job says, as a new row. Otherwise the jobs that run after this one are
    queued when it succeeded, and recorded as skipped when it did not.
    """
    job: Any = run.job  # type: ignore[attr-defined]  # each kind's own
    if job is None:
        return
    if _is_to_be_retried(kind, run, job, status):
        _record(
            kind,
            job.pk,
            trigger=RunTrigger.RETRY,
            parent=run,
            attempt=run.attempt + 1,
            params=run.params,
            not_before=now() + timedelta(minutes=job.retry_delay),
            now=now,
        )
        return
    skip = (
        ""
        if status == RunStatus.SUCCEEDED
        else f"{run.job_name} did not succeed (run {run.pk}), so this did not follow."
    )
    for follower in all_kinds():
        for job_id in follower.job_model.objects.filter(run_after=f"{kind.kind}:{job.pk}").values_list("pk", flat=True):
            _record(follower, job_id, trigger=RunTrigger.AFTER, skip=skip, now=now)


def _is_to_be_retried(kind: RunKind, run: Run, job: Any, status: RunStatus) -> bool:
    return (
        status in FAILING
        and run.attempt <= job.retry_count
        # A command that has returned must not leave something that starts later.
        and run.trigger != RunTrigger.COMMAND
        and kind.may_retry(run)
    )


def _record(kind: RunKind, job_id: int, **request: Any) -> None:
    """Record it, or say why not: that must not keep the run that has ended from being closed."""
    try:
        with transaction.atomic():
            kind.execute(job_id, inline=False, **request)
    except (ValidationError, IntegrityError) as error:
        logger.warning("no %s run of job %s follows: %s", request["trigger"], job_id, error)
