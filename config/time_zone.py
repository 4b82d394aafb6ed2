from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone

from backups.models import Options
from scheduling.cron import ScheduleError, load_zone


class OptionsTimeZoneMiddleware:
    """Show times in the zone of Options to everybody who is signed in: one small query a request.

    Times on the pages then agree with the schedules and with retention's days. The zone is left again after the
    request, because its thread serves others.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return self.get_response(request)
        name = Options.objects.values_list("timezone", flat=True).first() or "UTC"
        try:
            zone = load_zone(name)
        except ScheduleError:
            # A zone that this machine's zone database lacks: the Options page must still open, to change it.
            zone = load_zone("UTC")
        with timezone.override(zone):
            return self.get_response(request)
