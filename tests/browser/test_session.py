"""A page that was left open until its session had ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import Page

from backups.models import Target
from tests.browser.conftest import PASSWORD, Visitor
from tests.browser.test_run_page import asked
from tests.factories import BackupRunFactory
from tests.support import make_tree

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def sign_in_again(page: Page) -> None:
    page.get_by_label("Username").fill("marguerite")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_a_page_that_is_brought_up_to_date_says_that_it_is_not_any_more_and_stops_asking(visitor: Visitor) -> None:
    run = BackupRunFactory(running=True)
    page = visitor.page
    visitor.open(run.get_absolute_url())
    Session.objects.all().delete()
    page.get_by_text("You were signed out, so this page is not updated any more.").wait_for()
    assert page.evaluate("getComputedStyle(document.querySelector('.badge .shape')).animationName") == "none"
    assert asked(page, 5) == []
    assert page.get_by_role("heading", name="is running").is_visible()
    assert page.locator("input[name=password]").count() == 0

    page.get_by_role("link", name="Sign in again").click()
    sign_in_again(page)
    page.wait_for_url(f"**{run.get_absolute_url()}")
    assert page.locator("#run-now[hx-get]").count() == 1
    # The refused poll, and nothing else.
    assert [text for text in visitor.complaints if "401" not in text] == []


def test_a_tab_goes_on_by_itself_after_a_sign_in_in_another(visitor: Visitor) -> None:
    run = BackupRunFactory(running=True)
    page = visitor.page
    visitor.open(run.get_absolute_url())
    Session.objects.all().delete()
    notice = page.get_by_text("You were signed out, so this page is not updated any more.")
    notice.wait_for()
    other = page.context.new_page()
    other.goto(f"{visitor.url}/account/login/?next=/runs/")
    sign_in_again(other)
    other.wait_for_url("**/runs/")
    other.close()
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    notice.wait_for(state="detached")


def test_what_was_typed_is_in_the_form_again_after_signing_in(visitor: Visitor, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    page = visitor.page
    visitor.open("/targets/new/")
    page.get_by_label("Name").fill("my “photos”")
    page.get_by_label("Folders and files").fill(f"{tree}\n")
    Session.objects.all().delete()
    page.locator("main form button").last.click()
    page.get_by_text("what you had typed is kept for an hour").wait_for()
    sign_in_again(page)
    page.get_by_text("What you had typed is filled in again").wait_for()
    assert page.get_by_label("Name").input_value() == "my “photos”"
    assert page.get_by_label("Folders and files").input_value().strip() == str(tree)
    assert not Target.objects.exists()
    page.locator("main form button").last.click()
    page.get_by_role("heading", name="my “photos”").wait_for()
    assert Target.objects.get().paths == [str(tree)]
    assert visitor.complaints == []


def test_a_form_that_a_sign_in_in_another_tab_made_stale_is_not_lost_either(visitor: Visitor) -> None:
    page = visitor.page
    visitor.open("/targets/new/")
    page.get_by_label("Name").fill("photos")
    Session.objects.all().delete()
    other = page.context.new_page()
    other.goto(f"{visitor.url}/account/login/?next=/runs/")
    sign_in_again(other)
    other.wait_for_url("**/runs/")
    page.get_by_label("Folders and files").fill("/srv/photos")
    page.locator("main form button").last.click()
    page.get_by_role("link", name="Open the form again, filled in").click()
    assert page.get_by_label("Name").input_value() == "photos"
    assert page.get_by_label("Folders and files").input_value() == "/srv/photos"
