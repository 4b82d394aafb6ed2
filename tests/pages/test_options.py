from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from backups.choices import BackupState
from backups.models import Backup, BackupJob, Options
from maintenance.models import MaintenanceJob, MaintenanceRun
from maintenance.services import CLEANUP_MANUAL
from scheduling.choices import RunStatus
from scheduling.ledger import execute_run
from tests.factories import BackupRunFactory
from tests.support import add_backup, default_jobs, make_job

pytestmark = pytest.mark.django_db

URL = "/options/"
SAVE = "/options/save/"
PREVIEW = "/options/retention/preview/"
RUN = "/options/retention/run/"
HX = {"HX-Request": "true"}

VALUES = {"timezone": "Europe/Berlin", "minimum_keep": "1", "trash_hours": "72"}


@pytest.fixture
def job(tmp_path: Path) -> BackupJob:
    """A job with five copies on a real storage, a day apart, the newest an hour old."""
    default_jobs()
    made = make_job(tmp_path)
    for day in range(5):
        add_backup(made, timezone.now() - timedelta(days=day, hours=1), content=b"x" * (1000 + day))
    return made


def saved() -> Options:
    return Options.load()


def keep(**rules: Any) -> None:
    options = Options.load()
    options.retention = rules
    options.save()


def signed_in_as(client: Client, role: str) -> Client:
    user = User.objects.create_user("ann")
    user.groups.add(Group.objects.get(name=role))
    client.force_login(user)
    return client


def digest(html: str) -> str:
    found = re.search(r'name="digest" value="([0-9a-f]{64})"', html)
    assert found is not None
    return found[1]


# --- The form -----------------------------------------------------------------------------------------------------


def test_the_form_shows_what_is_saved(admin_client: Client) -> None:
    keep(keep_daily=7, keep_within="1y6m")
    html = admin_client.get(URL).content.decode()
    assert re.search(r'name="keep_daily" value="7"', html)
    assert re.search(r'name="keep_within" value="1y6m"', html)
    assert re.search(r'name="timezone" value="UTC"', html)


def test_saving_takes_every_rule(admin_client: Client) -> None:
    rules = {
        "keep_last": 3,
        "keep_hourly": 24,
        "keep_daily": 7,
        "keep_weekly": 4,
        "keep_monthly": 12,
        "keep_yearly": -1,
        "keep_within": "2d",
        "keep_within_hourly": "7d",
        "keep_within_daily": "1m",
        "keep_within_weekly": "6m",
        "keep_within_monthly": "1y6m",
        "keep_within_yearly": "10y",
    }
    response = admin_client.post(SAVE, {**VALUES, "minimum_keep": "2", "trash_hours": "24", **rules}, follow=True)
    assert response.redirect_chain == [(URL, 302)]
    options = saved()
    assert (options.timezone, options.minimum_keep, options.trash_hours) == ("Europe/Berlin", 2, 24)
    assert options.retention == rules


def test_a_blank_form_of_rules_keeps_everything_and_says_so(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=1)
    response = admin_client.post(SAVE, {**VALUES, "keep_last": "0"}, follow=True)
    assert saved().retention == {}
    assert "every copy is kept" in response.content.decode()


def test_a_zone_that_the_policy_has_of_its_own_survives_the_form(admin_client: Client) -> None:
    keep(keep_last=1, timezone="Asia/Tokyo")
    assert "Asia/Tokyo" in admin_client.get(URL).content.decode()
    admin_client.post(SAVE, {**VALUES, "keep_last": "2"})
    assert saved().retention == {"keep_last": 2, "timezone": "Asia/Tokyo"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timezone", "Mars/Olympus"),
        ("timezone", "localtime"),
        ("timezone", ""),
        ("minimum_keep", "0"),
        ("minimum_keep", ""),
        ("minimum_keep", "9" * 30),
        ("trash_hours", "-1"),
        ("trash_hours", "soon"),
        ("keep_last", "-2"),
        ("keep_daily", "1.5"),
        ("keep_weekly", "9" * 30),
        ("keep_within", "a while"),
        ("keep_within_yearly", "-1y"),
    ],
)
@pytest.mark.parametrize("path", [SAVE, PREVIEW], ids=["save", "preview"])
def test_a_refused_value_is_explained_at_its_field_and_nothing_is_saved(
    path: str, field: str, value: str, admin_client: Client
) -> None:
    before = saved()
    response = admin_client.post(path, {**VALUES, "keep_last": "5", field: value})
    assert response.status_code == 422
    assert response.context["form"].errors[field]
    assert saved().retention == before.retention
    assert saved().timezone == before.timezone


def test_a_viewer_may_look_and_not_change(client: Client) -> None:
    viewer = signed_in_as(client, "viewer")
    html = viewer.get(URL).content.decode()
    assert "disabled" in html
    assert ">Save<" not in html
    assert RUN not in html
    assert viewer.post(SAVE, VALUES).status_code == 403
    assert viewer.post(PREVIEW, VALUES).status_code == 403
    assert viewer.get(RUN).status_code == 403


@pytest.mark.parametrize(("method", "path"), [("post", URL), ("get", SAVE), ("get", PREVIEW), ("put", RUN)], ids=str)
def test_a_wrong_method_is_refused(method: str, path: str, admin_client: Client) -> None:
    assert getattr(admin_client, method)(path).status_code == 405


# --- The preview --------------------------------------------------------------------------------------------------


def test_a_preview_shows_what_the_form_would_delete_and_why_and_changes_nothing(
    admin_client: Client, job: BackupJob
) -> None:
    html = admin_client.post(PREVIEW, {**VALUES, "keep_last": "2"}).content.decode()
    assert "3 backups would go to the trash" in html
    assert "2.9\u00a0KiB in total; 2 stay." in html
    assert "last: all 2 used" in html
    doomed = Backup.objects.order_by("created_at").first()
    assert doomed is not None
    assert f"/backups/{doomed.uid}/" in html
    assert 'name="keep_last" value="2"' in html
    assert saved().retention == {}
    assert Backup.objects.available().count() == 5
    assert not MaintenanceRun.objects.exists()


def test_a_preview_tries_the_other_values_of_the_form_too(admin_client: Client, job: BackupJob) -> None:
    html = admin_client.post(PREVIEW, {**VALUES, "minimum_keep": "4", "keep_last": "1"}).content.decode()
    assert "1 backup would go to the trash" in html


def test_a_preview_says_when_nothing_would_be_deleted(admin_client: Client, job: BackupJob) -> None:
    html = admin_client.post(PREVIEW, {**VALUES, "keep_last": "9"}).content.decode()
    assert "Nothing would be deleted" in html
    assert "All 5 copies stay." in html


def test_a_preview_leaves_a_jobs_own_policy_its_own(admin_client: Client, job: BackupJob) -> None:
    job.retention = {"keep_last": 4}
    job.save()
    html = admin_client.post(PREVIEW, {**VALUES, "keep_last": "1"}).content.decode()
    assert "1 backup would go to the trash" in html
    assert "Own policy: the last 4" in html


def test_a_preview_names_a_storage_that_cannot_be_opened(admin_client: Client, job: BackupJob) -> None:
    (Path(job.storage.path) / ".keepwell-storage.json").unlink()
    html = admin_client.post(PREVIEW, {**VALUES, "keep_last": "1"}).content.decode()
    assert "nightly / etc" in html
    assert "Nothing of it would be changed." in html


def test_htmx_gets_the_preview_alone_and_also_its_errors(admin_client: Client, job: BackupJob) -> None:
    response = admin_client.post(PREVIEW, {**VALUES, "keep_last": "1"}, headers=HX)
    html = response.content.decode()
    assert "<html" not in html
    assert html.strip().startswith('<section id="preview"')
    assert "HX-Request" in response["Vary"]
    refused = admin_client.post(PREVIEW, {**VALUES, "keep_last": "x"}, headers=HX)
    assert refused.status_code == 422
    assert "There is no preview of these values." in refused.content.decode()


def test_a_long_preview_is_cut_but_counts_everything(admin_client: Client, tmp_path: Path) -> None:
    made = make_job(tmp_path)
    for hour in range(105):
        add_backup(made, timezone.now() - timedelta(hours=hour + 1))
    html = admin_client.post(PREVIEW, {**VALUES, "keep_last": "1"}).content.decode()
    assert "104 backups would go to the trash" in html
    assert "And 4 more, counted above." in html


def test_a_preview_needs_the_same_few_queries_for_many_copies(
    admin_client: Client, job: BackupJob, django_assert_max_num_queries: Any
) -> None:
    for hour in range(30):
        add_backup(job, timezone.now() - timedelta(days=9, hours=hour))
    with django_assert_max_num_queries(10):
        admin_client.post(PREVIEW, {**VALUES, "keep_last": "1"})


# --- The cleanup --------------------------------------------------------------------------------------------------


def test_the_confirmation_says_how_much_goes_and_until_when_it_can_be_found(
    admin_client: Client, job: BackupJob
) -> None:
    keep(keep_last=2)
    html = admin_client.get(RUN).content.decode()
    assert "Move 3 backups to trash" in html
    assert "2 stay" in html
    assert "the last 2" in html
    assert "72 h" in html
    assert not MaintenanceRun.objects.exists()


def test_the_confirmation_warns_of_what_will_be_gone_for_good(admin_client: Client, job: BackupJob) -> None:
    long_ago = timezone.now() - timedelta(days=5)
    Backup.objects.filter(pk=Backup.objects.latest("created_at").pk).update(
        state=BackupState.TRASHED, trashed_at=long_ago
    )
    html = admin_client.get(RUN).content.decode()
    assert "1 backup" in html
    assert "This cannot be undone." in html


def test_confirming_queues_the_hidden_job_and_leads_to_its_run(
    admin_client: Client, admin_user: User, job: BackupJob
) -> None:
    keep(keep_last=2)
    seen = digest(admin_client.get(RUN).content.decode())
    response = admin_client.post(RUN, {"digest": seen}, follow=True)
    assert response.redirect_chain == [("/maintenance-jobs/", 302)]
    run = MaintenanceRun.objects.get()
    assert (run.job_key, run.status, run.requested_by) == (CLEANUP_MANUAL, RunStatus.QUEUED, admin_user.username)
    assert Backup.objects.available().count() == 5
    assert f'id="run-{run.pk}"' in response.content.decode()
    execute_run("maintenance", run.pk)
    assert Backup.objects.trashed().count() == 3


@pytest.mark.parametrize("sent", [{}, {"digest": "0" * 64}], ids=["no digest", "another digest"])
def test_a_cleanup_that_was_not_seen_is_shown_instead_of_started(
    sent: dict[str, str], admin_client: Client, job: BackupJob
) -> None:
    keep(keep_last=2)
    response = admin_client.post(RUN, sent)
    assert response.status_code == 422
    assert "Nothing was started." in response.content.decode()
    assert not MaintenanceRun.objects.exists()


def test_a_copy_that_came_after_the_page_was_shown_asks_for_another_look(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=2)
    seen = digest(admin_client.get(RUN).content.decode())
    add_backup(job, timezone.now() - timedelta(minutes=5))
    assert admin_client.post(RUN, {"digest": seen}).status_code == 422
    assert not MaintenanceRun.objects.exists()


def test_a_stored_policy_that_cannot_be_used_leads_back_to_the_form(admin_client: Client) -> None:
    keep(keep_last="many")
    response = admin_client.get(RUN, follow=True)
    assert response.redirect_chain == [(URL, 302)]
    assert "cannot be used" in response.content.decode()


def test_without_the_hidden_job_there_is_nothing_to_run(admin_client: Client, job: BackupJob) -> None:
    MaintenanceJob.objects.filter(key=CLEANUP_MANUAL).delete()
    seen = digest(admin_client.get(RUN).content.decode())
    assert admin_client.post(RUN, {"digest": seen}).status_code == 404


# --- The zone -----------------------------------------------------------------------------------------------------


def test_pages_show_times_in_the_zone_of_options(admin_client: Client) -> None:
    at = timezone.now().replace(hour=12, minute=34) - timedelta(days=30)
    BackupRunFactory(succeeded=True, queued_at=at, started_at=at, finished_at=at)
    assert "12:34" in admin_client.get("/runs/").content.decode()
    Options.objects.update_or_create(pk=1, defaults={"timezone": "Asia/Kolkata"})
    assert "18:04" in admin_client.get("/runs/").content.decode()
    assert timezone.get_current_timezone_name() == "UTC"


def test_a_zone_that_this_machine_lacks_does_not_lock_the_pages(admin_client: Client) -> None:
    Options.objects.update_or_create(pk=1, defaults={"timezone": "Atlantis/Capital"})
    assert admin_client.get(URL).status_code == 200
    assert admin_client.get("/maintenance-jobs/").status_code == 200
    assert admin_client.get("/").status_code == 200
