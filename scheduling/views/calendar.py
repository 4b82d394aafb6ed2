"""The calendar of runs: what ran and what is to run, by month and by week."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.permissions import requires
from scheduling.calendar_days import JOB_CHIPS, MONTH, WEEK, Asked
from scheduling.calendar_page import calendar
from scheduling.choosing import jobs_like
from scheduling.days import day_of, day_parse
from scheduling.exchange import render_region, wants_region
from scheduling.filters import Chip, chips, link, number
from scheduling.views.kinds import visible_kinds

VIEWS = ((MONTH, "Month"), (WEEK, "Week"))


@requires("scheduling.view_schedulerstate")
@require_safe
def calendar_(request: HttpRequest) -> HttpResponse:
    """A month or a week around a day, by the address alone; what is wrong in that is left out."""
    now, zone = timezone.now(), timezone.get_current_timezone()
    kinds = visible_kinds(request.user)
    chosen = [kind for kind in kinds if kind.kind == request.GET.get("kind")]
    typed = " ".join(request.GET.get("job", "").replace("\0", "").split())[:120]
    if chosen and number(typed) is not None:
        typed = ""
    several = jobs_like(typed, chosen or kinds) if typed else []
    if len(several) == 1:
        return redirect(link(request, kind=several[0].kind.kind, job=several[0].pk))
    asked = Asked(
        view=WEEK if request.GET.get("view") == WEEK else MONTH,
        day=day_parse(request.GET.get("date")) or day_of(now, zone),
        kinds=tuple(chosen or kinds),
        kind=chosen[0].kind if chosen else "",
        job=number(request.GET.get("job")) if chosen else None,
    )
    found = calendar(asked, zone=zone, zone_name=timezone.get_current_timezone_name(), now=now)
    every_job = Chip(label="All", url=link(request, job=""), active=asked.job is None)
    some_jobs = [
        Chip(label=name, url=link(request, kind=kind, job=pk), active=pk == asked.job) for kind, pk, name in found.jobs
    ]
    too_many = len(some_jobs) > JOB_CHIPS
    context = {
        "calendar": found,
        "asked": asked,
        "today": day_of(now, zone),
        "zone_name": timezone.get_current_timezone_name(),
        "view_chips": [
            Chip(label=label, url=link(request, view=view, date=asked.day), active=view == asked.view)
            for view, label in VIEWS
        ],
        "kind_chips": chips(request, "kind", [(kind.kind, kind.label) for kind in kinds], asked.kind, job=""),
        "job_chips": [every_job, *some_jobs] if some_jobs and not too_many else [],
        "finds_jobs": asked.job is None and (too_many or not found.names_all or bool(typed)),
        "typed": typed,
        "several": [(choice, link(request, kind=choice.kind.kind, job=choice.pk)) for choice in several],
        "clear_url": link(request, kind="", job="") if asked.kind else "",
        "previous_url": link(request, date=found.previous),
        "following_url": link(request, date=found.following),
        "today_url": link(request, date=""),
        "swaps": wants_region(request),
    }
    return render_region(request, "scheduling/calendar.html", "calendar", context)
