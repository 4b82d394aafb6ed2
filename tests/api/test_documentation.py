from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Browser

from config.api import api

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/api/v1/docs", "/api/v1/openapi.json"])
def test_the_documentation_needs_a_signed_in_user(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/account/login/")


def test_the_page_loads_nothing_from_elsewhere_and_holds_no_inline_code(admin_client: Client) -> None:
    page = admin_client.get("/api/v1/docs").content.decode()
    assert re.findall(r'(?:src|href)="(?!/static/)', page) == []
    assert re.findall(r"<script(?![^>]*src=)(?![^>]*application/json)", page) == []
    assert "<style" not in page


def test_only_this_page_may_show_data_images_and_is_otherwise_as_strict(admin_client: Client) -> None:
    usual = admin_client.get("/api/v1/openapi.json")["Content-Security-Policy"]
    relaxed = admin_client.get("/api/v1/docs")["Content-Security-Policy"]
    assert "data:" not in usual
    assert relaxed == usual.replace("img-src 'self'", "img-src 'self' data:")


def test_every_operation_says_what_it_does_and_how_it_refuses() -> None:
    found: list[Any] = [
        operation for methods in api.get_openapi_schema()["paths"].values() for operation in methods.values()
    ]
    assert len(found) >= 34
    for operation in found:
        assert operation["summary"]
        assert operation["tags"]
        assert {401, 403, 422} <= set(operation["responses"])


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_page_works_in_a_browser_under_the_content_policy(
    live_server: Any, browser: Browser, admin_client: Client
) -> None:
    complaints: list[str] = []
    context = browser.new_context()
    name, cookie = "keepwell_session", admin_client.cookies["keepwell_session"].value
    context.add_cookies([{"name": name, "value": cookie, "url": live_server.url}])
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{live_server.url}/api/v1/docs")
    page.locator(".opblock-summary-control").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    page.locator(".live-responses-table .response-col_status", has_text="200").first.wait_for()
    context.close()
    assert complaints == []
