"""What was typed survives the end of a session: for the same person, for an hour, and never sent by itself."""

from __future__ import annotations

import re
import time
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

from accounts import kept_forms
from backups.models import Target
from tests.factories import BackupJobFactory, BackupRunFactory

pytestmark = pytest.mark.django_db

PASSWORD = "a long enough one"
TYPED = {"name": "my <photos>", "source": "files", "paths": "/srv/photos\n/srv/more", "exclude": "*.tmp"}
ADDRESS = "/targets/new/"


@pytest.fixture
def people() -> None:
    for name in ("ann", "bob"):
        User.objects.create_superuser(name, password=PASSWORD)


def sign_in(client: Client, name: str, to: str = "/") -> Any:
    return client.post("/account/login/", {"username": name, "password": PASSWORD, "next": to})


def expire(client: Client) -> None:
    """The session is gone from the server; the browser still sends its cookies."""
    Session.objects.all().delete()
    client.cookies.pop("keepwell_session", None)


def next_of(answer: Any) -> str:
    assert answer.status_code == 302, answer.content
    found = re.fullmatch(r"/account/login/\?next=(.*)", answer["Location"])
    assert found is not None
    return unescape(found[1]).replace("%3F", "?").replace("%3D", "=").replace("%26", "&")


def field(html: str, name: str) -> str:
    """The value of a text field or area of the page."""
    found = re.search(rf'<input[^>]*name="{name}"[^>]*?(?:value="([^"]*)")?[^>]*>', html)
    area = re.search(rf'<textarea[^>]*name="{name}"[^>]*>\n?([^<]*)</textarea>', html)
    match = area or found
    assert match is not None
    attribute = re.search(r'value="([^"]*)"', match[0])
    return unescape(match[1] if area else attribute[1] if attribute else "").replace("\r\n", "\n")


@pytest.fixture
def ann(people: None, client: Client) -> Client:
    sign_in(client, "ann")
    return client


def test_a_form_sent_too_late_comes_back_filled_in_after_signing_in(ann: Client) -> None:
    expire(ann)
    page = next_of(ann.post(ADDRESS, TYPED))
    assert page.startswith(f"{ADDRESS}?typed=")
    assert "what you had typed is kept" in ann.get(f"/account/login/?next={page}").content.decode()
    assert sign_in(ann, "ann", page)["Location"] == page
    html = ann.get(page).content.decode()
    assert "You had been signed out, so what you sent changed nothing." in html
    assert [field(html, name) for name in ("name", "paths", "exclude")] == ["my <photos>", TYPED["paths"], "*.tmp"]
    # Shown and nothing more: it is the person who sends it.
    assert not Target.objects.exists()
    assert ann.post(page, TYPED).status_code == 302
    assert Target.objects.get().name == "my <photos>"
    assert field(ann.get(page).content.decode(), "name") == ""


def test_it_stays_while_the_page_is_loaded_again_and_is_not_on_other_pages(ann: Client) -> None:
    expire(ann)
    page = next_of(ann.post(ADDRESS, TYPED))
    sign_in(ann, "ann", page)
    for _ in range(2):
        assert field(ann.get(page).content.decode(), "name") == "my <photos>"
    assert field(ann.get(ADDRESS).content.decode(), "name") == ""
    assert field(ann.get(f"{ADDRESS}?typed=0123456789abcdef").content.decode(), "name") == ""
    assert "my &lt;photos&gt;" not in ann.get(page.replace("targets", "storages")).content.decode()


def test_nobody_else_sees_it(ann: Client) -> None:
    expire(ann)
    page = next_of(ann.post(ADDRESS, TYPED))
    sign_in(ann, "bob", page)
    html = ann.get(page).content.decode()
    assert "my &lt;photos&gt;" not in html
    assert "Somebody else had typed" in html
    assert kept_forms.SESSION_KEY not in ann.session
    # Nor does its own person any more, once somebody else was there.
    ann.post("/account/logout/")
    sign_in(ann, "ann", page)
    assert "my &lt;photos&gt;" not in ann.get(page).content.decode()


def test_not_even_from_the_own_session_is_what_another_person_typed_shown(ann: Client) -> None:
    expire(ann)
    page = next_of(ann.post(ADDRESS, TYPED))
    sign_in(ann, "ann", page)
    session = ann.session
    session[kept_forms.SESSION_KEY]["person"] = str(User.objects.get(username="bob").pk)
    session.save()
    assert field(ann.get(page).content.decode(), "name") == ""


def test_it_is_kept_for_an_hour(ann: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    expire(ann)
    page = next_of(ann.post(ADDRESS, TYPED))
    sign_in(ann, "ann", page)
    later = time.time() + kept_forms.KEPT_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert field(ann.get(page).content.decode(), "name") == ""


def test_the_session_after_signing_in_lasts_its_full_time(ann: Client) -> None:
    expire(ann)
    page = next_of(ann.post(ADDRESS, TYPED))
    assert ann.session.get_expiry_age() <= kept_forms.KEPT_SECONDS
    sign_in(ann, "ann", page)
    assert ann.session.get_expiry_age() > 24 * 3600


@pytest.mark.parametrize(
    "values",
    [
        {"name": "x" * (kept_forms.MOST_BYTES + 1)},
        {f"field{number}": "x" for number in range(kept_forms.MOST_FIELDS + 1)},
        {"password": "geheim", "api_token": "geheim"},
        {},
    ],
    ids=["long", "many fields", "only secrets", "nothing"],
)
def test_what_is_too_much_or_secret_is_not_kept(values: dict[str, str], ann: Client) -> None:
    expire(ann)
    assert next_of(ann.post(ADDRESS, values)) == ADDRESS
    assert Session.objects.count() == 0


def test_secrets_among_other_fields_are_left_out(ann: Client) -> None:
    expire(ann)
    ann.post(ADDRESS, {**TYPED, "secret_key": "geheim", "password": "geheim"})
    assert "geheim" not in str(dict(ann.session))
    assert "my <photos>" in str(dict(ann.session))


def test_a_browser_in_which_nobody_was_signed_in_makes_no_session(people: None) -> None:
    stranger = Client()
    for cookie in (None, "1", "1:forged"):
        if cookie:
            stranger.cookies[kept_forms.PERSON_COOKIE] = cookie
        assert next_of(stranger.post(ADDRESS, TYPED)) == ADDRESS
    assert Session.objects.count() == 0


def test_a_forged_form_is_neither_kept_nor_shown(people: None) -> None:
    browser = Client(enforce_csrf_checks=True)
    token = browser.get("/account/login/").context["csrf_token"]
    form = {"username": "ann", "password": PASSWORD, "csrfmiddlewaretoken": str(token)}
    assert browser.post("/account/login/", form).status_code == 302
    for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        answer = browser.post(ADDRESS, TYPED, headers=headers)
        assert answer.status_code == 403
        assert "typed=" not in answer.content.decode()
    assert "kept_form" not in browser.session


def test_a_form_older_than_a_sign_in_elsewhere_is_kept_for_whoever_is_signed_in(people: None) -> None:
    browser = Client(enforce_csrf_checks=True)
    token = browser.get("/account/login/").context["csrf_token"]
    browser.post("/account/login/", {"username": "ann", "password": PASSWORD, "csrfmiddlewaretoken": str(token)})
    answer = browser.post(
        ADDRESS, {**TYPED, "csrfmiddlewaretoken": str(token)}, headers={"Origin": "http://testserver"}
    )
    assert answer.status_code == 403
    found = re.search(r'href="([^"]+typed=[^"]+)"', answer.content.decode())
    assert found is not None
    assert field(browser.get(unescape(found[1])).content.decode(), "name") == "my <photos>"
    assert not Target.objects.exists()


def test_a_button_leads_back_to_its_page_and_is_not_pressed_by_itself(ann: Client) -> None:
    run, job = BackupRunFactory(failed=True), BackupJobFactory()
    expire(ann)
    referer = f"http://testserver/backup-jobs/{job.pk}/"
    page = next_of(ann.post(f"{run.get_absolute_url()}again/", {"x": "1"}, headers={"Referer": referer}))
    assert page.startswith(f"/backup-jobs/{job.pk}/?typed=")
    sign_in(ann, "ann", page)
    assert ann.get(page).status_code == 200
    assert type(run).objects.count() == 1


@pytest.mark.parametrize(
    "referer",
    [
        "https://evil.example/targets/new/",
        "http://testserver//evil.example/",
        "http://testserver/account/login/",
        "x",
        "http://[",
        "",
    ],
)
def test_a_strange_referer_leads_nowhere_else(referer: str, ann: Client) -> None:
    expire(ann)
    assert next_of(ann.post(ADDRESS, TYPED, headers={"Referer": referer})).startswith(f"{ADDRESS}?typed=")


@pytest.mark.parametrize("stored", [None, 7, [], {}, {"id": "x"}], ids=str)
def test_a_session_that_holds_something_else_is_no_error(stored: object, ann: Client) -> None:
    session = ann.session
    session[kept_forms.SESSION_KEY] = stored
    session.save()
    assert ann.get(f"{ADDRESS}?typed=x%00").status_code == 200
