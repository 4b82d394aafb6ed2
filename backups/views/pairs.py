from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.permissions import requires
from backups.heatmap import AheadDay, PastDay, day_words, months, picture, year_before
from backups.models import Backup, BackupJob, BackupJobTarget, Hold, Options, Target
from backups.retention import PolicyError
from backups.services.forecast import Forecast, forecast_pair, forecast_until
from backups.services.retention import Pair
from backups.views.pair_copies import CopyRows, day_page
from backups.views.pair_history import days_ahead, leaving_uids, past_days
from scheduling.exchange import render_region

AHEAD = timedelta(days=90)
MAX_COPIES = 200
NEXT_TO_GO = 5
NIGHT_ENDS = 8


@requires("backups.view_backup")
@require_safe
def detail(request: HttpRequest, job_id: int, target_id: int) -> HttpResponse:
    """One target of one job: which copies there are, why each stays, and when it goes. `?day=` looks at one day."""
    job = get_object_or_404(BackupJob.objects.select_related("storage"), pk=job_id)
    target = get_object_or_404(Target, pk=target_id)
    of_pair = Backup.objects.of_pair(job.pk, target.pk)
    is_current = BackupJobTarget.objects.filter(job=job, target=target).exists()
    if not is_current and not of_pair.exists():
        raise Http404(f"{job.name} has never backed up {target.name}.")
    options, now = Options.load(), timezone.now()
    pair = Pair(job=job, target_id=target.pk, target_name=target.name)
    context = {"target": target, "job": job, "is_current": is_current, "options": options}
    try:
        forecast = _forecast(pair, options, now)
    except PolicyError as error:
        return render_region(request, "backups/pair_detail.html", "day", context | {"problem": str(error)})
    with timezone.override(forecast.timeline.zone):
        context |= {
            "forecast": forecast,
            "policy": forecast.plan.policy,
            "holds": Hold.objects.in_force(now).over(job_id=job.pk, target_id=target.pk).select_related("storage"),
            **_summary(forecast, now),
            **_calendar(request, forecast, target, options, now),
        }
        return render_region(request, "backups/pair_detail.html", "day", context)


def _forecast(pair: Pair, options: Options, now: datetime) -> Forecast:
    until = forecast_until(pair=pair, now=now, until=now + AHEAD)
    return forecast_pair(pair=pair, options=options, now=now, until=until)


def _summary(forecast: Forecast, now: datetime) -> dict[str, Any]:
    """The pair in numbers, now and when the forecast ends. What does not count as good stays, so it is in both."""
    verdicts = forecast.plan.verdicts
    good = sorted(verdict.candidate.created for verdict in verdicts if verdict.rank >= 0)
    flawed = [verdict.candidate for verdict in verdicts if verdict.candidate.flaw]
    end = forecast.timeline.days[-1]
    gaps = [(later - earlier, earlier) for earlier, later in pairwise([*good, now])]
    gap, gap_from = max(gaps, default=(None, None))
    approvals = forecast.timeline.approvals
    return {
        "copies": len(verdicts),
        "protected": sum(1 for verdict in verdicts if verdict.candidate.protections_at(now)),
        "stored": sum(verdict.candidate.size for verdict in verdicts),
        "oldest": good[0] if good else None,
        "gap": gap,
        "gap_from": gap_from,
        "end": end,
        "end_copies": end.copies + len(flawed),
        "end_stored": end.bytes + sum(copy.size for copy in flawed),
        "leaving": len(leaving_uids(forecast)),
        "cleanup_words": _cleanup_words(forecast.next_cleanup, now),
        "asks": forecast.next_cleanup in approvals if forecast.next_cleanup else bool(forecast.plan.stops),
    }


def _cleanup_words(at: datetime | None, now: datetime) -> str:
    """The next cleanup as people call it; times are those of the current zone."""
    if at is None:
        return "a cleanup"
    local, today = timezone.localtime(at), timezone.localtime(now).date()
    if local.date() - today <= timedelta(days=1) and local.hour < NIGHT_ENDS and local.date() > today:
        return "tonight’s cleanup"
    if local.date() == today:
        return f"today’s cleanup at {local:%H:%M}"
    return f"the cleanup on {day_words(local.date())}"


def _calendar(
    request: HttpRequest, forecast: Forecast, target: Target, options: Options, now: datetime
) -> dict[str, Any]:
    """The two pictures, the day that is looked at, and the copies as rows."""
    today = timezone.localtime(now).date()
    last = forecast.timeline.days[-1].day
    past = past_days(forecast=forecast, target=target, first=year_before(today), now=now)
    ahead = days_ahead(forecast=forecast)
    chosen = _chosen_day(request, year_before(today), last)
    rows = CopyRows(forecast=forecast, now=now, leaving=leaving_uids(forecast))
    copies = rows.newest(MAX_COPIES)
    return {
        "today": today,
        "last": last,
        "pictures": {
            "past": picture(past, first=year_before(today), last=today, today=today, chosen=chosen),
            "ahead": picture(ahead, first=today + timedelta(days=1), last=last, today=today, chosen=chosen),
        },
        "months": months(past),
        "going_by_month": _going_by_month(ahead),
        "day": None if chosen is None else day_page(day=chosen, rows=rows, past=past, trash_hours=options.trash_hours),
        "next_to_go": rows.next_to_go(NEXT_TO_GO),
        "rows": copies,
        "unlisted": len(forecast.plan.verdicts) - len(copies),
        "legend": _legend(past, ahead),
    }


def _chosen_day(request: HttpRequest, first: date, last: date) -> date | None:
    """The day in the address; None for what is no date, or none of the pictures'."""
    try:
        day = date.fromisoformat(request.GET.get("day", ""))
    except ValueError:
        return None
    return day if first <= day <= last else None


def _going_by_month(ahead: Mapping[date, AheadDay]) -> list[dict[str, Any]]:
    """The forecast summed up by month, soonest first."""
    sums: dict[date, dict[str, Any]] = {}
    for day, expected in ahead.items():
        month = sums.setdefault(day.replace(day=1), {"first": day.replace(day=1), "due": 0, "staying": 0, "going": 0})
        month["due"] += expected.due
        month["staying"] += expected.staying
        month["going"] += expected.going
    return list(sums.values())


def _legend(past: Mapping[date, PastDay], ahead: Mapping[date, AheadDay]) -> dict[str, bool]:
    """Which of the rarer marks the pictures have: the legend explains no others."""
    kinds = {day.kind for day in past.values()}
    shown = {kind: kind in kinds for kind in ("flawed", "failed", "missed", "trashed", "deleted", "leaving")}
    return shown | {
        "protected": any(day.protected for day in past.values()),
        "asks": any(day.asks for day in ahead.values()),
        "staying": any(day.staying for day in ahead.values()),
        "expected": any(day.due and not day.staying for day in ahead.values()),
        "losing": any(day.going for day in ahead.values()),
    }
