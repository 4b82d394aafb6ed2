from __future__ import annotations

from typing import Any, override

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from accounts.form_filling import fill_form
from accounts.kept_forms import PARAMETER, form_forget, form_keep, kept_form_of_page, last_person

# Where to sign in, for a page that asked for a part of itself after its session had ended.
SIGN_IN_HEADER = "Sign-In-At"


class SignInRequiredMiddleware(LoginRequiredMiddleware):
    """Every view needs a signed-in user unless it is marked `public`.

    When a page's session has ended, htmx would put the sign-in form into the swapped region, again and again: it is
    answered 401, and the page says so and stops asking. A form is kept and shown filled in after signing in again
    (`accounts.kept_forms`).
    """

    @override
    def process_view(
        self, request: HttpRequest, view_func: Any, view_args: tuple[Any, ...], view_kwargs: dict[str, Any]
    ) -> HttpResponseBase | None:
        answer = super().process_view(request, view_func, view_args, view_kwargs)
        if answer is None:
            return None
        htmx = getattr(request, "htmx", None)
        if htmx:
            sign_in = redirect_to_login(htmx.current_url_abs_path or "/").url
            return HttpResponse("You were signed out.", status=401, headers={SIGN_IN_HEADER: sign_in})
        page = form_keep(request, person=last_person(request))
        return redirect_to_login(page) if page else answer

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if PARAMETER not in request.GET or not hasattr(request, "session") or not request.user.is_authenticated:
            return response
        if request.method == "POST" and 300 <= response.status_code < 400:
            form_forget(request)
        elif request.method == "GET" and response.status_code == 200 and isinstance(response, HttpResponse):
            kept = kept_form_of_page(request)
            if kept is not None and response.get("Content-Type", "").startswith("text/html"):
                html = response.content.decode(response.charset)
                filled = fill_form(html, page=request.path, action=kept.action, values=kept.values)
                response.content = filled.encode(response.charset)
        return response
