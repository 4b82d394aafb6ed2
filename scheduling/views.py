from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts.permissions import requires
from scheduling.exchange import render_region, wants_region
from scheduling.filters import Chip, chips, filtered, link, number, status_chips, status_filter
from scheduling.models import Run
from scheduling.paging import run_page
from scheduling.registry import RunKind, all_kinds, get_kind

JOB_CHIPS = 12
LOG_TAIL = 400


@requires("scheduling.view_schedulerstate")
@require_safe
def run_list(request: HttpRequest) -> HttpResponse:
    """Runs of every kind that the user may see, newest first."""
    kinds = visible_kinds(request.user)
    chosen = [kind for kind in kinds if kind.kind == request.GET.get("kind")]
    job = number(request.GET.get("job")) if chosen else None
    status = status_filter(request)
    querysets = {kind.kind: _filtered(kind, job, status) for kind in chosen or kinds}
    page = run_page(querysets, before=request.GET.get("before"), after=request.GET.get("after"))
    kind_name = chosen[0].kind if chosen else ""
    context = {
        "page": page,
        "newer": link(request, after=page.newer) if page.newer else "",
        "older": link(request, before=page.older) if page.older else "",
        "kind_chips": chips(request, "kind", [(kind.kind, kind.label) for kind in kinds], kind_name, job=""),
        "status_chips": status_chips(request, status),
        "job_chips": _job_chips(request, page.runs, job),
        "clear_url": request.path if kind_name or status else "",
        "swaps": wants_region(request),
    }
    return render_region(request, "scheduling/run_list.html", "runs", context)


@requires("scheduling.view_schedulerstate")
@require_safe
def run_detail(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """One run. While it is not over, the page asks again and gets its state and the log lines it has not shown."""
    run_kind = _kind_or_404(kind)
    if not request.user.has_perm(run_kind.view_permission):
        raise PermissionDenied(
            f"This needs the permission {run_kind.view_permission}. Ask an administrator for a role that has it."
        )
    model: Any = run_kind.run_model
    run = get_object_or_404(model.objects.select_related("job"), pk=pk)
    context = {
        "run": run,
        "kind": run_kind,
        "same_job_url": f"{reverse('scheduling:run_list')}?kind={kind}&job={run.job_id}" if run.job_id else "",
        "swaps": wants_region(request),
        **_log(request, run_kind, run),
    }
    return render_region(request, "scheduling/run_detail.html", "live", context)


def visible_kinds(user: User | AnonymousUser) -> list[RunKind]:
    """The kinds of run that the user may look at."""
    return [kind for kind in all_kinds() if user.has_perm(kind.view_permission)]


def _kind_or_404(name: str) -> RunKind:
    try:
        return get_kind(name)
    except LookupError as error:
        raise Http404(str(error)) from error


def _filtered(kind: RunKind, job: int | None, status: str) -> Any:
    model: Any = kind.run_model
    # Figures can be long, and the list shows none of them.
    return filtered(model.objects.defer("result_json", "params"), status=status, job=job)


def _job_chips(request: HttpRequest, runs: list[Run], chosen: int | None) -> list[Chip]:
    """Chips for the first jobs on the page: with thousands of jobs there could not be one for each."""
    found: dict[tuple[str, int], str] = {}
    for run in runs:
        job_id: int | None = getattr(run, "job_id", None)
        if job_id is not None and len(found) < JOB_CHIPS:
            found.setdefault((run.kind, job_id), run.job_name)
    if chosen is not None and not found:
        found[request.GET.get("kind", ""), chosen] = "This job"
    every = Chip(label="All", url=link(request, job=""), active=chosen is None)
    some = [
        Chip(label=name, url=link(request, kind=kind, job=pk), active=pk == chosen)
        for (kind, pk), name in found.items()
    ]
    return [every, *some] if some else []


def _log(request: HttpRequest, kind: RunKind, run: Run) -> dict[str, Any]:
    """The lines after the one that the page has; for a whole page the newest, or all (a log is bounded) with `?all`."""
    model: Any = kind.log_model
    lines = model.objects.filter(run_id=run.pk)
    after = number(request.GET.get("after"))
    if wants_region(request) and after is not None:
        new = list(lines.filter(seq__gt=after).order_by("seq"))
        return {"new_lines": new, "last_seq": new[-1].seq if new else after}
    newest = list(lines.order_by("-seq")[: None if "all" in request.GET else LOG_TAIL])[::-1]
    return {
        "lines": newest,
        "last_seq": newest[-1].seq if newest else 0,
        "hidden_lines": newest[0].seq - 1 if newest else 0,
    }
