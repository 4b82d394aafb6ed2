from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.permissions import requires
from backups.models import Options
from scheduling.cron import ScheduleError, load_zone, parse_cron

FIRES = 5


@dataclass(frozen=True, kw_only=True)
class SchedulePreview:
    """A schedule as a page shows it: in words with its next fires, or with the reason why it cannot be used."""

    schedule: str
    zone: str
    words: str = ""
    problem: str = ""
    fires: list[datetime] = field(default_factory=list)


def schedule_preview(schedule: str, zone: str) -> SchedulePreview:
    """What this schedule means in this IANA zone, counted from now; "" means by hand only."""
    text = schedule.strip()
    try:
        load_zone(zone)
        if not text:
            return SchedulePreview(schedule="", zone=zone, words="Only by hand.")
        cron = parse_cron(text)
        fires = cron.next_fires(timezone.now(), zone, FIRES)
    except ScheduleError as error:
        # Only a zone that can be used is given to the template, which shows times in it.
        return SchedulePreview(schedule=text, zone="UTC", problem=str(error))
    return SchedulePreview(schedule=text, zone=zone, words=f"{cron.words}.", fires=fires)


@requires("backups.view_backupjob")
@require_safe
def words(request: HttpRequest) -> HttpResponse:
    """A fragment: what the schedule that is being typed means."""
    zone = request.GET.get("timezone", "").strip() or Options.load().timezone
    preview = schedule_preview(request.GET.get("schedule", ""), zone)
    return render(request, "backups/schedule_words.html", {"preview": preview})
