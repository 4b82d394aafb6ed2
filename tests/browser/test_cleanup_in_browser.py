"""The way through the product that must work: set a policy, run the cleanup, see it done. In a real browser."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from backups.models import Backup, BackupJob, Options, Target
from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling.choices import RunStatus
from tests.accounts.routes import routes
from tests.accounts.test_permission_matrix import sample_url
from tests.browser.conftest import Visitor
from tests.factories import BackupRunFactory, MaintenanceRunFactory
from tests.support import add_backup, default_jobs, make_job

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LONG = "averylongnamewithoutaspace" * 3
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def job(transactional_db: None, tmp_path: Path) -> BackupJob:
    """A job with five real copies, a day apart, and the two cleanup jobs of a new installation."""
    default_jobs()
    made = make_job(tmp_path)
    for day in range(5):
        add_backup(made, timezone.now() - timedelta(days=day, hours=1))
    return made


def test_a_policy_set_in_options_is_carried_out_and_the_badge_turns_green_by_itself(
    job: BackupJob, scheduler: None, visitor: Visitor
) -> None:
    page = visitor.page
    page.get_by_label("Last", exact=True).fill("2")
    page.locator("#trial h2", has_text="to the trash that the saved policy keeps").wait_for()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_label("Type the job’s name to save: nightly").fill("nightly")
    page.get_by_role("button", name="Save these rules").click()
    page.get_by_text("Options are saved.").wait_for()
    assert Options.load().retention == {"keep_last": 2}

    page.get_by_role("link", name="Run cleanup now").click()
    page.get_by_role("button", name="Approve and move 3 backups to trash").click()
    page.wait_for_url("**/maintenance-jobs/")
    # The page is never reloaded from here on: what it shows next, it has fetched by itself.
    page.locator('#run-rows .badge[data-status="succeeded"]').wait_for()

    run = MaintenanceRun.objects.get()
    assert (run.status, run.result("deleted_count"), run.result("kept_count")) == (RunStatus.SUCCEEDED, 3, 2)
    assert Backup.objects.trashed().count() == 3
    trash = Path(job.storage.path) / ".keepwell-trash"
    assert len(list(trash.glob("*.tar.zst"))) == 3
    assert page.locator('[hx-trigger^="every"]').count() == 0
    # The one form that was refused on purpose.
    assert [text for text in visitor.complaints if "422" not in text] == []


def test_a_run_page_follows_the_log_until_the_end(job: BackupJob, scheduler: None, visitor: Visitor) -> None:
    page = visitor.page
    visitor.open("/maintenance-jobs/")
    page.get_by_role("button", name="Run now").first.click()
    page.locator("#run-rows tbody a").first.click()
    page.get_by_role("heading", name="succeeded").wait_for()
    page.locator("#log-lines li").first.wait_for()
    assert visitor.complaints == []


def test_the_filters_and_the_menu_work_on_a_phone(job: BackupJob, visitor: Visitor) -> None:
    BackupRunFactory(failed=True, job=job)
    page = visitor.page
    page.set_viewport_size(PHONE)
    visitor.open("/runs/")
    page.get_by_role("link", name="Succeeded", exact=True).click()
    page.get_by_text("No run matches these filters").wait_for()
    assert page.url.endswith("?status=succeeded")
    page.get_by_text("Menu", exact=True).click()
    page.get_by_role("link", name="Maintenance Jobs").click()
    page.wait_for_url("**/maintenance-jobs/")
    assert visitor.complaints == []


def test_no_page_is_wider_than_a_phone_or_breaks_the_content_policy(
    job: BackupJob, visitor: Visitor, client: Client
) -> None:
    BackupJob.objects.update(name=LONG)
    Target.objects.update(name=LONG)
    MaintenanceJob.objects.filter(visible_in_ui=True).update(name=LONG, timezone="America/Argentina/ComodRivadavia")
    job.refresh_from_db()
    for factory, of in ((BackupRunFactory, job), (MaintenanceRunFactory, MaintenanceJob.objects.first())):
        factory(failed=True, job=of, message=f"/srv/{'x' * 200} does not exist.", requested_by=LONG)
    visitor.page.set_viewport_size(PHONE)
    client.force_login(User.objects.get(username="marguerite"))
    addresses = [sample_url(route) for route in routes() if not route.is_api and not route.is_public]
    # What only takes a form has no page of its own, and neither has a download.
    answers = {address: client.get(address) for address in addresses}
    addresses = [
        address
        for address, answer in answers.items()
        if answer.status_code != 405 and not answer.has_header("Content-Disposition")
    ]
    wide = []
    for address in addresses:
        assert visitor.open(address) == 200, address
        if visitor.overflow() > 0:
            wide.append(f"{address}: {visitor.overflow()} px too wide")
    assert wide == []
    assert visitor.complaints == []
    assert len(addresses) >= 20
