from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from accounts.permissions import public
from config.api import api, unknown_address
from config.health import health
from config.views import dashboard, favicon

# What ninja adds to the operations; people read these in the browser, so they keep the sign-in page.
API_PAGES = ("openapi-json", "openapi-view", "api-root")


def without_sign_in_page(patterns: list[URLPattern | URLResolver]) -> list[URLPattern | URLResolver]:
    """API operations answer 401 by themselves, where a page sends the caller to the sign-in form."""
    for pattern in patterns:
        if isinstance(pattern, URLPattern) and pattern.name not in API_PAGES:
            login_not_required(pattern.callback)
    return patterns


_api_patterns, _api_app, _api_namespace = api.urls

urlpatterns = [
    path("health/", health, name="health"),
    path("favicon.ico", favicon, name="favicon"),
    path("", dashboard, name="dashboard"),
    # One sign-in form: the admin site's own would not count failed attempts.
    path("admin/login/", public(RedirectView.as_view(pattern_name="accounts:login", query_string=True))),
    path("admin/", admin.site.urls),
    path("api/v1/", (without_sign_in_page(_api_patterns), _api_app, _api_namespace)),
    path("api/<path:rest>", unknown_address, name="unknown_api_address"),
    path("", include("accounts.urls")),
    path("", include("backups.urls")),
    path("", include("maintenance.urls")),
    path("", include("scheduling.urls")),
]
