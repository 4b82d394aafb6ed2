from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.permissions import public, requires
from config import dashboard as first_page
from scheduling.exchange import render_region
from scheduling.heartbeat import scheduler_heartbeat


@public
@require_safe
def favicon(_request: HttpRequest) -> HttpResponse:
    """What browsers ask for beside an answer that is not a page, such as the API's JSON."""
    return redirect(static("img/keepwell.svg"))


@requires("backups.view_backup")
@require_safe
def dashboard(request: HttpRequest) -> HttpResponse:
    """The first page. It asks for itself again only while something runs."""
    heartbeat = scheduler_heartbeat()
    page = first_page.dashboard(user=request.user, heartbeat=heartbeat, now=timezone.now())
    context = {"page": page, "scheduler_state": heartbeat}
    return render_region(request, "dashboard.html", "dashboard", context)
