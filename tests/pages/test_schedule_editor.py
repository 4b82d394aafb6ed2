"""The schedule field of both job forms, and the fragment that says what is typed there means."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backups.models import BackupJob
from backups.services.options import options_update
from maintenance.choices import JobType
from scheduling.choices import RunStatus
from tests import factories
from tests.pages.people import HTMX, sign_in

pytestmark = pytest.mark.django_db

WORDS = "/schedule/"


@pytest.fixture
def client() -> Client:
    return sign_in("administrator")


def asked(client: Client, **query: Any) -> str:
    answer = client.get(WORDS, query, headers=HTMX)
    assert answer.status_code == 200
    return answer.content.decode()


def past_runs(job: BackupJob, minutes: int, count: int = 20) -> None:
    for number in range(count):
        started = timezone.now() - timedelta(days=number + 1)
        factories.BackupRunFactory(
            job=job,
            status=RunStatus.SUCCEEDED,
            queued_at=started,
            started_at=started,
            finished_at=started + timedelta(minutes=minutes),
        )


@pytest.mark.parametrize("form", ["/backup-jobs/new/", "/backup-jobs/{backup}/edit/", "/maintenance-jobs/{key}/edit/"])
def test_both_forms_show_words_twenty_times_and_presets(client: Client, form: str) -> None:
    job = factories.BackupJobFactory()
    cleanup = factories.MaintenanceJobFactory(schedule_cron="30 2 * * *")
    text = client.get(form.format(backup=job.pk, key=cleanup.key)).content.decode()
    assert "At 02:30 every day." in text
    assert text.count('<time datetime="', text.index("The next 20 times")) >= 20
    assert len(re.findall(r'<button class="chip" id="preset-', text)) == 8
    assert re.search(r'value="nightly"[^>]*aria-pressed="true"', text)


def test_enter_saves_and_presses_no_preset(client: Client) -> None:
    """Enter in a field presses the first button of its form."""
    text = client.get("/backup-jobs/new/").content.decode()
    form = text[text.index('<form class="form wide"') :]
    assert "name=" not in form[form.index("<button") : form.index("</button>")]


def test_a_preset_fills_the_field_and_keeps_the_time(client: Client) -> None:
    text = asked(client, schedule="15 4 * * *", preset="weekly")
    assert re.search(r'<input type="text" name="schedule"[^>]*value="15 4 \* \* 0"[^>]*hx-swap-oob="true"', text)
    assert re.search(r'value="weekly"[^>]*aria-pressed="true"', text)
    assert "At 04:15 on Sunday." in text


def test_what_is_typed_is_not_written_over(client: Client) -> None:
    assert "<input" not in asked(client, schedule="15 4 * * *")


def test_the_maintenance_form_has_its_own_field(client: Client) -> None:
    text = asked(client, field="schedule_cron", schedule_cron="0 5 * * *", preset="monthly")
    assert 'name="schedule_cron" id="id_schedule_cron" value="0 5 1 * *"' in text


@pytest.mark.parametrize(
    ("url", "field"), [("/backup-jobs/new/", "schedule"), ("/maintenance-jobs/new/", "schedule_cron")]
)
def test_a_preset_works_without_javascript_and_loses_nothing(client: Client, url: str, field: str) -> None:
    targets = [factories.TargetFactory(), factories.TargetFactory()]
    typed = {
        "name": "half <done>",
        field: "15 4 * * *",
        "timezone": "Asia/Tokyo",
        "targets": [targets[1].pk],
        "time_limit": "not a number",
        "preset": "weekdays",
    }
    answer = client.post(url, typed)
    text = answer.content.decode()
    assert answer.status_code == 200
    assert 'value="15 4 * * 1-5"' in text
    for kept in ("half &lt;done&gt;", "Asia/Tokyo"):
        assert kept in text
    if field == "schedule":
        assert re.search(rf'name="targets" value="{targets[1].pk}"[^>]*checked', text)
    assert 'aria-invalid="true"' not in text
    assert not BackupJob.objects.exists()


def test_a_preset_of_a_job_that_there_is_changes_nothing_yet(client: Client) -> None:
    job = factories.BackupJobFactory(name="nightly")
    text = client.post(f"/backup-jobs/{job.pk}/edit/", {"name": "other", "preset": "use:5 3 * * *"}).content.decode()
    assert 'value="5 3 * * *"' in text
    job.refresh_from_db()
    assert (job.name, job.schedule) == ("nightly", "30 2 * * *")


def test_times_are_shown_by_the_viewers_clock_and_the_schedules(client: Client) -> None:
    options_update(timezone="Europe/Berlin")
    text = asked(client, schedule="0 9 * * *", timezone="Asia/Tokyo")
    assert "by your clock, then in Asia/Tokyo" in text
    assert re.search(r", 0[12]:00 CES?T</time> <span class=\"muted\">\w{3} 09:00 JST</span>", text)
    assert "by your clock" not in asked(client, schedule="0 9 * * *")


def test_run_window_and_blackout_dates_are_said_of_each_time(client: Client) -> None:
    day = timezone.localdate() + timedelta(days=2)
    text = asked(
        client, schedule="0 12 * * *", window_start="22:00", window_end="06:00", blackout_dates=f"{day}\nnonsense"
    )
    assert text.count("waits until 22:00") == 19
    assert text.count(f"skipped: {day} is a blackout date") == 1
    assert "None of its next 20 times lies in its run window" in text


def test_another_job_on_the_same_storage_is_pointed_out_with_a_free_time(client: Client) -> None:
    photos = factories.BackupJobFactory(name="photos <1>", schedule="0 2 * * *")
    past_runs(photos, 48)
    text = asked(client, schedule="30 2 * * *", kind="backup", storage=photos.storage_id)
    assert "photos &lt;1&gt; may still be at work, since 02:00 and for up to 48 min" in text
    assert 'value="use:50 2 * * *"' in text
    elsewhere = asked(client, schedule="30 2 * * *", kind="backup", storage=factories.StorageFactory().pk)
    assert "may still be at work" not in elsewhere


def test_a_job_is_not_compared_with_itself(client: Client) -> None:
    job = factories.BackupJobFactory(name="lonely", schedule="30 2 * * *")
    query = {"schedule": "30 2 * * *", "kind": "backup", "storage": job.storage_id}
    assert "lonely starts as well" in asked(client, **query)
    assert "lonely" not in asked(client, **query, job=job.pk)


def test_a_job_that_is_switched_off_is_in_nobodys_way(client: Client) -> None:
    job = factories.BackupJobFactory(name="sleeper", enabled=False)
    assert "sleeper" not in asked(client, schedule="30 2 * * *", kind="backup", storage=job.storage_id)


def test_its_own_past_runs_say_how_often_it_can_run(client: Client) -> None:
    job = factories.BackupJobFactory(schedule="*/5 * * * *")
    past_runs(job, 12)
    text = asked(client, schedule="*/5 * * * *", kind="backup", job=job.pk, storage=job.storage_id)
    assert "It starts again after 5 min but takes up to 12 min" in text


def test_a_cleanup_before_the_backup_is_pointed_out_in_both_forms(client: Client) -> None:
    job = factories.BackupJobFactory(name="nightly", schedule="30 2 * * *")
    cleanup = factories.MaintenanceJobFactory(
        name="sweep", schedule_cron="0 1 * * *", job_type=JobType.RETENTION_CLEANUP
    )
    of_cleanup = asked(client, field="schedule_cron", schedule_cron="0 1 * * *", kind="maintenance", job=cleanup.pk)
    assert "before nightly makes that night’s copy at 02:30" in of_cleanup
    of_backup = asked(client, schedule="30 2 * * *", kind="backup", job=job.pk, storage=job.storage_id)
    assert "sweep cleans up at 01:00" in of_backup
    new = asked(
        client, field="schedule_cron", schedule_cron="0 1 * * *", kind="maintenance", job_type="retention_cleanup"
    )
    assert "before nightly makes that night’s copy at 02:30" in new
    purge = asked(client, field="schedule_cron", schedule_cron="0 1 * * *", kind="maintenance", job_type="purge_trash")
    assert "before nightly makes" not in purge


HOSTILE: list[dict[str, str]] = [
    {"schedule": "\0"},
    {"schedule": "0 " * 5000},
    {"schedule": "30 2 30 2 *"},
    {"schedule": "0 0 29 2 0"},
    {"schedule": "<script>alert(1)</script>"},
    {"schedule": "30 2 * * *", "timezone": "Mars/Olympus"},
    {"schedule": "30 2 * * *", "timezone": "\0"},
    {"schedule": "30 2 * * *", "timezone": "../../etc/passwd"},
    {"schedule": "30 2 * * *", "timezone": "x" * 10_000},
    {"schedule": "30 2 * * *", "storage": "9" * 400, "job": "9" * 400, "kind": "backup"},
    {"schedule": "30 2 * * *", "storage": "-1", "job": "\0", "kind": "backup"},
    {"schedule": "30 2 * * *", "storage": "٣", "job": "٣", "kind": "maintenance"},
    {"schedule": "30 2 * * *", "kind": "nonsense", "job": "1"},
    {"schedule": "30 2 * * *", "window_start": "25:00", "window_end": "\0"},
    {"schedule": "30 2 * * *", "window_start": "22:00+02:00", "window_end": "06:00"},
    {"schedule": "30 2 * * *", "window_start": "22:00"},
    {"schedule": "30 2 * * *", "window_start": "02:00", "window_end": "02:00"},
    {"schedule": "30 2 * * *", "blackout_dates": "2026-02-30 " * 400},
    {"schedule": "* * * * *", "blackout_dates": "0001-01-01..9999-12-31"},
    {"field": "csrfmiddlewaretoken", "schedule": "@daily"},
    {"preset": "\0"},
    {"preset": "use:" + "x" * 9000},
    {"preset": "use:\0"},
    {"preset": "no such preset", "schedule": "1 2 3 4 5"},
    {"brief": "", "schedule": "\0"},
]


@pytest.mark.parametrize("query", HOSTILE, ids=[str(number) for number in range(len(HOSTILE))])
def test_whatever_is_sent_is_answered(client: Client, query: dict[str, str]) -> None:
    factories.BackupJobFactory()
    text = asked(client, **query)
    assert "<script" not in text
    assert "\0" not in text


@pytest.mark.parametrize("schedule", ["0 0 29 2 *", "0 * 29 2 *", "30 2 29 2 */7", "0 0 31 12 1#5"])
def test_a_schedule_that_hardly_ever_fires_is_answered_at_once(client: Client, schedule: str) -> None:
    began = timezone.now()
    assert (
        "The next 20 times" in asked(client, schedule=schedule, timezone="Europe/Berlin") or "never happens" in schedule
    )
    assert timezone.now() - began < timedelta(seconds=3)


@pytest.mark.parametrize("jobs", [1, 60])
def test_the_number_of_queries_does_not_grow_with_the_jobs(client: Client, jobs: int) -> None:
    storage = factories.StorageFactory()
    for number in range(jobs):
        factories.BackupJobFactory(storage=storage, schedule=f"{number} 2 * * *", targets=[])
    factories.MaintenanceJobFactory(schedule_cron="0 3 * * *")
    job = BackupJob.objects.first()
    assert job is not None
    with CaptureQueriesContext(
        connection,
    ) as queries:
        asked(client, schedule="30 2 * * *", kind="backup", job=job.pk, storage=storage.pk)
    assert 8 <= len(queries) <= 22


def test_names_of_jobs_are_for_those_who_may_see_them() -> None:
    job = factories.BackupJobFactory(name="secret", schedule="30 2 * * *")
    viewer = sign_in("viewer")
    assert "secret starts as well" in asked(viewer, schedule="30 2 * * *", storage=job.storage_id)
    answer = Client().get(WORDS, {"schedule": "30 2 * * *", "storage": job.storage_id})
    assert answer.status_code == 302
