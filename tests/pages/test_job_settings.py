"""The forms of jobs of both kinds, in what they share: how a job runs, copies, deletion, and lists of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backups.forms.job import JobForm
from backups.models import Backup, BackupJob, BackupRun, Hold, Storage, Target
from backups.services.jobs import job_set
from maintenance.models import MaintenanceJob
from scheduling.choices import RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.job_forms import JobSettingsFields
from scheduling.job_settings import DEFAULTS, job_id, settings_of
from tests import factories
from tests.pages.people import sign_in
from tests.support import make_job

pytestmark = pytest.mark.django_db

OPEN = '<details class="more job-settings" open>'
FILLED = {
    "overlap": "skip",
    "retry_delay": "5",
    "time_limit": "90",
    "window_start": "22:00",
    "window_end": "06:00",
    "blackout_dates": "2026-12-31..2027-01-01\r\n\r\n 2026-12-24 ",
    "queue": "nas1",
}
STORED = {
    "overlap": "skip",
    "retry_count": 0,
    "retry_delay": 5,
    "time_limit": 90,
    "window_start": time(22),
    "window_end": time(6),
    "blackout_dates": ["2026-12-24", "2026-12-31..2027-01-01"],
    "run_after": "",
    "queue": "nas1",
}


def backup_form(job: BackupJob | None = None) -> dict[str, Any]:
    job = job or factories.BackupJobFactory()
    targets = list(job.targets.values_list("pk", flat=True))
    return {
        "name": job.name,
        "targets": targets,
        "storage": job.storage_id,
        "schedule": job.schedule,
        "policy": "options",
    }


def maintenance_form(job: MaintenanceJob | None = None) -> dict[str, Any]:
    job = job or factories.MaintenanceJobFactory()
    return {"name": job.name, "schedule_cron": job.schedule_cron, "job_type": job.job_type}


KINDS = [
    pytest.param(
        factories.BackupJobFactory, backup_form, "/backup-jobs/", lambda job: f"/backup-jobs/{job.pk}/", id="backup"
    ),
    pytest.param(
        factories.MaintenanceJobFactory,
        maintenance_form,
        "/maintenance-jobs/",
        lambda job: f"/maintenance-jobs/{job.key}/",
        id="maintenance",
    ),
]
Form = Callable[..., dict[str, Any]]


@pytest.fixture
def client() -> Client:
    return sign_in("administrator")


def page(client: Client, url: str, **query: str) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize(("factory", "form", "listed", "address"), KINDS)
def test_every_setting_is_saved_and_shown_again(
    client: Client, factory: Any, form: Form, listed: str, address: Any
) -> None:
    job = factory()
    text = page(client, f"{address(job)}edit/")
    assert "More about how it runs" in text
    assert OPEN not in text, "nothing in it is anything but usual"
    assert client.post(f"{address(job)}edit/", {**form(job), **FILLED}).status_code == 302
    job.refresh_from_db()
    assert settings_of(job) == STORED
    text = page(client, f"{address(job)}edit/")
    assert OPEN in text
    for shown in ('value="22:00"', 'value="06:00"', 'value="90"', 'value="nas1"', "2026-12-24\n2026-12-31..2027-01-01"):
        assert shown in text
    assert " checked" in text.partition('name="overlap" value="skip"')[2].partition(">")[0]
    assert client.post(f"{address(job)}edit/", form(job)).status_code == 302
    job.refresh_from_db()
    assert settings_of(job) == STORED, "what a form did not show stays"
    blank = dict.fromkeys((*FILLED, "run_after"), "")
    client.post(f"{address(job)}edit/", {**form(job), **blank})
    job.refresh_from_db()
    assert settings_of(job) == DEFAULTS


@pytest.mark.parametrize(("factory", "form", "listed", "address"), KINDS)
@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"overlap": "both"}, "overlap", "is not one of the available choices"),
        ({"retry_delay": "9" * 5000}, "retry_delay", "Use a whole number from 0 to 1440."),
        ({"retry_delay": "1.5"}, "retry_delay", "Use a whole number from 0 to 1440."),
        ({"retry_count": "-1"}, "retry_count", "Use a whole number from 0 to 10."),
        ({"time_limit": "0"}, "time_limit", "Use a whole number from 1 to 10080."),
        ({"window_start": "22:00", "window_end": ""}, "window_end", "Say when the window ends too"),
        ({"window_start": "25:00", "window_end": "06:00"}, "window_start", "Write a time of day such as 22:00."),
        ({"window_start": "\0", "window_end": "06:00"}, "window_start", "Write a time of day such as 22:00."),
        ({"window_start": "06:00", "window_end": "06:00"}, "window_end", "The window ends when it starts"),
        ({"blackout_dates": "Christmas"}, "blackout_dates", "“Christmas” is not a date"),
        ({"blackout_dates": "2026-12-24\0"}, "blackout_dates", "Null characters are not allowed."),
        ({"blackout_dates": "2026-12-24\n" * 101}, "blackout_dates", "100 are the most"),
        ({"blackout_dates": "x" * 5000}, "blackout_dates", "at most 4000 characters"),
        ({"run_after": "backup:999999"}, "run_after", "That job is not there any more."),
        ({"run_after": "\0"}, "run_after", "That job is not there any more."),
        ({"queue": "a b"}, "queue", "A queue's name has letters"),
        ({"queue": "x" * 33}, "queue", "at most 32 characters"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_at_its_field_and_in_sight(
    client: Client,
    factory: Any,
    form: Form,
    listed: str,
    address: Any,
    values: dict[str, str],
    field: str,
    says: str,
) -> None:
    job = factory()
    answer = client.post(f"{address(job)}edit/", {**form(job), **values, "name": "changed"})
    assert answer.status_code == 422
    errors = answer.context["form"].errors
    assert list(errors) == [field]
    assert says in errors[field][0]
    assert OPEN in answer.content.decode()
    assert 'value="changed"' in answer.content.decode(), "what was typed is not lost"
    job.refresh_from_db()
    assert job.name != "changed"
    assert settings_of(job) == DEFAULTS


def test_the_jobs_to_run_after_are_all_others_by_name(client: Client) -> None:
    job, other = factories.BackupJobFactory(name="own"), factories.BackupJobFactory(name="<other>")
    cleanup = factories.MaintenanceJobFactory(name="Weekly cleanup")
    text = page(client, f"/backup-jobs/{job.pk}/edit/")
    assert f'<option value="{job_id(other)}">&lt;other&gt;</option>' in text
    assert f'<option value="{job_id(cleanup)}">Weekly cleanup</option>' in text
    assert f'<option value="{job_id(job)}"' not in text
    client.post(f"/backup-jobs/{job.pk}/edit/", {**backup_form(job), "run_after": job_id(cleanup)})
    answer = client.post(
        f"/maintenance-jobs/{cleanup.key}/edit/", {**maintenance_form(cleanup), "run_after": job_id(job)}
    )
    assert answer.status_code == 422
    assert "Weekly cleanup would run after itself: Weekly cleanup runs after own" in answer.content.decode()


def test_a_maintenance_job_says_why_it_has_no_retries_and_refuses_them(client: Client) -> None:
    job = factories.MaintenanceJobFactory()
    url = f"/maintenance-jobs/{job.key}/edit/"
    text = page(client, url)
    assert "No retries." in text
    assert 'name="retry_count"' not in text
    answer = client.post(url, {**maintenance_form(job), "retry_count": "2"})
    assert answer.status_code == 422
    assert "never tried again without a person" in answer.context["form"].errors["retry_count"][0]
    assert 'name="retry_count"' in page(client, f"/backup-jobs/{factories.BackupJobFactory().pk}/edit/")


def test_the_queues_of_the_hosts_are_offered(client: Client) -> None:
    factories.HostFactory(queues=["attic"])
    text = page(client, "/backup-jobs/new/")
    assert '<option value="attic"></option>' in text
    assert 'list="queues"' in text


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_every_setting_has_a_field_with_help_that_is_not_only_its_name(name: str) -> None:
    field = JobSettingsFields.base_fields[name]
    assert field.label
    assert not field.required


# --- Adding and copying --------------------------------------------------------------------------------------------


def test_a_maintenance_job_is_added_with_a_key_made_from_its_name(client: Client) -> None:
    data = {"name": "Weekly cleanup", "job_type": "retention_cleanup", "schedule_cron": "0 4 * * 0", "enabled": "on"}
    answer = client.post("/maintenance-jobs/new/", {**data, **FILLED}, follow=True)
    assert "Weekly cleanup was added: At 04:00 on Sunday (UTC)." in answer.content.decode()
    job = MaintenanceJob.objects.get(key="weekly_cleanup")
    assert (job.name, job.enabled, job.visible_in_ui) == ("Weekly cleanup", True, True)
    assert settings_of(job) == STORED


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"name": ""}, "name", "required"),
        ({"name": "夜"}, "key", "No key can be made from this name"),
        ({"key": "has space"}, "key", "cannot be a key"),
        ({"key": "../../etc"}, "key", "cannot be a key"),
        ({"key": "new"}, "key", "the address of a page"),
        ({"key": "retention_cleanup_nightly"}, "key", "already"),
        ({"key": "x" * 65}, "key", "at most 64"),
        ({"key": "\0"}, "key", "Null characters"),
        ({"job_type": "coffee"}, "job_type", "not one of the available choices"),
        ({"job_type": ""}, "job_type", "required"),
        ({"schedule_cron": "61 * * * *"}, "schedule_cron", "the minute “61”"),
        ({"timezone": "Mars/Olympus"}, "timezone", "not a time zone"),
    ],
)
def test_a_maintenance_job_that_cannot_be_is_refused_at_its_field(
    client: Client, values: dict[str, str], field: str, says: str
) -> None:
    count = MaintenanceJob.objects.count()
    data = {"name": "Weekly", "job_type": "purge_trash", "schedule_cron": "@weekly", **values}
    answer = client.post("/maintenance-jobs/new/", data)
    assert answer.status_code == 422
    assert says in answer.context["form"].errors[field][0]
    assert MaintenanceJob.objects.count() == count


@pytest.mark.parametrize(("factory", "form", "listed", "address"), KINDS)
def test_the_form_of_a_copy_is_filled_in_and_switched_off(
    client: Client, factory: Any, form: Form, listed: str, address: Any
) -> None:
    job = factory(name="nightly", overlap="skip", queue="nas1", paused_until=datetime(2127, 1, 1, tzinfo=UTC))
    text = page(client, f"{address(job)}duplicate/")
    assert "A copy of nightly" in text
    for shown in ('value="nightly copy"', 'value="nas1"', OPEN):
        assert shown in text
    assert " checked" not in text.partition('name="enabled"')[2].partition(">")[0]
    count = type(job).objects.count()
    answer = client.post(f"{address(job)}duplicate/", {**form(job), "name": "nightly copy", "queue": "nas1"})
    assert answer.status_code == 302
    copy = type(job).objects.get(name="nightly copy")
    assert (copy.enabled, copy.queue, copy.paused_until) == (False, "nas1", None)
    assert type(job).objects.count() == count + 1
    assert 'value="nightly copy 2"' in page(client, f"{address(job)}duplicate/")


def test_a_copy_of_a_backup_job_has_its_policy_with_its_zone_and_none_of_its_holds(client: Client) -> None:
    job = factories.BackupJobFactory(name="nightly", retention={"keep_last": 3, "timezone": "Asia/Tokyo"})
    factories.HoldFactory(job=job)
    data = {**backup_form(job), "name": "nightly copy", "policy": "own", "keep_last": "3"}
    client.post(f"/backup-jobs/{job.pk}/duplicate/", data)
    copy = BackupJob.objects.get(name="nightly copy")
    assert copy.retention == {"keep_last": 3, "timezone": "Asia/Tokyo"}
    assert Hold.objects.get().job == job


@pytest.mark.parametrize(("factory", "form", "listed", "address"), KINDS)
def test_the_name_or_key_of_a_copy_is_its_own(
    client: Client, factory: Any, form: Form, listed: str, address: Any
) -> None:
    job = factory()
    taken = {"name": job.name} if isinstance(job, BackupJob) else {"key": job.key}
    answer = client.post(f"{address(job)}duplicate/", {**form(job), **taken})
    assert answer.status_code == 422
    assert "already" in answer.context["form"].errors[next(iter(taken))][0]


# --- Deleting ------------------------------------------------------------------------------------------------------


def test_a_maintenance_job_is_deleted_and_its_runs_stay(client: Client) -> None:
    run = factories.MaintenanceRunFactory(succeeded=True, job=factories.MaintenanceJobFactory(name="Weekly"))
    url = f"/maintenance-jobs/{run.job.key}/delete/"
    assert "Delete the maintenance job Weekly?" in page(client, url)
    assert client.post(url)["Location"] == "/maintenance-jobs/"
    run.refresh_from_db()
    assert (run.job, run.job_name) == (None, "Weekly")


@pytest.mark.parametrize("key", ["retention_cleanup_nightly", "retention_cleanup_manual", "purge_trash"])
def test_a_default_job_is_not_deleted_and_the_page_says_why(client: Client, key: str) -> None:
    url = f"/maintenance-jobs/{key}/delete/"
    text = page(client, url)
    assert "cannot be deleted" in text
    assert 'class="button danger"' not in text
    assert "cannot be deleted" in client.post(url, follow=True).content.decode()
    assert MaintenanceJob.objects.filter(key=key).exists()
    assert f'href="{url}"' not in page(client, "/maintenance-jobs/")


@pytest.mark.parametrize(("factory", "form", "listed", "address"), KINDS)
def test_a_job_that_others_run_after_is_not_deleted_and_they_are_named(
    client: Client, factory: Any, form: Form, listed: str, address: Any
) -> None:
    job = factory(name="nightly")
    follower = factories.BackupJobFactory(name="offsite", run_after=job_id(job))
    text = page(client, f"{address(job)}delete/")
    assert f'<a href="/backup-jobs/{follower.pk}/">offsite</a> runs after nightly.' in text
    answer = client.post(f"{address(job)}delete/", follow=True)
    assert "offsite runs after nightly. Choose another job or none there" in answer.content.decode()
    assert type(job).objects.filter(pk=job.pk).exists()
    job_set(job=follower, run_after="")
    assert client.post(f"{address(job)}delete/").status_code == 302
    assert not type(job).objects.filter(pk=job.pk).exists()


# --- Races ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factory", "form", "listed", "address"), KINDS)
def test_a_job_deleted_while_its_form_is_sent_loses_nothing_that_was_typed(
    client: Client, factory: Any, form: Form, listed: str, address: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = factory()
    data = {**form(job), "name": "typed name"}
    clean = JobSettingsFields.clean_blackout_dates

    def meanwhile(self: Any) -> Any:
        type(job).objects.filter(pk=job.pk).delete()
        return clean(self)

    monkeypatch.setattr(JobSettingsFields, "clean_blackout_dates", meanwhile)
    answer = client.post(f"{address(job)}edit/", data)
    assert answer.status_code == 422
    assert "was deleted a moment ago" in answer.content.decode()
    assert 'value="typed name"' in answer.content.decode()


@pytest.mark.parametrize(("model", "field"), [(Target, "targets"), (Storage, "storage")], ids=["target", "storage"])
def test_what_a_form_chose_and_somebody_deleted_since_is_said(
    client: Client, model: Any, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = factories.BackupJobFactory()
    chosen = {"targets": [factories.TargetFactory().pk], "storage": factories.StorageFactory().pk}
    valid = JobForm.is_valid

    def meanwhile(form: JobForm) -> bool:
        """As slow as a form can be: deleted after it was checked and before it is saved."""
        found = valid(form)
        model.objects.filter(jobs=None).delete()
        return found

    monkeypatch.setattr(JobForm, "is_valid", meanwhile)
    answer = client.post(f"/backup-jobs/{job.pk}/edit/", {**backup_form(job), **chosen})
    assert answer.status_code == 422
    assert "was deleted a moment ago" in answer.context["form"].errors[field][0]
    job.refresh_from_db()
    assert job.storage_id != chosen["storage"]


@pytest.mark.parametrize("action", ["toggle", "pause", "duplicate", "delete", "edit", "run"])
def test_a_job_that_is_gone_is_a_404_whatever_is_asked(client: Client, action: str) -> None:
    for url in (f"/backup-jobs/{'9' * 30}/{action}/", f"/maintenance-jobs/gone/{action}/"):
        assert client.post(url, {"enabled": "on"}).status_code == 404


def test_a_job_edited_while_it_runs_ends_as_it_began(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path, "nightly")
    other = factories.TargetFactory(name="other")
    said: list[int] = []

    def echo(_level: str, _text: str) -> None:
        if not said:
            data = {**backup_form(job), "name": "renamed", "targets": [other.pk], **FILLED}
            said.append(client.post(f"/backup-jobs/{job.pk}/edit/", data).status_code)

    run = scheduled_dispatch("backup", job.pk, inline=True, trigger=RunTrigger.COMMAND, echo=echo)
    assert said == [302]
    assert run is not None
    run = BackupRun.objects.get(pk=run.pk)
    assert (run.status, run.job_name) == (RunStatus.SUCCEEDED, "nightly")
    assert Backup.objects.get().target_name == "etc"
    job.refresh_from_db()
    assert (job.name, job.queue, [target.name for target in job.targets.all()]) == ("renamed", "nas1", ["other"])


# --- Lists ---------------------------------------------------------------------------------------------------------


def row_of(text: str, name: str) -> str:
    """The list's row of the job with this name, without the names of others."""
    return text[text.index(f">{name}</a>") :].partition("</tr>")[0]


@pytest.mark.parametrize(("factory", "form", "listed", "address"), KINDS)
def test_a_list_says_schedule_next_and_last_run_and_what_holds_a_job_back(
    client: Client, factory: Any, form: Form, listed: str, address: Any
) -> None:
    schedule = "schedule" if factory is factories.BackupJobFactory else "schedule_cron"
    plain = factory(name="plain one")
    factory(name="paused one", paused_until=timezone.now() + timedelta(days=2), paused_by="anna")
    factory(name="switched off one", enabled=False)
    factory(name="following one", run_after=job_id(plain), **{schedule: ""})
    factory(name="by hand one", **{schedule: ""})
    text = page(client, listed)
    assert "every day" in row_of(text, "plain one")
    assert "never" in row_of(text, "plain one")
    assert 'data-status="paused"' in row_of(text, "paused one")
    assert "by anna" in row_of(text, "paused one")
    assert "Switched off" in row_of(text, "switched off one")
    assert "After plain one" in row_of(text, "following one")
    assert "Switch off" in row_of(text, "following one")
    assert "By hand only" in row_of(text, "by hand one")
    assert "Switch off" not in row_of(text, "by hand one")


@pytest.mark.parametrize(("factory", "form", "listed", "address"), KINDS)
def test_a_list_offers_exactly_what_somebody_may_do(
    client: Client, factory: Any, form: Form, listed: str, address: Any
) -> None:
    job = factory(name="nightly")
    offered = {
        "viewer": set(),
        "operator": {"edit", "pause", "run", "toggle"} | ({"duplicate"} if isinstance(job, BackupJob) else set()),
        "administrator": {"edit", "pause", "run", "toggle", "duplicate", "delete"},
    }
    for role, actions in offered.items():
        text = page(sign_in(role), listed)
        found = {action for action in offered["administrator"] if f"{address(job)}{action}/" in text}
        assert found == actions, role


@pytest.mark.parametrize(("factory", "form", "listed", "address"), KINDS)
def test_a_list_takes_the_same_few_queries_for_many_jobs(
    client: Client, factory: Any, form: Form, listed: str, address: Any
) -> None:
    first = factory()

    def measured(count: int) -> int:
        factory.create_batch(count, run_after=job_id(first), paused_until=timezone.now() + timedelta(hours=1))
        with CaptureQueriesContext(connection) as queries:
            page(client, listed)
        return len(queries)

    page(client, listed)
    few, many = measured(1), measured(20)
    assert many == few
    assert many <= 15


def test_the_form_takes_the_same_few_queries_for_many_jobs(client: Client) -> None:
    job = factories.BackupJobFactory()

    def measured(count: int) -> int:
        factories.BackupJobFactory.create_batch(count, storage=job.storage)
        factories.MaintenanceJobFactory.create_batch(count)
        with CaptureQueriesContext(connection) as queries:
            page(client, f"/backup-jobs/{job.pk}/edit/")
        return len(queries)

    page(client, f"/backup-jobs/{job.pk}/edit/")
    measured(10)
    assert measured(1) == measured(20)
