"""What the end of a run leads to: its retry, and the jobs that run after its own."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from scheduling.choices import FAILING, RunStatus, RunTrigger
from scheduling.registry import all_kinds, get_kind

if TYPE_CHECKING:
    from scheduling.context import Now
    from scheduling.models import Run
    from scheduling.registry import RunKind

logger = logging.getLogger(__name__)


def run_follow_up(
    *,
    kind: RunKind,
    run: Run,
    status: RunStatus,
    now: Now = timezone.now,
    may_retry: bool = True,
    interrupted: bool = False,
) -> None:
    """Record what follows from a run that has just ended with `status`, in the transaction that ended it.

    A failed or lost run is retried as its job says now, as a new row. One that was `interrupted` by a shutdown is
    tried again at once, which counts for no retry: a restart must not cost tonight's backup. Otherwise the jobs that
    run after this one are queued when it succeeded, and recorded as skipped when it did not. After a skipped run they
    are told when the job has no other run open whose end will tell them.
    """
    # Read anew: the job may have been changed, or deleted, during the hours that the run took.
    job: Any = kind.job_model.objects.filter(pk=run.job_id).first()  # type: ignore[attr-defined]  # each kind's own
    if job is None:
        return
    if may_retry and (interrupted or _is_left_to_retry(run, job, status)) and may_be_tried_again(kind, run):
        retry = _record(
            kind,
            job.pk,
            trigger=RunTrigger.RETRY,
            parent=run,
            attempt=run.attempt if interrupted else run.attempt + 1,
            params=run.params,
            not_before=None if interrupted else now() + timedelta(minutes=job.retry_delay),
            now=now,
        )
        if retry is not None:
            return
    model: Any = kind.run_model
    if status == RunStatus.SKIPPED and model.objects.filter(job=job).open().exists():
        return
    _tell_followers(kind, run, job, status, now)


def _tell_followers(kind: RunKind, run: Run, job: Any, status: RunStatus, now: Now) -> None:
    skip = ""
    if status != RunStatus.SUCCEEDED:
        how = "was skipped" if status == RunStatus.SKIPPED else "did not succeed"
        skip = f"{run.job_name} {how} (run {run.pk}), so this did not follow."
    before: set[str] | None = None
    cause = f"{kind.kind}:{run.pk}"
    for follower in all_kinds():
        followers = follower.job_model.objects.filter(run_after=f"{kind.kind}:{job.pk}")
        for job_id in followers.order_by("pk").values_list("pk", flat=True):
            before = _jobs_before(job) if before is None else before
            if f"{follower.kind}:{job_id}" not in before:
                _record(follower, job_id, trigger=RunTrigger.AFTER, cause=cause, skip=skip, now=now)
            elif status != RunStatus.SKIPPED:
                circle = f"{run.job_name} runs after this job and this job after it: it would never end."
                _record(follower, job_id, trigger=RunTrigger.AFTER, cause=cause, skip=skip or circle, now=now)


def _jobs_before(job: Any) -> set[str]:
    """The ids of the jobs that this one follows, directly or not; its own among them when they go round in a circle."""
    found: set[str] = set()
    current = job.run_after
    while current and current not in found:
        found.add(current)
        name, _, pk = current.partition(":")
        try:
            job_model = get_kind(name).job_model
        except LookupError:
            break
        current = (
            job_model.objects.filter(pk=int(pk)).values_list("run_after", flat=True).first() if pk.isdecimal() else ""
        )
    return found


def _is_left_to_retry(run: Run, job: Any, status: RunStatus) -> bool:
    return status in FAILING and run.attempt <= int(job.retry_count)


def may_be_tried_again(kind: RunKind, run: Run) -> bool:
    """Whether another run may be recorded in the place of this one without a person."""
    # A command that has returned must not leave something that starts later.
    return run.trigger != RunTrigger.COMMAND and kind.may_retry(run)


def _record(kind: RunKind, job_id: int, **request: Any) -> Run | None:
    """Record it, as skipped when another run of the job is in its way; None when nothing was recorded.

    Whatever goes wrong is written to the log: it must not keep the run that has ended from being closed.
    """
    try:
        with transaction.atomic():
            return kind.execute(job_id, inline=False, **request)
    except (OperationalError, InterfaceError):
        raise
    except ValidationError as error:
        if request.get("skip"):
            logger.warning("no %s run of job %s follows: %s", request["trigger"], job_id, error)
            return None
        return _record(kind, job_id, **request | {"skip": " ".join(error.messages)})
    except Exception:
        logger.exception("no %s run of job %s follows", request["trigger"], job_id)
        return None
