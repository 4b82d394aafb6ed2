"""The list of runs, of both kinds together: filtered, paged, taken away as a file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.db.models import F, OuterRef, Subquery
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.permissions import requires
from scheduling.choices import RunOutcome, RunTrigger
from scheduling.choosing import Choice, jobs_like, name_of, names_like, target_model, targets_like
from scheduling.exchange import render_region, wants_region
from scheduling.exports import csv_lines, json_lines
from scheduling.filters import chips, link, status_chips
from scheduling.models import Host
from scheduling.paging import RunPage, every_run, run_page
from scheduling.progress_bar import progress_bar
from scheduling.registry import RunKind, get_kind
from scheduling.run_filter import Asked, has_targets, read_filter
from scheduling.search import excerpt, words_of
from scheduling.views.kinds import visible_kinds
from scheduling.waiting import add_waits

FILTERS = ("kind", "job", "target", "host", "status", "outcome", "trigger", "from", "to", "q")
HOST_ID = re.compile(r"[0-9a-f]{16,64}", re.ASCII)
EXPORTS = {"csv": ("text/csv", csv_lines), "json": ("application/json", json_lines)}


@dataclass(frozen=True, kw_only=True)
class ChosenFilter:
    """A filter that is on, in words, and the address without it."""

    label: str
    value: str
    url: str


@requires("scheduling.view_schedulerstate")
@require_safe
def run_list(request: HttpRequest) -> HttpResponse:
    """Runs of every kind that the user may see, newest first."""
    kinds = visible_kinds(request.user)
    asked, several = _named(read_filter(request.GET, kinds=kinds, zone=timezone.get_current_timezone()), kinds)
    clean = _address(request.GET, asked)
    if clean != request.GET:
        return redirect(f"{request.path}?{clean.urlencode()}" if clean else request.path)
    runs_filter = asked.filter
    page = RunPage(runs=[])
    if not (asked.job_text or asked.target_text):
        listings = runs_filter.listings(kinds, rows=_rows(runs_filter.text))
        page = run_page(listings, before=request.GET.get("before"), after=request.GET.get("after"))
    _add_words(page, runs_filter.text)
    chosen = _chosen(request, asked, page)
    context = {
        "page": page,
        "asked": asked,
        "filter": runs_filter,
        "chosen": chosen,
        "shows_more": bool(asked.job_text or asked.target_text) or any(each.label != "Text" for each in chosen),
        "from_day": timezone.localdate(runs_filter.since) if runs_filter.since else None,
        "to_day": timezone.localdate(runs_filter.until - timedelta(microseconds=1)) if runs_filter.until else None,
        "names": {each.label: each.value for each in chosen},
        "several": [(choice, link(request, kind=choice.kind.kind, **{what: choice.pk})) for what, choice in several],
        "newer": link(request, after=page.newer) if page.newer else "",
        "older": link(request, before=page.older) if page.older else "",
        "kind_chips": chips(
            request, "kind", [(kind.kind, kind.label) for kind in kinds], runs_filter.kind, job="", target=""
        ),
        "status_chips": status_chips(request, runs_filter.status),
        "triggers": RunTrigger.choices,
        "outcomes": RunOutcome.choices,
        "clear_url": request.path if runs_filter.is_on or asked.job_text or asked.target_text else "",
        "query": _filters_of(request.GET).urlencode(),
        "shows_hosts": bool(runs_filter.host) or len({run.host for run in page.runs if run.host}) > 1,
        "may_run": {kind.kind for kind in kinds if request.user.has_perm(kind.run_permission)},
        "all_ticked": "all" in request.GET,
        "tick_url": _here(request, ticked="all" not in request.GET),
        "here": _here(request, ticked=False),
        "swaps": wants_region(request),
    }
    return render_region(request, "scheduling/run_list.html", "runs", context)


@requires("scheduling.view_schedulerstate")
@require_safe
def run_choices(request: HttpRequest) -> HttpResponse:
    """Names of jobs, targets or hosts to choose from, as the options of a field: those that contain what was typed."""
    kinds = visible_kinds(request.user)
    of = request.GET.get("of", "")
    text = " ".join(request.GET.get(of, "").replace("\0", "").split())[:120] if of else ""
    names: list[str] = []
    if of == "job":
        names = names_like(text, [kind.job_model for kind in kinds])
    elif of == "target":
        names = names_like(text, [target_model(kind) for kind in kinds if has_targets(kind)])
    elif of == "host":
        found = Host.objects.filter(hostname__icontains=text).order_by("hostname").values_list("hostname", flat=True)
        names = list(found.distinct()[:20])
    return render(request, "scheduling/run_choices.html", {"names": names})


@requires("scheduling.view_schedulerstate")
@require_safe
def run_export(request: HttpRequest) -> HttpResponseBase:
    """Every run that the filters of the list leave, as a file; written while it is read, so of any length.

    A program does not see what a page would say about a filter that makes no sense, so then there is no file: 400.
    """
    kinds = visible_kinds(request.user)
    asked, several = _named(read_filter(request.GET, kinds=kinds, zone=timezone.get_current_timezone()), kinds)
    if asked.problems:
        lines_said = [*asked.problems, *(f"- {choice.name}" for _, choice in several), "Nothing was exported."]
        return HttpResponse("\n".join(lines_said) + "\n", status=400, content_type="text/plain; charset=utf-8")
    form = request.GET.get("format", "")
    form = form if form in EXPORTS else "csv"
    content_type, lines = EXPORTS[form]
    listings = asked.filter.listings(kinds)
    name = f"keepwell-runs-{timezone.localdate():%Y-%m-%d}.{form}"
    return StreamingHttpResponse(
        lines(every_run(listings)),
        content_type=f"{content_type}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _named(asked: Asked, kinds: list[RunKind]) -> tuple[Asked, list[tuple[str, Choice]]]:
    """With the ids of what was named, and what there is to choose from where a name fits several."""
    several: list[tuple[str, Choice]] = []
    on = asked.filter
    for what, text in (("job", asked.job_text), ("target", asked.target_text)):
        if not text:
            continue
        choices = _jobs_like(text, on.kind, kinds) if what == "job" else targets_like(text, kinds)
        if len(choices) == 1:
            changes: dict[str, Any] = {what: choices[0].pk, "kind": choices[0].kind.kind}
            blank: dict[str, Any] = {f"{what}_text": ""}
            asked = replace(asked, filter=replace(asked.filter, **changes), **blank)
        else:
            several += [(what, choice) for choice in choices]
            asked.problems.append(_unclear(what, text, choices))
    # An id needs no look-up: the rows know the host's name.
    if on.host and not HOST_ID.fullmatch(on.host):
        found_host = Host.objects.filter(hostname__iexact=on.host).order_by("-seen_at").first()
        if found_host is not None:
            asked = replace(asked, filter=replace(asked.filter, host=found_host.host))
    return asked, several


def _jobs_like(text: str, kind: str, kinds: list[RunKind]) -> list[Choice]:
    """Of the kind that is shown if there are any: the kind may be left from a job that was chosen before."""
    return jobs_like(text, [each for each in kinds if each.kind == kind]) or jobs_like(text, kinds)


def _unclear(what: str, text: str, choices: list[Choice]) -> str:
    if choices:
        return f"“{text}” fits several {what}s. Choose one:"
    return f"No {what} has a name with “{text}” in it. If it was deleted, search for its name in the texts instead."


def _address(query: QueryDict, asked: Asked) -> QueryDict:
    """The address without blank filters, and with ids where names were typed."""
    clean = query.copy()
    for name in FILTERS:
        if name in clean and not str(clean[name]).strip():
            del clean[name]
    if asked.filter.job is not None and (":" in clean.get("job", "") or not clean.get("job", "").isdecimal()):
        clean["kind"], clean["job"] = asked.filter.kind, str(asked.filter.job)
    if asked.filter.target is not None and not clean.get("target", "").isdecimal():
        clean["target"] = str(asked.filter.target)
    if asked.filter.host and "host" in clean:
        clean["host"] = asked.filter.host
    return clean


def _filters_of(query: QueryDict) -> QueryDict:
    kept = query.copy()
    for name in list(kept):
        if name not in FILTERS:
            del kept[name]
    return kept


def _here(request: HttpRequest, *, ticked: bool) -> str:
    """This very page, with all its boxes ticked (for when there is no script to tick them) or none."""
    query = request.GET.copy()
    query.pop("all", None)
    if ticked:
        query["all"] = "1"
    return f"{request.path}?{query.urlencode()}" if query else request.path


def _rows(text: str) -> Callable[[Any], Any]:
    """What a row shows beside its own columns: where it ran, and the words that it was found by."""
    hosts = Host.objects.filter(host=OuterRef("host")).order_by("-seen_at").values("hostname")[:1]
    more = {"body": F("text__body")} if text else {}
    return lambda runs: runs.annotate(host_name=Subquery(hosts), **more)


def _add_words(page: RunPage, text: str) -> None:
    """How far each running run is, what queued ones wait for, and where in its log each found one has the words."""
    words, now = words_of(text), timezone.now()
    add_waits(page.runs, now)
    for run in page.runs:
        shown: Any = run
        if run.is_active:
            shown.bar = progress_bar(run.progress, now)
        elif words:
            shown.excerpt = excerpt(shown.body or "", words)


def _chosen(request: HttpRequest, asked: Asked, page: RunPage) -> list[ChosenFilter]:
    """The filters that are on beside kind and status, which have chips of their own."""
    on = asked.filter
    first: Any = page.runs[0] if page.runs else None
    found: list[tuple[str, str, str]] = []
    if on.job is not None:
        name = first.job_name if first else name_of(get_kind(on.kind).job_model, on.job)
        found.append(("Job", name, "job"))
    if on.target is not None:
        kinds = [kind for kind in visible_kinds(request.user) if has_targets(kind)]
        found.append(("Target", name_of(target_model(kinds[0]), on.target) if kinds else "", "target"))
    if on.host:
        found.append(("Host", (first and first.host_name) or on.host, "host"))
    if on.trigger:
        found.append(("Trigger", str(RunTrigger(on.trigger).label), "trigger"))
    if on.outcome:
        found.append(("Outcome", str(RunOutcome(on.outcome).label), "outcome"))
    if on.since:
        found.append(("From", request.GET.get("from", ""), "from"))
    if on.until:
        found.append(("To", request.GET.get("to", ""), "to"))
    if on.text:
        found.append(("Text", on.text, "q"))
    return [ChosenFilter(label=label, value=value, url=link(request, **{name: ""})) for label, value, name in found]
