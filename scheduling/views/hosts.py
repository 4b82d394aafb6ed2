from __future__ import annotations

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.permissions import requires
from scheduling.engine.delivery import uses_messages
from scheduling.exchange import render_region
from scheduling.host_overview import host_overview
from scheduling.views.kinds import visible_kinds


@requires("scheduling.view_host")
@require_safe
def host_list(request: HttpRequest) -> HttpResponse:
    """The hosts at work on this database, what runs on each, and what waits for a worker that is not there."""
    context = {
        "overview": host_overview(kinds=visible_kinds(request.user), now=timezone.now()),
        "version": settings.KEEPWELL_VERSION,
        "may_be_many": connection.vendor == "postgresql",
        "uses_messages": uses_messages(),
    }
    return render_region(request, "scheduling/host_list.html", "hosts", context)
