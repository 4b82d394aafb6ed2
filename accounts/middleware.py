from __future__ import annotations

from typing import Any, override

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django_htmx.http import HttpResponseClientRedirect


class SignInRequiredMiddleware(LoginRequiredMiddleware):
    """Every view needs a signed-in user unless it is marked `public`.

    When a page's session has ended, htmx would put the sign-in form into the swapped region; the whole page goes there
    instead.
    """

    @override
    def process_view(
        self, request: HttpRequest, view_func: Any, view_args: tuple[Any, ...], view_kwargs: dict[str, Any]
    ) -> HttpResponseBase | None:
        answer = super().process_view(request, view_func, view_args, view_kwargs)
        htmx = getattr(request, "htmx", None)
        if answer is None or not htmx:
            return answer
        return HttpResponseClientRedirect(redirect_to_login(htmx.current_url_abs_path or "/").url)
