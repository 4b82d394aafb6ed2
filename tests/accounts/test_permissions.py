"""The decorators themselves, called without the middleware that stands before them in a request."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from ninja.errors import HttpError

from accounts.permissions import requires, requires_api, signed_in

pytestmark = pytest.mark.django_db
BOTH = ("backups.add_target", "backups.add_backupjob")


def view(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("secret")


def request_of(user: User | AnonymousUser) -> HttpRequest:
    request = RequestFactory().get("/targets/new/?name=etc")
    request.user = user
    return request


def person_with(*permissions: str) -> User:
    user = User.objects.create_user("somebody")
    for permission in permissions:
        app_label, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app_label, codename=codename))
    return user


@pytest.mark.parametrize("decorate", [requires(*BOTH), signed_in], ids=["requires", "signed_in"])
def test_somebody_not_signed_in_is_sent_to_the_sign_in_page_and_back(decorate: Callable[..., Callable]) -> None:
    answer = decorate(view)(request_of(AnonymousUser()))
    assert answer.status_code == 302
    assert answer["Location"] == "/account/login/?next=/targets/new/%3Fname%3Detc"


@pytest.mark.parametrize(
    ("decorate", "refusal"), [(requires, PermissionDenied), (requires_api, HttpError)], ids=["page", "operation"]
)
@pytest.mark.parametrize("held", [(), BOTH[:1], BOTH[1:]], ids=["none", "first", "second"])
def test_all_the_permissions_are_needed_and_the_refusal_names_what_is_missing(
    decorate: Callable[..., Callable], refusal: type[Exception], held: tuple[str, ...]
) -> None:
    missing = " and ".join(permission for permission in BOTH if permission not in held)
    with pytest.raises(refusal, match=f"needs the permission {missing}. Ask an administrator"):
        decorate(*BOTH)(view)(request_of(person_with(*held)))


@pytest.mark.parametrize("decorate", [requires, requires_api], ids=["page", "operation"])
def test_who_has_them_all_is_let_in(decorate: Callable[..., Callable]) -> None:
    assert decorate(*BOTH)(view)(request_of(person_with(*BOTH))).content == b"secret"
