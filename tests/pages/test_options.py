from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from backups.models import BackupJob, Options
from tests.factories import BackupRunFactory
from tests.support import add_backup, default_jobs, make_job

pytestmark = pytest.mark.django_db

URL = "/options/"
SAVE = "/options/save/"
TRIAL = "/options/retention/trial/"
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
@pytest.mark.parametrize("path", [SAVE, TRIAL], ids=["save", "trial"])
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
    assert viewer.post(TRIAL, VALUES).status_code == 403
    assert viewer.get(RUN).status_code == 403


@pytest.mark.parametrize(("method", "path"), [("post", URL), ("get", SAVE), ("get", TRIAL), ("put", RUN)], ids=str)
def test_a_wrong_method_is_refused(method: str, path: str, admin_client: Client) -> None:
    assert getattr(admin_client, method)(path).status_code == 405


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
