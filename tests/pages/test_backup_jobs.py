from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backups.models import Backup, BackupJob, BackupRun
from backups.services.options import options_update
from tests import factories
from tests.pages.people import HTMX, sign_in
from tests.support import add_backup, files_in, make_job, make_storage, make_target

pytestmark = pytest.mark.django_db

NEW = "/backup-jobs/new/"
LIST = "/backup-jobs/"
WORDS = "/schedule/"


@pytest.fixture
def client() -> Client:
    return sign_in("operator")


def page(client: Client, url: str, **query: str) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return answer.content.decode()


def filled(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """A form filled in by somebody who wants a nightly job of a real tree to a real storage."""
    return {
        "name": "nightly",
        "targets": [make_target(tmp_path).pk],
        "storage": make_storage(tmp_path).pk,
        "schedule": "30 2 * * *",
        "timezone": "",
        "enabled": "on",
        "policy": "options",
        **changes,
    }


def test_a_job_is_added_with_its_targets_storage_and_schedule(client: Client, tmp_path: Path) -> None:
    answer = client.post(NEW, filled(tmp_path, timezone="Europe/Berlin"))
    job = BackupJob.objects.get()
    assert answer["Location"] == f"/backup-jobs/{job.pk}/"
    assert (job.name, job.schedule, job.timezone, job.enabled) == ("nightly", "30 2 * * *", "Europe/Berlin", True)
    assert ([target.name for target in job.targets.all()], job.storage.name) == (["etc"], "nas")
    assert job.retention is None


def test_a_policy_of_its_own_is_stored_as_typed(client: Client, tmp_path: Path) -> None:
    rules = {"keep_last": "3", "keep_daily": "", "keep_weekly": "0", "keep_monthly": "-1", "keep_within_daily": "1m7d"}
    client.post(NEW, filled(tmp_path, policy="own", **rules))
    assert BackupJob.objects.get().retention == {"keep_last": 3, "keep_monthly": -1, "keep_within_daily": "1m7d"}


def test_an_own_policy_without_rules_keeps_everything_and_says_so(client: Client, tmp_path: Path) -> None:
    client.post(NEW, filled(tmp_path, policy="own"))
    job = BackupJob.objects.get()
    assert job.retention == {}
    assert "No rule: everything is kept" in page(client, f"/backup-jobs/{job.pk}/")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"name": ""}, "This field is required.", id="no name"),
        pytest.param({"name": "x" * 81}, "at most 80 characters", id="a long name"),
        pytest.param({"targets": []}, "Choose at least one target", id="no target"),
        pytest.param({"targets": ["9" * 30]}, "is not one of the available choices", id="a target beyond 64 bits"),
        pytest.param({"targets": ["etc"]}, "is not a valid value", id="a target that is no number"),
        pytest.param({"storage": "9" * 30}, "not one of the available choices", id="a storage beyond 64 bits"),
        pytest.param({"storage": "x"}, "not one of the available choices", id="a storage that is no number"),
        pytest.param({"schedule": "61 * * * *"}, "the minute “61” cannot be read", id="no such minute"),
        pytest.param({"schedule": "0 0 31 2 *"}, "cannot be read or never happens", id="no such date"),
        pytest.param({"schedule": "* * * * * *"}, "has 6 fields", id="seconds"),
        pytest.param({"schedule": "0 " * 400}, "at most 120 characters", id="a long schedule"),
        pytest.param({"schedule": "0\0"}, "Null characters are not allowed.", id="NUL in the schedule"),
        pytest.param({"timezone": "Mars/Olympus"}, "is not a time zone", id="no such zone"),
        pytest.param({"timezone": "../../etc/passwd"}, "is not a time zone", id="a path as the zone"),
        pytest.param({"policy": "none"}, "is not one of the available choices", id="no such policy"),
        pytest.param({"policy": "own", "keep_last": "many"}, "Use a whole number from 0", id="a count in words"),
        pytest.param({"policy": "own", "keep_last": "-2"}, "Use a whole number from 0", id="a negative count"),
        pytest.param({"policy": "own", "keep_last": "9" * 5000}, "Use a whole number from 0", id="a huge count"),
        pytest.param({"policy": "own", "keep_within": "3 weeks"}, "is not a duration", id="a duration in words"),
        pytest.param({"policy": "own", "keep_within": "9" * 39 + "d"}, "is too long", id="a huge duration"),
    ],
)
def test_a_job_that_cannot_be_is_refused_at_its_field(
    client: Client, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    answer = client.post(NEW, filled(tmp_path, **changes))
    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert not BackupJob.objects.exists()


def test_rules_out_of_sight_do_not_stand_in_the_way(client: Client, tmp_path: Path) -> None:
    assert client.post(NEW, filled(tmp_path, policy="options", keep_last="many")).status_code == 302
    assert BackupJob.objects.get().retention is None


def test_a_storage_inside_its_own_source_is_refused(client: Client, tmp_path: Path) -> None:
    target = factories.TargetFactory(config={"paths": [str(tmp_path)], "exclude": []})
    answer = client.post(NEW, filled(tmp_path, targets=[target.pk]))
    assert answer.status_code == 422
    assert "each backup would contain the ones before it" in answer.content.decode()


def test_an_empty_form_is_refused_rather_than_taken_for_a_new_one(client: Client) -> None:
    assert client.post(NEW, {}).status_code == 422


def test_the_form_of_a_job_shows_what_it_is_and_saves_changes(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path, "nightly", retention={"keep_last": 5, "timezone": "Asia/Tokyo"}, timezone="Europe/Paris")
    url = f"/backup-jobs/{job.pk}/edit/"
    text = page(client, url)
    for shown in ('value="nightly"', 'value="30 2 * * *"', 'value="Europe/Paris"'):
        assert shown in text
    assert " checked" in text.partition('value="own"')[2].partition(">")[0]
    targets = list(job.targets.values_list("pk", flat=True))
    data = {"name": "hourly", "targets": targets, "storage": job.storage_id, "schedule": "@hourly", "policy": "own"}
    assert client.post(url, {**data, "keep_last": "7"}).status_code == 302
    job.refresh_from_db()
    assert (job.name, job.schedule, job.timezone, job.enabled) == ("hourly", "@hourly", "", False)
    assert job.retention == {"keep_last": 7, "timezone": "Asia/Tokyo"}, "a zone given elsewhere is not lost"


def test_run_now_records_a_queued_run_and_leaves_the_work_to_the_scheduler(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    answer = client.post(f"/backup-jobs/{job.pk}/run/")
    run = BackupRun.objects.get()
    assert answer["Location"] == f"/runs/backup/{run.pk}/"
    assert (run.job, run.status, run.trigger, run.requested_by) == (job, "queued", "manual", "the operator")
    assert not Backup.objects.exists()
    assert files_in(job.storage) == set()


def test_run_now_twice_leads_to_the_run_that_waits(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    first, second = (client.post(f"/backup-jobs/{job.pk}/run/")["Location"] for _ in range(2))
    assert first == second
    assert BackupRun.objects.count() == 1


def test_a_job_that_is_switched_off_can_be_run_by_hand(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path, enabled=False)
    assert client.post(f"/backup-jobs/{job.pk}/run/").status_code == 302
    assert BackupRun.objects.get().status == "queued"


@pytest.mark.parametrize(
    ("asked", "enabled"),
    [("off", False), ("on", True), ("", True), ("maybe", True)],
    ids=["off", "on again", "nothing said", "nonsense"],
)
def test_a_schedule_is_switched_to_what_was_asked_for(
    client: Client, tmp_path: Path, asked: str, enabled: bool
) -> None:
    job = make_job(tmp_path)
    url = f"/backup-jobs/{job.pk}/toggle/"
    assert client.post(url, {"enabled": asked})["Location"] == f"/backup-jobs/{job.pk}/"
    assert client.post(url, {"enabled": asked, "back": "list"})["Location"] == LIST
    job.refresh_from_db()
    assert job.enabled is enabled


def test_switching_off_in_the_list_swaps_the_table_alone(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    data = {"enabled": "off", "back": "list"}
    answer = client.post(f"/backup-jobs/{job.pk}/toggle/", data, headers=HTMX, follow=True)
    text = answer.content.decode()
    assert text.strip().startswith('<div id="jobs">')
    assert "Switched off" in text
    assert "HX-Request" in answer["Vary"]
    assert "HX-Request" in client.get(LIST)["Vary"]


def test_deleting_a_job_leaves_its_backups_and_runs(tmp_path: Path) -> None:
    client, job = sign_in("administrator"), make_job(tmp_path, "nightly")
    backup = add_backup(job, timezone.now())
    run = factories.BackupRunFactory(job=job, succeeded=True)
    asked = page(client, f"/backup-jobs/{job.pk}/delete/")
    assert "Its 1 copy stays" in asked
    assert "Nothing else backs up etc." in asked
    assert client.post(f"/backup-jobs/{job.pk}/delete/")["Location"] == LIST
    backup.refresh_from_db()
    run.refresh_from_db()
    assert (backup.job, backup.job_name, backup.state) == (None, "nightly", "available")
    assert (run.job, run.job_name) == (None, "nightly")
    assert (Path(backup.storage.path) / backup.artifact.relative).is_file()


def test_a_job_that_runs_is_not_deleted(tmp_path: Path) -> None:
    client, job = sign_in("administrator"), make_job(tmp_path, "nightly")
    factories.BackupRunFactory(job=job, running=True)
    answer = client.post(f"/backup-jobs/{job.pk}/delete/", follow=True)
    assert "nightly is running. Wait for it to end" in answer.content.decode()
    assert BackupJob.objects.exists()


def test_the_page_of_a_job_says_when_where_and_how_long(client: Client, tmp_path: Path) -> None:
    options_update(timezone="Europe/Berlin", retention={"keep_daily": 7}, minimum_keep=2)
    job = make_job(tmp_path, "nightly")
    add_backup(job, timezone.now(), content=b"x" * 4096)
    text = page(client, f"/backup-jobs/{job.pk}/")
    assert "At 02:30 every day (Europe/Berlin)" in text
    assert text.count(", 02:30</time>") == 5
    assert "7 daily; periods in Europe/Berlin" in text
    assert "at least 2 good copies of every target stay" in text
    assert "4.0" in text


def test_copies_of_a_former_target_stay_in_sight(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path, targets=("etc", "www"))
    www = job.targets.get(name="www")
    add_backup(job, timezone.now(), target=www)
    job.targets.set(job.targets.exclude(pk=www.pk))
    assert "no longer a target of this job" in page(client, f"/backup-jobs/{job.pk}/")
    www.delete()
    assert "deleted; its copies stay for good" in page(client, f"/backup-jobs/{job.pk}/")


@pytest.mark.parametrize(
    ("schedule", "zone", "says"),
    [
        ("30 2 * * *", "America/New_York", "At 02:30 every day."),
        ("30 2 * * *", "America/New_York", "then in America/New_York"),
        ("", "", "Only by hand."),
        ("@daily", "", "The next 20 times"),
        ("61 * * * *", "", "the minute “61” cannot be read"),
        ("@daily", "Mars/Olympus", "is not a time zone"),
        ("@daily", "\0", "is not a time zone"),
        ("\0 * * * *", "", "cannot be read"),
        ("0 " * 5000, "", "longer than 120 characters"),
        ("<script>", "", "&lt;script&gt;"),
        ("@daily", "x" * 9000, "is not a time zone"),
    ],
)
def test_a_schedule_is_put_into_words_while_it_is_typed(client: Client, schedule: str, zone: str, says: str) -> None:
    assert says in page(client, WORDS, schedule=schedule, timezone=zone)


def test_a_new_job_for_a_target_has_it_ticked(client: Client) -> None:
    target = factories.TargetFactory()
    text = page(client, NEW, target=str(target.pk))
    assert " checked" in text.partition(f'name="targets" value="{target.pk}"')[2].partition(">")[0]
    for odd in ("x", "9" * 5000, "-1", "\0"):
        assert client.get(NEW, {"target": odd}).status_code == 200


@pytest.mark.parametrize(("role", "may"), [("viewer", False), ("operator", True)])
def test_what_somebody_may_not_do_is_not_offered(role: str, may: bool) -> None:
    job = factories.BackupJobFactory()
    client = sign_in(role)
    for url in (LIST, f"/backup-jobs/{job.pk}/"):
        assert (f'"/backup-jobs/{job.pk}/run/"' in page(client, url)) is may
        assert (f'"/backup-jobs/{job.pk}/toggle/"' in page(client, url)) is may
    assert "/delete/" not in page(client, f"/backup-jobs/{job.pk}/")


def test_without_jobs_the_next_step_depends_on_what_is_there(client: Client) -> None:
    assert 'href="/protect/"' in page(client, LIST)
    factories.TargetFactory()
    assert f'href="{NEW}"' in page(client, LIST)


@pytest.mark.parametrize("pk", ["0", "9" * 30])
@pytest.mark.parametrize("rest", ["", "edit/"])
def test_a_job_that_is_not_there_is_a_404(client: Client, pk: str, rest: str) -> None:
    assert client.get(f"/backup-jobs/{pk}/{rest}").status_code == 404


@pytest.mark.parametrize("action", ["run", "toggle"])
def test_actions_are_posted_and_a_job_that_is_not_there_is_a_404(client: Client, action: str) -> None:
    assert client.get(f"/backup-jobs/1/{action}/").status_code == 405
    assert client.post(f"/backup-jobs/{'9' * 30}/{action}/").status_code == 404


def test_the_list_asks_no_more_queries_for_more_jobs(client: Client) -> None:
    def fill(count: int) -> int:
        for job in factories.BackupJobFactory.create_batch(count):
            factories.BackupRunFactory.create_batch(2, job=job, succeeded=True)
        with CaptureQueriesContext(connection) as queries:
            page(client, LIST)
        return len(queries)

    client.get(LIST)
    few, many = fill(1), fill(20)
    assert many == few
    assert many <= 14
