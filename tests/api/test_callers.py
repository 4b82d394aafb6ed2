"""Who is let in, how a refusal reads, and that no input ends in a server error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from backups.models import Target
from config.api import api
from tests.api.conftest import JsonClient
from tests.factories import MaintenanceJobFactory

pytestmark = pytest.mark.django_db

NEW_TARGET = {"name": "etc", "source": "files", "config": {"paths": ["/etc"]}}


def test_without_a_session_or_a_token_the_answer_is_401_as_json(client: Client) -> None:
    answer = client.get("/api/v1/targets")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.json()["detail"]


def test_a_wrong_token_is_401(client: Client) -> None:
    assert client.get("/api/v1/targets", headers={"Authorization": "Bearer kw_wrong"}).status_code == 401


def test_a_token_changes_things_without_a_csrf_token(root: JsonClient) -> None:
    assert root.send("POST", "/targets", **NEW_TARGET).status_code == 201
    assert Target.objects.get().name == "etc"


def test_a_session_reads_freely_and_changes_nothing_without_the_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("ann"))
    assert client.get("/api/v1/targets").status_code == 200
    answer = client.post("/api/v1/targets", NEW_TARGET, content_type="application/json")
    assert answer.status_code == 403
    assert "X-CSRFToken" in answer.json()["detail"]
    assert not Target.objects.exists()


def test_a_session_with_the_csrf_token_changes_things() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("ann"))
    client.get("/account/tokens/")
    token = client.cookies[settings.CSRF_COOKIE_NAME].value
    answer = client.post("/api/v1/targets", NEW_TARGET, content_type="application/json", headers={"X-CSRFToken": token})
    assert answer.status_code == 201


def test_a_refusal_for_lack_of_a_permission_names_it(viewer: JsonClient) -> None:
    answer = viewer.send("POST", "/targets", **NEW_TARGET)
    assert answer.status_code == 403
    assert "backups.add_target" in answer.json()["detail"]


def test_what_is_not_there_is_404_and_says_what(root: JsonClient) -> None:
    assert root.get("/targets/4711").json() == {"detail": "There is no target 4711."}
    assert root.get("/targets/4711").status_code == 404


def test_an_address_that_leads_nowhere_is_404_as_json(root: JsonClient) -> None:
    answer = root("POST", "/targts", "{}")
    assert answer.status_code == 404
    assert "/api/v1/targts" in answer.json()["detail"]


def test_every_wrong_field_is_named_in_words(root: JsonClient) -> None:
    answer = root.send("POST", "/backup-jobs", name="x", target_ids="all", storage_id=0, cron="* * * * *")
    assert answer.status_code == 422
    assert set(answer.json()["errors"]) == {"target_ids", "storage_id", "cron"}
    assert answer.json()["errors"]["cron"] == ["There is no such field."]
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        pytest.param(b"{", 422, "not JSON", id="cut off"),
        pytest.param(b"\xff\xfe{}", 422, "UTF-8", id="not UTF-8"),
        pytest.param(b'{"name": "a\\u0000b"}', 422, "NUL", id="NUL"),
        pytest.param(b'{"name": "\\ud800"}', 422, "surrogate", id="lone surrogate"),
        pytest.param(b'{"a": {"\\udfff": 1}}', 422, "surrogate", id="lone surrogate in a key"),
        pytest.param(b'{"name": NaN}', 422, "NaN", id="NaN"),
        pytest.param(b"[" * 100_000, 422, "deep", id="bottomless"),
        pytest.param(b'{"a":' * 30 + b"1" + b"}" * 30, 422, "deep", id="deep"),
        pytest.param(b"[]", 422, "object", id="a list"),
        pytest.param(b"null", 422, "", id="null"),
        pytest.param(b"", 422, "", id="nothing"),
        pytest.param(b'{"name": ' + b"9" * 5000 + b"}", 400, "", id="a number too long to read"),
        pytest.param(b'"' + b"x" * 3_000_000 + b'"', 413, "too big", id="huge"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused_in_words(root: JsonClient, body: bytes, status: int, word: str) -> None:
    answer = root("POST", "/targets", body)
    assert answer.status_code == status
    assert word.lower() in answer.json()["detail"].lower()
    assert not Target.objects.exists()


BIG = 2**70
NASTY: list[Any] = [None, True, -1, 0, BIG, -BIG, 1.5, 1e308, "", "x" * 3000, "../..", "%00", "é\u202e", [], [[]], {}]
NASTY += [[BIG], [None], {"keep_last": BIG}, {"paths": ["/"]}, {"keep_within": "x" * 500}, "9" * 400]
IN_ADDRESSES = ["0", "-1", str(BIG), "9" * 5000, "abc", "%00", "1%20OR%201=1", "%F0%9F%92%A3", "1.5", "%ED%A0%80"]
METHODS = ("get", "post", "patch", "delete")


def schema() -> dict[str, Any]:
    return dict(api.get_openapi_schema())


def operations() -> list[Any]:
    return [
        pytest.param(method, path.removeprefix("/api/v1"), id=f"{method} {path.removeprefix('/api/v1')}")
        for path, methods in schema()["paths"].items()
        for method in METHODS
        if method in methods
    ]


def body_of(operation: dict[str, Any]) -> dict[str, Any]:
    """The properties of an operation's body, by name."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    reference = next((part["$ref"] for part in [content, *content.get("anyOf", [])] if "$ref" in part), None)
    if reference is None:
        return {}
    return dict(schema()["components"]["schemas"][reference.rpartition("/")[2]]["properties"])


@pytest.mark.parametrize(("method", "path"), operations())
def test_no_operation_answers_junk_with_a_server_error(root: JsonClient, method: str, path: str) -> None:
    operation = schema()["paths"][f"/api/v1{path}"][method]
    job = MaintenanceJobFactory(key="retention_cleanup_junk")
    plain = path.partition("{")
    usual = path.replace("{job_id}", str(job.pk)).replace("{", "").replace("}", "")
    tried: list[tuple[str, Any]] = []
    if plain[1]:
        after = plain[2].partition("}")[2]
        tried += [(f"{plain[0]}{value}{after}", {}) for value in IN_ADDRESSES]
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query" and parameter["name"] != "wait":
            tried += [(f"{usual}?{parameter['name']}={value}", None) for value in ["", *IN_ADDRESSES]]
    good = {"name": "x", "path": "/nowhere/x", "config": {"paths": ["/x"]}, "target_ids": [1], "storage_id": 1}
    properties = body_of(operation)
    for name in properties:
        rest = {field: value for field, value in good.items() if field in properties}
        tried += [(usual, {**rest, name: value}) for value in NASTY]
    for address, body in tried or [(usual, None)]:
        answer = root(method.upper(), address, None if body is None else json.dumps(body))
        assert answer.status_code < 500, (address, body, answer.content[:300])
        if answer.status_code >= 400:
            assert isinstance(answer.json()["detail"], str)
            assert answer.json()["detail"]
