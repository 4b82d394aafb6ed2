"""The policy editor in a real browser: what a rule costs appears while it is typed, and saving it asks for a name."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import Locator

from backups.models import AuditAction, AuditEntry, Backup, BackupJob, Options
from backups.services.options import options_update
from tests.browser.conftest import Visitor
from tests.support import add_backup, default_jobs, make_job

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PHONE = {"width": 390, "height": 844}


@pytest.fixture
def job(transactional_db: None, tmp_path: Path) -> BackupJob:
    default_jobs()
    options_update(retention={"keep_last": 20})
    made = make_job(tmp_path, retention=None)
    for day in range(12):
        add_backup(made, timezone.now() - timedelta(days=day, hours=1))
    return made


def answer(visitor: Visitor) -> Locator:
    return visitor.page.locator("#trial h2")


def without_refusals(visitor: Visitor) -> list[str]:
    """What the console complained about, but for the forms that were refused on purpose."""
    return [text for text in visitor.complaints if "422" not in text]


def test_a_rule_is_tried_while_it_is_typed_and_a_dangerous_one_saved_by_typing_the_name(
    job: BackupJob, visitor: Visitor
) -> None:
    page = visitor.page
    last = page.get_by_label("Last", exact=True)
    last.press("ControlOrMeta+a")
    # Nothing is pressed from here on but the keys of one number.
    last.press_sequentially("30")
    page.get_by_text("Nothing more is deleted than today.").first.wait_for()
    last.press("ControlOrMeta+a")
    last.press_sequentially("2")
    page.locator("#trial h2", has_text="to the trash that the saved policy keeps").wait_for()
    assert page.evaluate("document.activeElement.id") == "id_keep_last"
    assert "to the trash" in (page.locator("#trial_answer").text_content() or "")
    page.get_by_text("more than the 25 % that a cleanup may delete").wait_for()

    day = page.locator("#trial_day")
    assert "in 90 days" in day.inner_text()
    slider = page.get_by_label("Day to look at")
    slider.focus()
    slider.press("Home")
    page.locator("#trial_day", has_text="today").wait_for()
    assert page.evaluate("document.activeElement.id") == "trial_day_number"
    assert Options.load().retention == {"keep_last": 20}

    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("Nothing was saved yet.").wait_for()
    # The trial comes by itself, for those who want to look closer.
    answer(visitor).filter(has_text="to the trash that the saved policy keeps").wait_for()
    page.get_by_label("Type the job’s name to save: nightly").fill("nightly")
    page.get_by_role("button", name="Save these rules").click()
    page.get_by_text("Options are saved.").wait_for()
    assert Options.load().retention == {"keep_last": 2}
    assert AuditEntry.objects.get().action == AuditAction.POLICY
    assert Backup.objects.available().count() == 12
    assert without_refusals(visitor) == []


def test_a_jobs_own_policy_is_tried_when_it_is_chosen(job: BackupJob, visitor: Visitor) -> None:
    page = visitor.page
    visitor.open(f"/backup-jobs/{job.pk}/edit/")
    page.get_by_label("A policy of this job’s own").check()
    answer(visitor).filter(has_text="Nothing more is deleted than today.").wait_for()
    page.get_by_label("Daily", exact=True).press_sequentially("3")
    answer(visitor).filter(has_text="to the trash that the saved policy keeps").wait_for()
    page.get_by_label("Use the policy in Options").check()
    answer(visitor).filter(has_text="This is what is saved already.").wait_for()
    page.get_by_role("textbox", name="Schedule").press("End")
    page.get_by_role("textbox", name="Schedule").press_sequentially("x")
    page.locator("#schedule-said", has_text="cannot be read").wait_for()
    assert visitor.complaints == []


def test_the_editor_and_the_example_fit_a_phone(job: BackupJob, visitor: Visitor) -> None:
    page = visitor.page
    BackupJob.objects.update(name="averylongnamewithoutaspace" * 3)
    page.set_viewport_size(PHONE)
    visitor.open("/options/")
    page.get_by_label("Last", exact=True).fill("3")
    answer(visitor).filter(has_text="to the trash that the saved policy keeps").wait_for()
    page.get_by_text("What goes when").click()
    assert visitor.overflow() <= 0
    for habit in ("daily", "hourly", "weekly", "gaps"):
        visitor.open(f"/retention/?habit={habit}&keep_last=3&keep_daily=5&special=on")
        assert visitor.overflow() <= 0
    assert visitor.complaints == []


def test_a_copy_of_the_example_says_why_when_it_is_reached_by_key_or_pointer(visitor: Visitor) -> None:
    page = visitor.page
    visitor.open("/retention/")
    copies = page.locator(".copy[aria-describedby]")
    why = page.locator(".copy-why:visible")
    copies.nth(5).focus()
    assert why.count() == 1
    first = why.inner_text()
    copies.nth(20).hover()
    assert why.count() == 1
    assert why.inner_text() != first
    page.get_by_label("Let nights pass").fill("30")
    page.get_by_text("After 30 nights").wait_for()
    assert "nights=30" in page.url
    assert visitor.complaints == []
