from __future__ import annotations

from typing import Any, override

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts.forms import FirstAdministratorForm, SignInForm, TokenForm
from accounts.kept_forms import form_forget, form_keep, kept_form, last_person, person_remember
from accounts.models import ApiToken
from accounts.permissions import public, signed_in
from accounts.services import administrator_create_first, token_create, token_revoke
from accounts.setup import discard_setup_token, setup_token_is_valid


class SignInView(LoginView):
    """Django's sign-in page, which also says that a form is kept, and gives it back to whoever typed it."""

    authentication_form = SignInForm

    @override
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), "has_kept_form": kept_form(self.request) is not None}

    @override
    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        kept = kept_form(self.request)
        response = super().form_valid(form)
        user = form.get_user()
        # The session of nobody had an hour; this one has its full time.
        self.request.session.set_expiry(None)
        person_remember(response, user)
        if kept is not None and kept.person == str(user.pk):
            messages.warning(
                self.request,
                "You had been signed out, so what you sent changed nothing. What you had typed is filled in again: "
                "look it through, then send it.",
            )
        elif kept is not None:
            form_forget(self.request)
            messages.info(self.request, "Somebody else had typed into a form here. It is not shown, and not kept.")
        return response


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The page for a form that does not carry this browser's secret any more, most often because of a later sign-in.

    What was typed is kept if the browser says that the form was one of this site's own: an origin that is not was
    refused for that, before its secret was looked at.
    """
    page = ""
    if request.headers.get("Origin") and not reason.startswith("Origin") and not request.headers.get("HX-Request"):
        signed_in_now = isinstance(request.user, User)
        page = form_keep(request, person=str(request.user.pk) if signed_in_now else last_person(request))
        page = page if signed_in_now or not page else redirect_to_login(page).url
    return render(request, "403_csrf.html", {"page": page}, status=403)


@public
@never_cache
@sensitive_post_parameters("password1", "password2")
@require_http_methods(["GET", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Create the first administrator. A wrong or used link is a 404 that says how to get one."""
    if not setup_token_is_valid(token):
        return render(request, "accounts/setup_unavailable.html", status=404)
    form = FirstAdministratorForm(request.POST or None)
    if request.method == "GET" or not form.is_valid():
        return render(request, "accounts/setup.html", {"form": form}, status=422 if form.is_bound else 200)
    user = administrator_create_first(username=form.cleaned_data["username"], password=form.cleaned_data["password1"])
    if user is None:
        return render(request, "accounts/setup_unavailable.html", status=404)
    discard_setup_token()
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    response = redirect("dashboard")
    person_remember(response, user)
    return response


@signed_in
@never_cache
@require_http_methods(["GET", "POST"])
def token_list(request: HttpRequest) -> HttpResponseBase:
    """One's own tokens; a POST creates one and shows its secret in that one answer."""
    user, now = _signed_in_user(request), timezone.now()
    form = TokenForm(request.POST or None)
    secret = ""
    if request.method == "POST" and form.is_valid():
        lifetime = form.cleaned_data["lifetime"]
        _, secret = token_create(
            user=user, name=form.cleaned_data["name"], now=now, expires_at=now + lifetime if lifetime else None
        )
        form = TokenForm()
    tokens = [(token, token.state(now)) for token in ApiToken.objects.filter(user=user)]
    context = {"form": form, "tokens": tokens, "secret": secret}
    return render(request, "accounts/token_list.html", context, status=422 if form.errors else 200)


@signed_in
@require_POST
def token_revoke_view(request: HttpRequest, pk: int) -> HttpResponseBase:
    token = get_object_or_404(ApiToken, pk=pk, user=_signed_in_user(request))
    token_revoke(token=token, now=timezone.now())
    messages.success(request, f"{token.name} is revoked. Programs that use it are refused from now on.")
    return redirect("accounts:token_list")


def _signed_in_user(request: HttpRequest) -> User:
    """The user behind a view that is only reached signed in."""
    if not isinstance(request.user, User):
        raise TypeError("This view is missing its @signed_in or @requires")
    return request.user
