from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.permissions import requires


@requires("backups.view_backup")
def dashboard(request: HttpRequest) -> HttpResponse:
    """The first page."""
    return render(request, "dashboard.html")
