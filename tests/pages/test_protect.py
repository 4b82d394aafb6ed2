from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from backups.models import Backup, BackupJob, BackupRun, Storage, Target
from scheduling.executing import execute_run
from tests import factories
from tests.pages.people import sign_in
from tests.support import make_storage, make_tree

pytestmark = pytest.mark.django_db

URL = "/protect/"


@pytest.fixture
def client() -> Client:
    return sign_in("operator")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return make_storage(tmp_path)


def filled(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """The form as a newcomer leaves it, for a real folder."""
    return {
        "paths": str(make_tree(tmp_path / "letters")),
        "exclude": "*.tmp",
        "name": "letters",
        "storage": Storage.objects.get().pk,
        "preset": "30 2 * * *",
        "schedule": "",
        "run_now": "on",
        **changes,
    }


def test_one_form_leads_from_a_folder_to_its_first_backup(client: Client, storage: Storage, tmp_path: Path) -> None:
    answer = client.post(URL, filled(tmp_path))
    target, job, run = Target.objects.get(), BackupJob.objects.get(), BackupRun.objects.get()
    assert answer["Location"] == f"/runs/backup/{run.pk}/"
    assert (target.name, target.paths, target.exclude) == ("letters", [str(tmp_path / "letters")], ["*.tmp"])
    assert (job.name, job.storage, list(job.targets.all())) == ("letters", storage, [target])
    assert (job.schedule, job.timezone, job.enabled, job.retention) == ("30 2 * * *", "", True, None)
    assert (run.status, run.trigger, run.requested_by) == ("queued", "manual", "the operator")
    assert not Backup.objects.exists(), "the request itself reads nothing"
    finished = execute_run("backup", run.pk)
    assert finished is not None
    assert finished.status == "succeeded", finished.message
    assert Backup.objects.get().entries == 3


def test_without_the_first_run_it_leads_to_the_job(client: Client, storage: Storage, tmp_path: Path) -> None:
    answer = client.post(URL, filled(tmp_path, run_now=""))
    assert answer["Location"] == f"/backup-jobs/{BackupJob.objects.get().pk}/"
    assert not BackupRun.objects.exists()


@pytest.mark.parametrize(
    ("preset", "schedule", "stored"),
    [
        ("0 * * * *", "", "0 * * * *"),
        ("30 2 * * 0", "", "30 2 * * 0"),
        ("custom", "15 4 * * 1-5", "15 4 * * 1-5"),
        ("custom", "@weekly", "@weekly"),
        ("0 * * * *", "nonsense that is out of sight", "0 * * * *"),
        ("0 * * * *", "x" * 500, "0 * * * *"),
    ],
)
def test_the_schedule_is_the_one_chosen_or_written(
    client: Client, storage: Storage, tmp_path: Path, preset: str, schedule: str, stored: str
) -> None:
    assert client.post(URL, filled(tmp_path, preset=preset, schedule=schedule)).status_code == 302
    assert BackupJob.objects.get().schedule == stored


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"paths": ""}, "Give at least one absolute path", id="no folder"),
        pytest.param({"paths": "letters"}, "is not an absolute path", id="a relative folder"),
        pytest.param({"paths": "/a\0b"}, "Null characters are not allowed.", id="NUL"),
        pytest.param({"name": " "}, "This field is required.", id="no name"),
        pytest.param({"name": "x" * 81}, "at most 80 characters", id="a long name"),
        pytest.param({"storage": "9" * 30}, "not one of the available choices", id="a storage beyond 64 bits"),
        pytest.param({"storage": ""}, "Choose where the copies go.", id="no storage"),
        pytest.param({"preset": "* * * * *"}, "not one of the available choices", id="another preset"),
        pytest.param({"preset": "custom"}, "Write five cron fields", id="no schedule of one’s own"),
        pytest.param({"preset": "custom", "schedule": "61 * * * *"}, "the minute “61”", id="a bad schedule"),
        pytest.param({"preset": "custom", "schedule": "x" * 500}, "at most 120 characters", id="a long schedule"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field_and_nothing_is_made(
    client: Client, storage: Storage, tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    answer = client.post(URL, filled(tmp_path, **changes))
    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert not Target.objects.exists()
    assert not BackupJob.objects.exists()


@pytest.mark.parametrize("taken", [factories.TargetFactory, factories.BackupJobFactory])
def test_a_name_that_a_target_or_a_job_has_makes_neither(
    client: Client, storage: Storage, tmp_path: Path, taken: Any
) -> None:
    data = filled(tmp_path)
    taken(name="letters")
    before = Target.objects.count(), BackupJob.objects.count()
    answer = client.post(URL, data)
    assert answer.status_code == 422
    assert "called “letters” already" in answer.content.decode()
    assert (Target.objects.count(), BackupJob.objects.count()) == before


def test_a_storage_inside_the_folder_is_refused_and_no_target_is_left(
    client: Client, storage: Storage, tmp_path: Path
) -> None:
    answer = client.post(URL, filled(tmp_path, paths=str(tmp_path)))
    assert answer.status_code == 422
    assert "each backup would contain the ones before it" in answer.content.decode()
    assert not Target.objects.exists()


def test_an_empty_form_is_refused_rather_than_taken_for_a_new_one(client: Client, storage: Storage) -> None:
    assert client.post(URL, {}).status_code == 422


def test_without_a_storage_the_page_says_where_to_get_one(client: Client) -> None:
    text = client.get(URL).content.decode()
    assert "There is no storage yet." in text
    assert 'href="/storages/"' in text


def test_the_first_storage_is_chosen(client: Client, tmp_path: Path) -> None:
    first, second = make_storage(tmp_path, "z"), make_storage(tmp_path, "a")
    text = client.get(URL).content.decode()
    assert f'value="{first.pk}" selected' in text
    assert f'value="{second.pk}" selected' not in text


def test_a_path_that_is_not_there_is_said_and_saved_only_when_asked_once_more(
    client: Client, storage: Storage, tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "nowhere")
    answer = client.post(URL, filled(tmp_path, paths=nowhere))
    text = answer.content.decode()
    assert answer.status_code == 422
    assert nowhere in text
    assert "Nothing is saved yet." in text
    assert 'name="anyway"' in text
    assert not Target.objects.exists()
    for run_now in ("on", ""):
        Target.objects.all().delete()
        answer = client.post(
            URL, filled(tmp_path, paths=nowhere, name=f"far{run_now}", anyway="on", run_now=run_now), follow=True
        )
        assert answer.status_code == 200
        said = [str(message) for message in answer.context["messages"]]
        assert "is saved. Nothing of it can be copied on this machine for now." in said[0]
        assert "protected" not in said[0]
        BackupRun.objects.all().delete()
        BackupJob.objects.all().delete()


def test_the_box_to_save_all_the_same_is_not_shown_before_it_is_of_use(
    client: Client, storage: Storage, tmp_path: Path
) -> None:
    assert 'name="anyway"' not in client.get(URL).content.decode()
    assert 'name="anyway"' not in client.post(URL, filled(tmp_path, name="")).content.decode()
