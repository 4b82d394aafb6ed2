from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from backups.models import BackupJob, BackupRun, BackupRunLogLine, Options, Storage, Target
from scheduling.choices import RunTrigger
from tests.api.conftest import JsonClient
from tests.factories import (
    BackupFactory,
    BackupJobFactory,
    BackupRunFactory,
    BackupRunTargetFactory,
    StorageFactory,
    TargetFactory,
)

pytestmark = pytest.mark.django_db


# --- Storages and targets -----------------------------------------------------------------------------------------


def test_a_storage_is_made_with_its_sentinel_renamed_and_forgotten(root: JsonClient, tmp_path: Path) -> None:
    made = root.send("POST", "/storages", name="nas", path=str(tmp_path / "nas"))
    assert made.status_code == 201
    assert (tmp_path / "nas" / ".keepwell-storage.json").is_file()
    address = f"/storages/{made.json()['id']}"
    assert root.send("PATCH", address, name="nas 2").json()["name"] == "nas 2"
    assert root.get(address).json()["path"] == str(tmp_path / "nas")
    assert root("DELETE", address).status_code == 204
    assert not Storage.objects.exists()


def test_a_folder_that_holds_other_files_needs_a_confirmation(root: JsonClient, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    refused = root.send("POST", "/storages", name="nas", path=str(tmp_path))
    assert refused.status_code == 422
    assert set(refused.json()["errors"]) == {"path", "use_existing"}
    assert root.send("POST", "/storages", name="nas", path=str(tmp_path), use_existing=True).status_code == 201


def test_a_storage_in_use_is_not_forgotten(root: JsonClient) -> None:
    job = BackupJobFactory(name="nightly")
    answer = root("DELETE", f"/storages/{job.storage_id}")
    assert answer.status_code == 409
    assert "nightly" in answer.json()["detail"]


def test_a_target_is_made_changed_and_forgotten(root: JsonClient) -> None:
    made = root.send("POST", "/targets", name="etc", config={"paths": ["/etc/"], "exclude": ["*.tmp"]})
    assert made.json()["config"] == {"paths": ["/etc"], "exclude": ["*.tmp"]}
    address = f"/targets/{made.json()['id']}"
    assert root.send("PATCH", address, name="configuration").json()["config"]["exclude"] == ["*.tmp"]
    assert root.send("PATCH", address, config={"paths": ["/srv"]}).json()["name"] == "configuration"
    assert root("DELETE", address).status_code == 204


def test_a_target_of_a_job_is_not_forgotten(root: JsonClient) -> None:
    job = BackupJobFactory(name="nightly")
    answer = root("DELETE", f"/targets/{job.targets.get().pk}")
    assert answer.status_code == 409
    assert "nightly" in answer.json()["detail"]
    assert Target.objects.exists()


def test_a_null_is_not_taken_for_left_out(root: JsonClient) -> None:
    target = TargetFactory(name="etc")
    answer = root.send("PATCH", f"/targets/{target.pk}", name=None)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["name"])


@pytest.mark.parametrize("path", ["/targets", "/storages", "/backup-jobs"])
def test_lists_come_in_pages_by_name_whatever_the_names(root: JsonClient, path: str) -> None:
    factory: Any = {"/targets": TargetFactory, "/storages": StorageFactory, "/backup-jobs": BackupJobFactory}[path]
    names = ["a&b=c", "é und ü", "plain", "zz % 1"]
    for name in reversed(names):
        factory(name=name)
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = root.get(path, {"limit": 3, "after": after}).json()
        seen += [item["name"] for item in page["items"]]
        after = page["next"]
    assert seen == sorted(names)


# --- Backup jobs --------------------------------------------------------------------------------------------------


def test_a_job_is_made_changed_field_by_field_and_deleted(root: JsonClient) -> None:
    targets, storage = [TargetFactory(), TargetFactory()], StorageFactory()
    made = root.send(
        "POST",
        "/backup-jobs",
        name="nightly",
        target_ids=[target.pk for target in targets],
        storage_id=storage.pk,
        schedule="30 2 * * *",
        retention={"keep_last": 3},
    )
    assert made.status_code == 201
    address = f"/backup-jobs/{made.json()['id']}"
    assert root.send("PATCH", address, enabled=False).json()["retention"] == {"keep_last": 3}
    assert root.send("PATCH", address, retention=None).json()["retention"] is None
    changed = root.send("PATCH", address, target_ids=[targets[1].pk]).json()
    assert (changed["target_ids"], changed["enabled"], changed["schedule"]) == ([targets[1].pk], False, "30 2 * * *")
    assert root("DELETE", address).status_code == 204
    assert not BackupJob.objects.exists()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        pytest.param({"schedule": "0 3 * *"}, "schedule", id="four fields"),
        pytest.param({"retention": {"keep_daily": -5}}, "retention.keep_daily", id="negative rule"),
        pytest.param({"retention": {"keep_all": 1}}, "retention.keep_all", id="unknown rule"),
        pytest.param({"target_ids": []}, "targets", id="no target"),
        pytest.param({"target_ids": [4711]}, "target_ids", id="unknown target"),
        pytest.param({"storage_id": 4711}, "storage_id", id="unknown storage"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused_at_its_field(
    root: JsonClient, values: dict[str, Any], field: str
) -> None:
    usual = {"name": "nightly", "target_ids": [TargetFactory().pk], "storage_id": StorageFactory().pk}
    answer = root.send("POST", "/backup-jobs", **{**usual, **values})
    assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])
    assert not BackupJob.objects.exists()


def test_running_a_job_records_a_run_and_does_not_start_it(root: JsonClient) -> None:
    job = BackupJobFactory()
    answer = root("POST", f"/backup-jobs/{job.pk}/run")
    assert answer.status_code == 202
    run = BackupRun.objects.get()
    assert answer.json()["id"] == run.pk
    assert (run.status, run.trigger, run.requested_by, run.attempts.count()) == ("queued", RunTrigger.API, "root", 0)


def test_a_list_of_jobs_takes_few_queries(root: JsonClient, django_assert_max_num_queries: Any) -> None:
    BackupJobFactory.create_batch(20)
    root.get("/backup-jobs")
    with django_assert_max_num_queries(8):
        assert len(root.get("/backup-jobs").json()["items"]) == 20


# --- Runs, backups, options ---------------------------------------------------------------------------------------


def test_a_run_says_what_happened_to_each_target(root: JsonClient) -> None:
    run = BackupRunFactory(failed=True, result_json={"failed": 1})
    BackupRunTargetFactory(run=run, target__name="etc", status="failed", active=False, message="No such folder.")
    answer = root.get(f"/backup-runs/{run.pk}").json()
    assert answer["result"] == {"failed": 1}
    [attempt] = answer["attempts"]
    assert (attempt["target_name"], attempt["status"], attempt["message"]) == ("etc", "failed", "No such folder.")
    BackupRunLogLine.objects.create(run=run, seq=1, at=timezone.now(), level="error", text="<b>")
    assert root.get(f"/backup-runs/{run.pk}/log").json()["items"][0]["text"] == "<b>"
    listed = root.get(f"/backup-runs?job_id={run.job_id}&status=failed").json()
    assert [item["id"] for item in listed["items"]] == [run.pk]


def test_a_run_with_unusable_figures_is_still_shown(root: JsonClient) -> None:
    run = BackupRunFactory(failed=True, result_json=["odd"])
    assert root.get(f"/backup-runs/{run.pk}").json()["result"] == {}


def test_backups_are_filtered_and_paged(root: JsonClient) -> None:
    job = BackupJobFactory()
    start = timezone.now().replace(microsecond=0) - timedelta(days=9)
    kept = [BackupFactory(job=job, created_at=start + timedelta(days=n)) for n in range(3)]
    BackupFactory(job=job, trashed=True)
    BackupFactory()
    query = f"/backups?job_id={job.pk}&target_id={kept[0].target_id}&storage_id={job.storage_id}&state=available"
    page = root.get(f"{query}&limit=2").json()
    assert [item["uid"] for item in page["items"]] == [kept[2].uid, kept[1].uid]
    assert [item["uid"] for item in root.get(f"{query}&before={page['next']}").json()["items"]] == [kept[0].uid]


def test_a_backup_is_found_by_its_uid(root: JsonClient) -> None:
    backup = BackupFactory(suspect=True)
    answer = root.get(f"/backups/{backup.uid}").json()
    assert answer["path"] == backup.artifact.relative
    assert answer["storage_name"] == backup.storage.name
    assert answer["good"] is False


def test_a_damaged_row_does_not_keep_the_others_from_being_listed(root: JsonClient) -> None:
    BackupFactory(folder="..")
    whole = BackupFactory()
    paths = {item["path"] for item in root.get("/backups").json()["items"]}
    assert paths == {None, whole.artifact.relative}


def test_a_list_of_backups_takes_few_queries(root: JsonClient, django_assert_max_num_queries: Any) -> None:
    BackupFactory.create_batch(20)
    root.get("/backups")
    with django_assert_max_num_queries(8):
        assert len(root.get("/backups").json()["items"]) == 20


def test_options_are_changed_one_by_one(root: JsonClient) -> None:
    assert root.send("PATCH", "/settings/options", trash_hours=24).json()["trash_hours"] == 24
    answer = root.send("PATCH", "/settings/options", retention={"keep_last": 3}).json()
    assert (answer["trash_hours"], answer["retention"]) == (24, {"keep_last": 3})
    assert root.get("/settings/options").json() == answer


@pytest.mark.parametrize(
    ("values", "field"),
    [({"minimum_keep": 0}, "minimum_keep"), ({"timezone": "X"}, "timezone"), ({"trash_hours": 10**9}, "trash_hours")],
)
def test_options_that_make_no_sense_are_refused(root: JsonClient, values: dict[str, Any], field: str) -> None:
    answer = root.send("PATCH", "/settings/options", **values)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])
    assert Options.load().minimum_keep == 1
