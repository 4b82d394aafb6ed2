from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from accounts.throttle import LIMIT
from tests.accounts.routes import Route, routes

# Nothing else may be reached without signing in.
PUBLIC = {
    "favicon",
    "health",
    "accounts:login",
    "accounts:logout",
    "accounts:setup",
    "/admin/login/",
    "unknown_api_address",
}

VALUES = {"token": "kw_x", "kind": "backup", "key": "x", "uid": "0" * 16}


def test_only_the_views_on_the_list_are_public() -> None:
    assert {route.name for route in routes() if route.is_public} == PUBLIC


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("route", [route for route in routes() if not route.is_public], ids=lambda route: route.name)
def test_every_other_view_asks_to_sign_in(client: Any, route: Route, method: str) -> None:
    url = route.url({name: VALUES.get(name, 1) for name in route.parameters})
    answer = client.generic(method, url)
    if route.is_api:
        assert answer.status_code in (401, 405), answer.content
    else:
        assert (answer.status_code, answer.headers.get("Location", "")[:16]) == (302, "/account/login/?")


@pytest.mark.django_db
@pytest.mark.parametrize("url", ["/api/v1/docs", "/api/v1/openapi.json", "/admin/"])
def test_the_api_page_and_the_admin_site_ask_to_sign_in(client: Any, url: str) -> None:
    assert client.get(url).status_code == 302


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_htmx_is_refused_and_told_where_to_sign_in_instead_of_getting_the_form(client: Any, method: str) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/runs/?status=failed"}
    answer = client.generic(method, "/", headers=headers)
    assert (answer.status_code, answer.headers["Sign-In-At"]) == (
        401,
        "/account/login/?next=/runs/%3Fstatus%3Dfailed",
    )
    assert "<form" not in answer.content.decode()


def test_signing_in_leads_back_to_the_page_that_was_asked_for(client: Any, ann: User) -> None:
    answer = client.post(
        "/account/login/", {"username": "ann", "password": "a long enough one", "next": "/account/tokens/"}
    )
    assert (answer.status_code, answer.headers["Location"]) == (302, "/account/tokens/")


def test_signing_in_never_leads_to_another_site(client: Any, ann: User) -> None:
    form = {"username": "ann", "password": "a long enough one", "next": "https://elsewhere.example/"}
    assert client.post("/account/login/", form).headers["Location"] == "/"


def test_signing_out_needs_a_post(client: Any, ann: User) -> None:
    client.force_login(ann)
    assert client.get("/account/logout/").status_code == 405
    assert client.post("/account/logout/").status_code == 302
    assert client.get("/account/tokens/").status_code == 302


def test_guessing_is_stopped_even_for_the_right_password_and_only_for_that_account(client: Any, ann: User) -> None:
    User.objects.create_user("bob", password="a long enough one")
    for _ in range(LIMIT):
        client.post("/account/login/", {"username": "ann", "password": "wrong"})
    answer = client.post("/account/login/", {"username": "Ann", "password": "a long enough one"})
    assert "Too many failed attempts for this account. Wait 5 minutes" in answer.content.decode()
    assert client.post("/account/login/", {"username": "ann", "password": "a long enough one"}).status_code == 200
    assert client.post("/account/login/", {"username": "bob", "password": "a long enough one"}).status_code == 302


def test_a_success_forgets_the_failures_before_it(client: Any, ann: User) -> None:
    for password in ["wrong"] * (LIMIT - 1) + ["a long enough one"] + ["wrong"] * (LIMIT - 1):
        client.post("/account/login/", {"username": "ann", "password": password})
    assert client.post("/account/login/", {"username": "ann", "password": "a long enough one"}).status_code == 302


def test_the_admin_site_uses_the_same_sign_in_form(client: Any, db: None) -> None:
    answer = client.get("/admin/login/?next=/admin/")
    assert answer.headers["Location"] == "/account/login/?next=/admin/"


def test_the_password_is_changed_with_the_old_one_only(client: Any, ann: User) -> None:
    client.force_login(ann)
    form = {"old_password": "wrong", "new_password1": "quite another one", "new_password2": "quite another one"}
    assert client.post("/account/password/", form).status_code == 200
    assert client.post("/account/password/", {**form, "old_password": "a long enough one"}).status_code == 302
    ann.refresh_from_db()
    assert ann.check_password("quite another one")
