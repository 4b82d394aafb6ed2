from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from accounts.permissions import requires
from scheduling.choices import RunStatus
from scheduling.exchange import wants_region
from scheduling.filters import Chip, number
from scheduling.lineage import run_lineage
from scheduling.models import Host, Run
from scheduling.progress_bar import progress_bar
from scheduling.registry import RunKind
from scheduling.run_compare import run_comparison
from scheduling.run_lines import LEVELS, Lines, known_level, log_after, log_tail
from scheduling.timeline import headline, run_timeline
from scheduling.views.kinds import visible_kind, visible_kinds
from scheduling.waiting import run_waits

TEMPLATE = "scheduling/run_detail.html"
# A run that waits for longer than this is asked about rarely: a page left open overnight is to cost next to nothing.
SOON = timedelta(minutes=1)


@requires("scheduling.view_schedulerstate")
@require_safe
def run_detail(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """One run.

    While it is not over the page asks again, naming the last line and the state that it has; it gets what is new, and
    when the state has changed everything that depends on it.
    """
    run_kind = visible_kind(kind, request.user)
    model: Any = run_kind.run_model
    run = get_object_or_404(model.objects.select_related("job"), pk=pk)
    level, after = known_level(request.GET.get("level")), number(request.GET.get("after"))
    if wants_region(request) and after is not None:
        lines = log_after(run_kind, run, level=level, after=after)
        changed = request.GET.get("state") != run.status
        context = {**_now(run, run_kind, lines, level), "changed": changed}
        if changed:
            context |= _state(request, run, run_kind)
        return _answer(request, "news", context)
    lines = log_tail(run_kind, run, level=level, whole="all" in request.GET)
    context = _now(run, run_kind, lines, level)
    if wants_region(request):
        return _answer(request, "other-log", context)
    return _answer(request, "", context | _state(request, run, run_kind))


def _answer(request: HttpRequest, region: str, context: Mapping[str, Any]) -> HttpResponse:
    template = f"{TEMPLATE}#{region}" if region else TEMPLATE
    response = render(request, template, {**context, "swaps": bool(region)})
    patch_vary_headers(response, ["HX-Request"])
    return response


def _now(run: Run, kind: RunKind, lines: Lines, level: str) -> dict[str, Any]:
    """What every answer holds: where the run is by now, and lines of its log."""
    now = timezone.now()
    waits = run_waits(run, kind, now) if run.status == RunStatus.QUEUED else []
    address = run.get_absolute_url()  # type: ignore[attr-defined]  # each kind's own
    query = f"?after={lines.last_seq}&state={run.status}" + (f"&level={level}" if level else "")
    every = "200ms" if lines.more else _every(run, bool(waits), now)
    return {
        "run": run,
        "kind": kind,
        "headline": headline(run),
        "moments": run_timeline(run, now, served=not any(wait.needs_worker for wait in waits)),
        "waits": waits,
        "bar": progress_bar(run.progress, now) if run.status == RunStatus.RUNNING else None,
        "poll_url": f"{address}{query}" if run.is_open or lines.more else "",
        "poll_every": every,
        "lines": lines,
        "level": level,
        "has_log": bool(lines.counts.get("")),
        "level_chips": _level_chips(address, lines.counts, level) if lines.counts else [],
        "line_base": f"{address}?all" if level or lines.hidden else "",
    }


def _every(run: Run, waits: bool, now: datetime) -> str:
    if run.status != RunStatus.QUEUED:
        return "2s"
    if run.not_before is not None and run.not_before - now > SOON:
        return "30s"
    return "5s" if waits else "1s"


def _level_chips(address: str, counts: Mapping[str, int], chosen: str) -> list[tuple[str, Chip, int]]:
    return [
        (
            value or "all",
            Chip(label=words, url=f"{address}?level={value}" if value else address, active=value == chosen),
            counts.get(value, 0),
        )
        for value, (words, _) in LEVELS.items()
    ]


def _state(request: HttpRequest, run: Run, kind: RunKind) -> dict[str, Any]:
    """What changes with the state of the run only."""
    job_id: int | None = getattr(run, "job_id", None)
    host = Host.objects.filter(host=run.host).order_by("-seen_at").first() if run.host else None
    return {
        "host_name": host.hostname if host is not None else "",
        "same_job_url": f"{reverse('scheduling:run_list')}?kind={kind.kind}&job={job_id}" if job_id else "",
        "may_run": request.user.has_perm(kind.run_permission),
        "has_job": job_id is not None,
        "lineage": run_lineage(run, visible_kinds(request.user)),
        "comparison": run_comparison(run),
    }
