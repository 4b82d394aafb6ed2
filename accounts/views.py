from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts.forms import FirstAdministratorForm, TokenForm
from accounts.models import ApiToken
from accounts.permissions import public, signed_in
from accounts.services import administrator_create_first, token_create, token_revoke
from accounts.setup import discard_setup_token, setup_token_is_valid


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
    return redirect("dashboard")


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
