from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from accounts.permissions import requires
from scheduling.bulk import BulkAction, BulkPlan, Refusal, bulk_apply, bulk_plan, selected
from scheduling.models import Run
from scheduling.units import counted
from scheduling.views.kinds import visible_kinds

NAMED = 8


@requires("scheduling.view_schedulerstate")
@require_POST
def run_bulk(request: HttpRequest) -> HttpResponse:
    """Cancel or repeat the ticked runs: first say what that means for each, then, confirmed, do it.

    The permission is that of each run's kind, and asked for run by run.
    """
    back = _back(request)
    if request.POST.get("action") not in BulkAction.values:
        return HttpResponseBadRequest("“action” is “cancel” or “again”.", content_type="text/plain; charset=utf-8")
    action = BulkAction(request.POST["action"])
    keys = selected(request.POST.getlist("select"))
    if not keys:
        messages.info(request, "No run was ticked, so nothing was done. Tick the boxes of some runs first.")
        return redirect(back)
    plan = bulk_plan(action=action, keys=keys, kinds=visible_kinds(request.user), user=request.user)
    if "confirm" in request.POST and plan.runs:
        _say(request, bulk_apply(plan, by=request.user.get_username()))
        return redirect(back)
    context = {
        "plan": plan,
        "title": _question(plan),
        "button": _button(plan),
        "danger": action == BulkAction.CANCEL,
        "cancel_word": "Leave them" if action == BulkAction.CANCEL else "",
        "consequences": _consequences(plan),
        "cancel_url": back,
        "hidden": [
            ("action", action.value),
            ("confirm", "1"),
            ("next", back),
            *(("select", f"{run.kind}:{run.pk}") for run in plan.runs),
        ],
    }
    return render(request, "scheduling/run_bulk.html", context)


def _back(request: HttpRequest) -> str:
    """The list that the runs were ticked in; no address but one of that list is believed."""
    asked, here = request.POST.get("next", ""), reverse("scheduling:run_list")
    safe = url_has_allowed_host_and_scheme(asked, allowed_hosts=None)
    return asked if safe and asked.partition("?")[0] == here else here


def _question(plan: BulkPlan) -> str:
    if not plan.runs:
        return "None of these runs can be cancelled" if plan.action == BulkAction.CANCEL else "None can be run again"
    count = counted(len(plan.runs), "run")
    return f"Cancel {count}?" if plan.action == BulkAction.CANCEL else f"Run {count} again?"


def _button(plan: BulkPlan) -> str:
    count = counted(len(plan.runs), "run")
    return f"Cancel {count}" if plan.action == BulkAction.CANCEL else f"Run {count} again"


def _consequences(plan: BulkPlan) -> list[str]:
    if not plan.runs:
        return []
    if plan.action == BulkAction.AGAIN:
        return [
            f"{counted(len(plan.runs), 'new run')} will be queued, with what each of these was asked to do: "
            f"{_names(plan.runs)}.",
            "They start as soon as a worker is free, run windows and pauses or not: you asked for them.",
        ]
    said = []
    if plan.waiting:
        said.append(f"{counted(len(plan.waiting), 'waiting run')} will never start: {_names(plan.waiting)}.")
    if plan.going:
        said.append(
            f"{counted(len(plan.going), 'running run')} will be stopped, and what is half made removed: "
            f"{_names(plan.going)}. What was finished before stays."
        )
    return [*said, "A cancelled run cannot be continued; it can be run again."]


def _say(request: HttpRequest, done: BulkPlan) -> None:
    count = counted(len(done.runs), "run")
    if done.runs and done.action == BulkAction.CANCEL:
        messages.success(request, f"{count} cancelled or being stopped: {_names(done.runs)}.")
    elif done.runs:
        messages.success(request, f"{count} queued again: {_names(done.runs)}.")
    by_reason: dict[str, list[Refusal]] = {}
    for refusal in done.refused:
        by_reason.setdefault(refusal.reason, []).append(refusal)
    for reason, refused in by_reason.items():
        messages.warning(request, f"Nothing was done with {_names(each.run for each in refused)}: {_lower(reason)}")


def _names(runs: Iterable[Any]) -> str:
    listed: list[Run] = list(runs)
    named = [f"{run.job_name} (run {run.pk})" for run in listed[:NAMED]]
    rest = len(listed) - len(named)
    return ", ".join(named) + (f" and {rest:,} more" if rest else "")


def _lower(sentence: str) -> str:
    """As it goes on after a colon."""
    return sentence[:1].lower() + sentence[1:]
