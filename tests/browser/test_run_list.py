from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from backups.models import BackupRun
from scheduling.choices import RunStatus
from scheduling.models import SchedulerState
from tests.browser.conftest import Visitor
from tests.factories import BackupJobFactory, BackupRunFactory, MaintenanceJobFactory, MaintenanceRunFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROWS = 'tbody a[id^="run-"]'


@pytest.fixture(autouse=True)
def alive(transactional_db: None) -> None:
    now = timezone.now()
    SchedulerState.objects.create(pk=1, host="h", hostname="here", pid=1, started_at=now, seen_at=now)


def test_filters_paging_and_the_back_button(visitor: Visitor) -> None:
    job = BackupJobFactory(name="nightly")
    for number in range(60):
        at = NOON + timedelta(minutes=number)
        BackupRunFactory(job=job, failed=True, queued_at=at, message=f"thunder {number}")
    MaintenanceRunFactory(succeeded=True, job_name="cleanup", queued_at=NOON + timedelta(days=1))
    page = visitor.page
    visitor.open("/runs/")
    expect(page.locator(ROWS)).to_have_count(50)
    page.get_by_role("link", name="Failed", exact=True).click()
    page.wait_for_url("**/runs/?status=failed")
    expect(page.locator(ROWS).first).to_have_text("nightly")
    page.get_by_label("Words in names, messages and logs").fill("thunder")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/?status=failed&q=thunder")
    page.get_by_role("link", name="Older").click()
    expect(page.locator(ROWS)).to_have_count(10)
    page.go_back()
    expect(page.locator(ROWS)).to_have_count(50)
    expect(page.get_by_label("Words in names, messages and logs")).to_have_value("thunder")
    page.go_back()
    page.wait_for_url("**/runs/?status=failed")
    expect(page.get_by_label("Words in names, messages and logs")).to_have_value("")
    page.get_by_role("link", name="Clear all").click()
    page.wait_for_url("**/runs/")
    expect(page.locator(ROWS).first).to_have_text("cleanup")
    assert visitor.complaints == []


def test_a_job_is_chosen_while_one_types(visitor: Visitor) -> None:
    job = BackupJobFactory(name="nightly copies")
    BackupRunFactory(job=job, succeeded=True)
    MaintenanceJobFactory(name="Nightly cleanup")
    BackupJobFactory(name="weekly")
    page = visitor.page
    visitor.open("/runs/")
    page.get_by_text("More filters").click()
    field = page.get_by_label("Job", exact=True)
    field.press_sequentially("night")
    expect(page.locator("#runs-jobs option")).to_have_count(2)
    assert page.locator("#runs-jobs option").evaluate_all("all => all.map(one => one.value)") == [
        "Nightly cleanup",
        "nightly copies",
    ]
    field.fill("nightly copies")
    field.press("Enter")
    page.wait_for_url(re.compile(rf"/runs/\?job={job.pk}&kind=backup$"))
    expect(page.locator(ROWS)).to_have_count(1)
    expect(page.get_by_label("Job", exact=True)).to_have_value("nightly copies")
    page.get_by_label("Started by").select_option("By hand")
    page.wait_for_url(re.compile(r"trigger=manual"))
    expect(page.locator(ROWS)).to_have_count(1)
    assert visitor.complaints == []


def test_the_list_is_live_while_something_runs_keeps_ticks_and_then_rests(visitor: Visitor) -> None:
    done = BackupRunFactory(succeeded=True, job_name="done")
    run = BackupRunFactory(running=True, job_name="going")
    page = visitor.page
    visitor.open("/runs/")
    row = page.locator("tr", has_text="going")
    expect(row.get_by_text("Running")).to_be_visible()
    page.get_by_label(f"Tick backup run {done.pk} of done").check()
    expect(page.get_by_role("button", name="Run again…")).to_be_visible()
    BackupRun.objects.filter(pk=run.pk).update(status=RunStatus.SUCCEEDED, outcome="ok", finished_at=timezone.now())
    expect(row.get_by_text("Succeeded")).to_be_visible(timeout=10_000)
    expect(page.get_by_label(f"Tick backup run {done.pk} of done")).to_be_checked()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(4500)
    assert asked == []
    assert visitor.complaints == []


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_many_runs_are_cancelled_after_a_question(visitor: Visitor, script: bool) -> None:
    runs = [BackupRunFactory(job_name=f"waiting {number}") for number in range(3)]
    page = visitor.page
    if not script:
        browser = page.context.browser
        assert browser is not None
        plain = browser.new_context(java_script_enabled=False, storage_state=page.context.storage_state())
        page = plain.new_page()
    page.goto(f"{visitor.url}/runs/")
    for run in runs[:2]:
        page.get_by_label(f"Tick backup run {run.pk} of").check()
    page.get_by_role("button", name="Cancel…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel 2 runs?")
    page.get_by_role("button", name="Cancel 2 runs").click()
    expect(page.get_by_text("2 runs cancelled or being stopped")).to_be_visible()
    states = sorted(BackupRun.objects.values_list("status", flat=True))
    assert states == ["cancelled", "cancelled", "queued"]
    assert visitor.complaints == []
    if not script:
        page.context.close()


def test_the_list_fits_a_phone_and_is_worked_by_keyboard(visitor: Visitor) -> None:
    job = BackupJobFactory(name="a" * 120)
    BackupRunFactory(job=job, failed=True, message="m" * 400)
    page = visitor.page
    page.set_viewport_size({"width": 390, "height": 844})
    visitor.open(f"/runs/?kind=backup&job={job.pk}&trigger=manual")
    assert visitor.overflow() <= 0
    page.locator("#runs-q").focus()
    reached = []
    for _ in range(32):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    order = [each for each in reached if each in ("runs-job", "runs-trigger", "Tick all 1", "CSV")]
    assert order == ["runs-job", "runs-trigger", "Tick all 1", "CSV"]
    assert visitor.complaints == []
