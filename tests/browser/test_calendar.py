from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.factories import BackupJobFactory, BackupRunFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def with_runs() -> None:
    job = BackupJobFactory(name="nightly")
    now = timezone.now()
    for days in range(70):
        at = now - timedelta(days=days, hours=1)
        BackupRunFactory(
            job=job,
            status="failed" if days % 7 == 3 else "succeeded",
            outcome="" if days % 7 == 3 else "ok",
            queued_at=at,
            started_at=at,
            finished_at=at + timedelta(minutes=20),
        )


def test_the_calendar_is_walked_without_leaving_the_page_and_back_again(visitor: Visitor) -> None:
    with_runs()
    visitor.open("/calendar/")
    page = visitor.page
    page.evaluate("window.stayed = true")
    month = page.get_by_role("heading", level=1).inner_text()
    page.get_by_role("link", name="Previous month").click()
    page.wait_for_url(re.compile(r"date="))
    before = page.get_by_role("heading", level=1)
    expect(before).not_to_have_text(month)
    expect(page).to_have_title(re.compile(re.escape(before.inner_text())))
    page.get_by_role("link", name="Week", exact=True).click()
    page.wait_for_url(re.compile(r"view=week"))
    expect(page.locator(".day-row a").first).to_be_attached()
    assert page.evaluate("window.stayed") is True, "the page was loaded anew"
    page.go_back()
    expect(page.locator(".month-table")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text(month)
    assert visitor.complaints == []


def test_a_bar_is_reached_and_opened_by_the_keyboard(visitor: Visitor) -> None:
    with_runs()
    visitor.open("/calendar/?view=week")
    page = visitor.page
    page.locator(".day-row a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/(runs/backup|backup-jobs)/\d+/"))
    assert visitor.complaints == []


@pytest.mark.parametrize("view", ["month", "week"])
def test_on_a_telephone_it_is_a_list_of_days_that_fits(visitor: Visitor, view: str) -> None:
    with_runs()
    BackupJobFactory(name="x" * 80)
    visitor.page.set_viewport_size({"width": 390, "height": 800})
    visitor.open(f"/calendar/?view={view}")
    assert visitor.overflow() <= 0
    names = visitor.page.locator(".line-name:visible")
    expect(names.first).to_be_visible()
    assert not visitor.page.locator(".day-row:visible").count()
    assert visitor.complaints == []


def test_the_page_of_a_job_fits_and_its_days_are_links(visitor: Visitor) -> None:
    with_runs()
    page = visitor.page
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        visitor.open("/backup-jobs/")
        page.get_by_role("link", name="nightly", exact=True).click()
        page.wait_for_url(re.compile(r"/backup-jobs/\d+/"))
        assert visitor.overflow() <= 0
        days = page.get_by_role("list", name="The last 30 days, oldest first").get_by_role("link")
        assert days.count() >= 29
    days.last.press("Enter")
    page.wait_for_url(re.compile(r"/runs/\?.*from="))
    assert visitor.complaints == []
