"""What can be done with one run: stop it, do it again, take its log away."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.permissions import requires
from scheduling.choices import RunStatus
from scheduling.dispatch import run_again as again
from scheduling.ledger import run_cancel as cancel
from scheduling.models import Run
from scheduling.registry import RunKind
from scheduling.run_lines import known_level, log_of
from scheduling.views.kinds import visible_kind


@requires("scheduling.view_schedulerstate")
@require_POST
def run_cancel(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """Cancel a queued run, or ask a running one to stop; whatever happened meanwhile is said on the run's page."""
    run_kind, run = _runnable(request.user, kind, pk)
    outcome = cancel(kind=run_kind, run_id=run.pk, by=request.user.get_username())
    run.refresh_from_db()
    name = f"Run {run.pk} of {run.job_name}"
    if outcome == RunStatus.CANCELLED:
        messages.success(request, f"{name} was cancelled before it started. Nothing was done.")
    elif outcome == RunStatus.CANCELLING or run.status == RunStatus.CANCELLING:
        already = "" if outcome else " already"
        messages.info(request, f"{name} is being stopped{already}. This page says when it has ended.")
    else:
        messages.info(request, f"{name} had ended before it could be cancelled: see how below. Nothing was changed.")
    return _to(run)


@requires("scheduling.view_schedulerstate")
@require_POST
def run_again(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """Queue the same again and go to the new run's page; stay, and say why, when that is not possible."""
    run_kind, run = _runnable(request.user, kind, pk)
    if run.is_open:
        messages.info(request, f"Run {run.pk} of {run.job_name} has not ended. When it has, it can be run again.")
        return _to(run)
    try:
        queued = again(kind_name=run_kind.kind, run=run, by=request.user.get_username())
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return _to(run)
    except IntegrityError:
        messages.error(
            request, f"{run.job_name} was changed or deleted just now, so nothing was queued. Look, then try again."
        )
        return _to(run)
    if queued is None:
        messages.error(request, f"{run.job_name} was deleted, so it cannot be run again. Nothing was queued.")
        return _to(run)
    if getattr(queued, "parent_id", None) == run.pk:
        messages.success(request, f"{run.job_name} is queued again: this is run {queued.pk}, which repeats {run.pk}.")
    else:
        messages.info(request, f"A run of {run.job_name} was waiting to start already: this one. No other was added.")
    return _to(queued)


@requires("scheduling.view_schedulerstate")
@require_safe
def run_log(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """The log as a text file, in the zone of the pages; with `level` only those lines."""
    run_kind = visible_kind(kind, request.user)
    model: Any = run_kind.run_model
    run: Run = get_object_or_404(model, pk=pk)
    lines = log_of(run_kind, run, known_level(request.GET.get("level")))
    text = "".join(
        f"{timezone.localtime(at).isoformat(timespec='milliseconds')} {level:<7} {words}\n"
        for at, level, words in lines.values_list("at", "level", "text").iterator()
    )
    answer = HttpResponse(text, content_type="text/plain; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{run_kind.kind}-run-{run.pk}.log"'
    return answer


def _runnable(user: User | AnonymousUser, kind: str, pk: int) -> tuple[RunKind, Run]:
    """A run that the user may stop and repeat; 404 and 403 else."""
    run_kind = visible_kind(kind, user)
    if not user.has_perm(run_kind.run_permission):
        raise PermissionDenied(
            f"This needs the permission {run_kind.run_permission}. Ask an administrator for a role that has it."
        )
    model: Any = run_kind.run_model
    run: Run = get_object_or_404(model, pk=pk)
    return run_kind, run


# Their permission depends on the kind in the address, beside the one that they name.
for view in (run_cancel, run_again):
    view.permission_of_kind = "run_permission"  # type: ignore[attr-defined]


def _to(run: Run) -> HttpResponse:
    return redirect("scheduling:run_detail", kind=run.kind, pk=run.pk)
