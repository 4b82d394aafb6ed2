from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from ninja.errors import HttpError

from accounts.api import BearerToken, SessionUser
from accounts.models import ApiToken
from accounts.permissions import requires_api
from accounts.services import token_create, token_revoke, token_use

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_a_token_opens_the_api_as_its_owner(ann: User, rf: RequestFactory) -> None:
    _, secret = token_create(user=ann, name="monitoring", now=NOW)
    request = rf.get("/", headers={"Authorization": f"Bearer {secret}"})
    request.user = AnonymousUser()
    assert BearerToken()(request) == ann
    assert request.user == ann


@pytest.mark.parametrize("damage", ["revoked", "expired", "owner inactive", "owner deleted", "other secret", "empty"])
def test_a_token_that_should_not_work_does_not(ann: User, damage: str) -> None:
    token, secret = token_create(user=ann, name="x", now=NOW, expires_at=NOW + timedelta(hours=1))
    assert token_use(secret=secret, now=NOW) == ann
    later = NOW
    match damage:
        case "revoked":
            token_revoke(token=token, now=NOW)
        case "expired":
            later = NOW + timedelta(hours=1)
        case "owner inactive":
            User.objects.update(is_active=False)
        case "owner deleted":
            ann.delete()
        case "other secret":
            secret = secret[:-1] + ("A" if secret[-1] != "A" else "B")
        case "empty":
            secret = ""
    assert token_use(secret=secret, now=later) is None


def test_the_secret_is_never_stored(ann: User) -> None:
    token, secret = token_create(user=ann, name="x", now=NOW)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM accounts_apitoken")
        stored = " ".join(str(value) for row in cursor.fetchall() for value in row)
    assert secret not in stored
    assert secret.removeprefix(token.prefix) not in stored
    assert len(secret) >= 46, "256 random bits behind the first letters"


def test_the_last_use_is_written_at_most_once_a_minute(ann: User) -> None:
    token, secret = token_create(user=ann, name="x", now=NOW)
    for seconds in (0, 1, 59):
        token_use(secret=secret, now=NOW + timedelta(seconds=seconds))
    token.refresh_from_db()
    assert token.last_used_at == NOW
    with CaptureQueriesContext(
        connection,
    ) as queries:
        token_use(secret=secret, now=NOW + timedelta(seconds=30))
    assert not [query for query in queries if query["sql"].startswith("UPDATE")]
    token_use(secret=secret, now=NOW + timedelta(seconds=60))
    token.refresh_from_db()
    assert token.last_used_at == NOW + timedelta(seconds=60)


def test_revoking_twice_keeps_the_first_time(ann: User) -> None:
    token, _ = token_create(user=ann, name="x", now=NOW)
    token_revoke(token=token, now=NOW)
    token_revoke(token=token, now=NOW + timedelta(days=1))
    token.refresh_from_db()
    assert token.revoked_at == NOW


def test_the_page_shows_a_new_token_once(client: Any, ann: User) -> None:
    client.force_login(ann)
    page = client.post("/account/tokens/", {"name": "monitoring", "lifetime": "30"}).content.decode()
    found = re.search(r"kw_[\w-]{43}", page)
    assert found
    assert token_use(secret=found[0], now=datetime.now(UTC)) == ann
    again = client.get("/account/tokens/").content.decode()
    assert found[0] not in again
    assert "monitoring" in again


@pytest.mark.parametrize(("lifetime", "days"), [("30", 30), ("365", 365), ("", None)])
def test_a_token_expires_when_it_was_said_to(client: Any, ann: User, lifetime: str, days: int | None) -> None:
    client.force_login(ann)
    client.post("/account/tokens/", {"name": "x", "lifetime": lifetime})
    token = ApiToken.objects.get()
    assert (token.expires_at and (token.expires_at - token.created_at).days) == days


def test_a_token_without_a_name_is_not_made(client: Any, ann: User) -> None:
    client.force_login(ann)
    for name in (" ", "\u200b", "\u202ebackwards"):
        assert client.post("/account/tokens/", {"name": name}).status_code == 422
    assert not ApiToken.objects.exists()


def test_a_token_is_revoked_by_its_owner_only(client: Any, ann: User) -> None:
    token, secret = token_create(user=ann, name="x", now=NOW)
    url = f"/account/tokens/{token.pk}/revoke/"
    client.force_login(User.objects.create_user("bob"))
    assert client.post(url).status_code == 404
    assert token_use(secret=secret, now=NOW) == ann
    client.force_login(ann)
    assert client.get(url).status_code == 405
    assert client.post(url).status_code == 302
    assert token_use(secret=secret, now=NOW) is None


def test_the_admin_site_shows_tokens_read_only_and_without_the_digest(admin_client: Any, ann: User) -> None:
    token, _ = token_create(user=ann, name="monitoring", now=NOW)
    page = admin_client.get(f"/admin/accounts/apitoken/{token.pk}/change/").content.decode()
    assert "monitoring" in page
    assert token.digest not in page
    assert admin_client.get("/admin/accounts/apitoken/add/").status_code == 403
    assert admin_client.post(f"/admin/accounts/apitoken/{token.pk}/delete/").status_code == 403


def test_a_session_needs_the_csrf_token_where_a_bearer_token_does_not(ann: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ann)
    request = RequestFactory().post("/")
    request.user, request.COOKIES = ann, {name: morsel.value for name, morsel in client.cookies.items()}
    with pytest.raises(HttpError) as refusal:
        SessionUser()(request)
    assert refusal.value.status_code == 403


def test_without_a_session_the_answer_is_not_signed_in_rather_than_csrf(db: None) -> None:
    request = RequestFactory().post("/")
    request.user = AnonymousUser()
    assert SessionUser()(request) is None


def test_an_operation_names_the_permission_that_is_missing(ann: User, rf: RequestFactory) -> None:
    @requires_api("backups.view_target")
    def operation(request: Any, count: int = 3) -> int:
        return count

    request = rf.get("/")
    request.user = ann
    with pytest.raises(HttpError, match=r"backups\.view_target") as refusal:
        operation(request)
    assert refusal.value.status_code == 403
    request.user = User(username="root", is_superuser=True, is_active=True)
    assert operation(request, count=4) == 4
