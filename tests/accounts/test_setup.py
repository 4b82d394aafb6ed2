from __future__ import annotations

import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client

from accounts.setup import ensure_setup_link

FORM = {"username": "root", "password1": "correct horse battery", "password2": "correct horse battery"}


def setup_path() -> str:
    link = ensure_setup_link()
    assert link is not None
    return link.removeprefix("http://localhost:8000")


@pytest.mark.django_db
def test_the_link_is_kept_for_its_owner_alone_and_stays_the_same(data_folder: Path) -> None:
    path = setup_path()
    file = data_folder / "setup-token"
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_text().strip()) >= 43, "32 random bytes"
    assert path == setup_path() == f"/setup/{file.read_text().strip()}/"


@pytest.mark.django_db
def test_the_link_makes_one_administrator_who_is_signed_in_and_then_is_gone(client: Any, data_folder: Path) -> None:
    path = setup_path()
    assert client.get(path).status_code == 200
    answer = client.post(path, FORM)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    user = User.objects.get()
    assert user.is_superuser
    assert user.is_staff
    assert user.groups.get().name == "administrator"
    assert client.get("/account/tokens/").status_code == 200
    assert not (data_folder / "setup-token").exists()
    assert ensure_setup_link() is None
    second = client.post(path, {**FORM, "username": "second"})
    assert second.status_code == 404
    assert "manage.py setup_link" in second.content.decode()
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_a_token_left_behind_by_a_crash_opens_nothing_once_there_is_an_administrator(client: Any) -> None:
    path = setup_path()
    User.objects.create_superuser("root")
    assert client.get(path).status_code == 404
    assert client.post(path, {**FORM, "username": "second"}).status_code == 404
    assert User.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("token", ["wrong", "ü", "-"], ids=["ascii", "not ascii", "short"])
@pytest.mark.parametrize("issued", [True, False], ids=["a link was issued", "none was issued"])
def test_a_wrong_link_is_a_404_that_says_how_to_get_one(client: Any, token: str, issued: bool) -> None:
    if issued:
        setup_path()
    answer = client.post(f"/setup/{token}/", FORM)
    assert answer.status_code == 404
    assert "manage.py setup_link" in answer.content.decode()
    assert not User.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"password2": "something else entirely"}, "match", id="passwords differ"),
        pytest.param({"password1": "short", "password2": "short"}, "at least 10 characters", id="too short"),
        pytest.param({"username": "ANN"}, "already exists", id="name taken"),
    ],
)
def test_a_form_with_a_mistake_makes_nobody_and_keeps_the_link(
    client: Any, ann: User, change: dict[str, str], says: str
) -> None:
    path = setup_path()
    answer = client.post(path, {**FORM, **change})
    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert not User.objects.filter(is_superuser=True).exists()
    assert client.get(path).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_two_people_who_send_the_form_together_make_one_administrator() -> None:
    path, together, answers = setup_path(), threading.Barrier(2), []

    def send(name: str) -> None:
        client = Client()
        together.wait()
        answers.append(client.post(path, {**FORM, "username": name}).status_code)
        connection.close()

    threads = [threading.Thread(target=send, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(answers) == [302, 404]
    assert User.objects.filter(is_superuser=True).count() == 1


@pytest.mark.django_db
def test_the_command_prints_the_link_or_that_it_is_not_needed() -> None:
    out = StringIO()
    call_command("setup_link", stdout=out)
    assert out.getvalue().strip() == ensure_setup_link()
    User.objects.create_superuser("root")
    call_command("setup_link", stdout=out)
    assert "There is an administrator already" in out.getvalue()


@pytest.mark.django_db
def test_an_administrator_who_is_switched_off_does_not_count() -> None:
    User.objects.create_superuser("root", is_active=False)
    assert ensure_setup_link() is not None
