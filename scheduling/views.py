from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from accounts.permissions import requires
from scheduling.filters import STATUS_FILTERS, chips, link, status_chips, status_filter
from scheduling.heartbeat import scheduler_alive
from scheduling.models import Run
from scheduling.paging import run_page
from scheduling.registry import RunKind, all_kinds, get_kind

JOB_CHIPS = 12
LOG_TAIL = 400


@requires("scheduling.view_schedulerstate")
@require_safe
@vary_on_headers("HX-Request")
def run_list(request: HttpRequest) -> HttpResponse:
    """Runs of every kind that the user may see, newest first."""
    kinds = visible_kinds(request.user)
    chosen = [kind for kind in kinds if kind.kind == request.GET.get("kind")]
    job = _job_filter(request, chosen)
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
        "job_chips": _job_chips(request, chosen or kinds, chosen, job),
        "clear_url": request.path if kind_name or status else "",
        "scheduler_down": page.has_queued and not scheduler_alive(),
    }
    return render(request, "scheduling/run_list.html#runs" if _swaps(request) else "scheduling/run_list.html", context)


@requires("scheduling.view_schedulerstate")
@require_safe
@vary_on_headers("HX-Request")
def run_detail(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """One run. While it is not over, the page asks again and gets its state and the log lines it has not shown."""
    run_kind = _kind_or_404(kind)
    if run_kind not in visible_kinds(request.user):
        raise PermissionDenied(f"This needs the permission {run_kind.view_permission}. Ask an administrator for a role that has it.")
    model: Any = run_kind.run_model
    run: Run = get_object_or_404(model.objects.select_related("job"), pk=pk)
    template = "scheduling/run_detail.html"
    context = {
        "run": run,
        "kind": run_kind,
        "jobs_url": f"{request.path.rpartition(f'{kind}/')[0]}?kind={kind}&job={run.job_id}" if run.job_id else "",
        "scheduler_down": run.is_open and not run.is_active and not scheduler_alive(),
        **_log(request, run_kind, run),
    }
    return render(request, f"{template}#live" if _swaps(request) else template, context)


def visible_kinds(user: User | AnonymousUser) -> list[RunKind]:
    """The kinds of run that the user may look at."""
    return [kind for kind in all_kinds() if user.has_perm(kind.view_permission)]


def _swaps(request: HttpRequest) -> bool:
    """Whether htmx will swap a region of the page, rather than the browser show a new one."""
    return bool(getattr(request, "htmx", False))


def _kind_or_404(name: str) -> RunKind:
    try:
        return get_kind(name)
    except LookupError as error:
        raise Http404(str(error)) from error


def _job_filter(request: HttpRequest, chosen: list[RunKind]) -> int | None:
    """The id of the job asked for. A number means a job only together with its kind."""
    asked = request.GET.get("job", "")
    return int(asked) if chosen and asked.isascii() and asked.isdecimal() and len(asked) <= 18 else None


def _filtered(kind: RunKind, job: int | None, status: str) -> Any:
    model: Any = kind.run_model
    # Figures can be long, and the list shows none of them.
    runs = model.objects.defer("result_json", "params")
    if job is not None:
        runs = runs.filter(job=job)
    return runs.filter(STATUS_FILTERS[status][1]) if status else runs


def _job_chips(request: HttpRequest, kinds: list[RunKind], chosen: list[RunKind], job: int | None) -> list[Any]:
    """Chips for the jobs when there are few, else for the one that is chosen."""
    found: list[tuple[str, str, str]] = []
    for kind in kinds:
        jobs: Any = kind.run_model._meta.get_field("job").related_model
        rows = list(jobs._default_manager.order_by("name").values_list("pk", "name")[: JOB_CHIPS + 1])
        if job is not None and chosen and job not in [pk for pk, _ in rows]:
            rows += jobs._default_manager.filter(pk=job).values_list("pk", "name")
        found += [(kind.kind, str(pk), name) for pk, name in rows]
    if len(found) > JOB_CHIPS:
        found = [entry for entry in found if chosen and entry[1] == str(job)]
    here = str(job) if job is not None else ""
    return [
        *chips(request, "job", [], here)[: bool(found)],
        *(
            chip
            for kind_name, pk, name in found
            for chip in chips(request, "job", [(pk, name)], here if chosen else "", kind=kind_name)[1:]
        ),
    ]


def _log(request: HttpRequest, kind: RunKind, run: Run) -> dict[str, Any]:
    """The lines after the one that the page has, or the newest ones; all of them (they are bounded) when asked."""
    model: Any = kind.log_model
    lines = model.objects.filter(run_id=run.pk)
    after = request.GET.get("after", "")
    if _swaps(request) and after.isascii() and after.isdecimal() and len(after) <= 9:
        new = list(lines.filter(seq__gt=int(after)).order_by("seq")[:LOG_TAIL])
        return {"new_lines": new, "last_seq": new[-1].seq if new else int(after)}
    newest = list(lines.order_by("-seq")[: None if "all" in request.GET else LOG_TAIL])[::-1]
    return {
        "lines": newest,
        "last_seq": newest[-1].seq if newest else 0,
        "hidden_lines": newest[0].seq - 1 if newest else 0,
    }
