"""The schedule editor in a real browser: presets, typing, advice that is taken, and the keyboard."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from backups.models import BackupJob
from scheduling.choices import RunStatus
from tests import factories
from tests.browser.conftest import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PHONE = {"width": 390, "height": 844}


@pytest.fixture
def job(visitor: Visitor) -> BackupJob:
    photos = factories.BackupJobFactory(name="photos", schedule="0 2 * * *")
    started = timezone.now() - timedelta(days=1)
    factories.BackupRunFactory(
        job=photos,
        status=RunStatus.SUCCEEDED,
        queued_at=started,
        started_at=started,
        finished_at=started + timedelta(minutes=48),
    )
    return factories.BackupJobFactory(name="nightly", schedule="30 2 * * *", storage=photos.storage)


def test_a_preset_fills_the_field_and_keeps_the_focus(visitor: Visitor, job: BackupJob) -> None:
    page = visitor.page
    visitor.open(f"/backup-jobs/{job.pk}/edit/")
    weekly = page.get_by_role("button", name="Weekly")
    weekly.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Schedule")).to_have_value("30 2 * * 0")
    expect(page.locator("#schedule-said")).to_contain_text("At 02:30 on Sunday.")
    expect(weekly).to_have_attribute("aria-pressed", "true")
    expect(weekly).to_be_focused()
    assert page.url.endswith("/edit/")
    job.refresh_from_db()
    assert job.schedule == "30 2 * * *"
    assert visitor.complaints == []


def test_advice_appears_while_typing_and_is_taken_with_one_press(visitor: Visitor, job: BackupJob) -> None:
    page = visitor.page
    visitor.open(f"/backup-jobs/{job.pk}/edit/")
    advice = page.get_by_role("listitem").filter(has_text="photos may still be at work")
    expect(advice).to_be_visible()
    field = page.get_by_role("textbox", name="Schedule")
    field.fill("0 5 * * *")
    expect(advice).to_have_count(0)
    field.fill("45 2 * * *")
    expect(advice).to_be_visible()
    advice.get_by_role("button", name="Use").click()
    expect(field).to_have_value("50 2 * * *")
    expect(advice).to_have_count(0)
    page.get_by_role("button", name="Save nightly").click()
    page.wait_for_url(re.compile(rf"/backup-jobs/{job.pk}/$"))
    job.refresh_from_db()
    assert job.schedule == "50 2 * * *"
    assert visitor.complaints == []


def test_another_field_of_the_form_changes_what_is_said(visitor: Visitor, job: BackupJob) -> None:
    page = visitor.page
    visitor.open(f"/backup-jobs/{job.pk}/edit/")
    page.get_by_text("More about how it runs").click()
    page.get_by_label("Start only from").fill("22:00")
    page.get_by_label("until").last.fill("23:00")
    page.get_by_label("until").last.press("Tab")
    expect(page.locator("#schedule-words")).to_contain_text("waits until 22:00")
    assert visitor.complaints == []


def test_enter_in_a_field_saves(visitor: Visitor, job: BackupJob) -> None:
    page = visitor.page
    visitor.open(f"/backup-jobs/{job.pk}/edit/")
    page.get_by_role("textbox", name="Schedule").fill("10 4 * * *")
    page.get_by_role("textbox", name="Schedule").press("Enter")
    page.wait_for_url(re.compile(rf"/backup-jobs/{job.pk}/$"))
    job.refresh_from_db()
    assert job.schedule == "10 4 * * *"


def test_the_editor_fits_a_phone(visitor: Visitor, job: BackupJob) -> None:
    BackupJob.objects.filter(name="photos").update(name="averylongnamewithoutaspace" * 3)
    visitor.page.set_viewport_size(PHONE)
    visitor.open(f"/backup-jobs/{job.pk}/edit/")
    assert visitor.overflow() <= 0
    visitor.open(f"/maintenance-jobs/{factories.MaintenanceJobFactory(schedule_cron='0 1 * * *').key}/edit/")
    assert visitor.overflow() <= 0
    assert visitor.complaints == []
