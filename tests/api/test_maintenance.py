from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from backups.models import Backup, Options
from maintenance import api as maintenance_api
from maintenance.models import MaintenanceJob, MaintenanceRun, MaintenanceRunLogLine
from maintenance.services import CLEANUP_MANUAL
from scheduling.choices import RunTrigger
from scheduling.executing import execute_run
from tests.api.conftest import JsonClient
from tests.factories import BackupJobFactory, MaintenanceJobFactory, MaintenanceRunFactory, TargetFactory
from tests.support import add_backup, artifact_path, make_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def manual() -> MaintenanceJob:
    values = {"name": "Cleanup by hand", "job_type": "retention_cleanup", "visible_in_ui": False}
    return MaintenanceJob.objects.update_or_create(key=CLEANUP_MANUAL, defaults=values)[0]


# --- Jobs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "visible"), [("", True), ("?visible_in_ui=true", True), ("?visible_in_ui=false", False)]
)
def test_jobs_are_the_visible_ones_unless_the_hidden_ones_are_asked_for(
    root: JsonClient, query: str, visible: bool
) -> None:
    MaintenanceJob.objects.all().delete()
    MaintenanceJobFactory(key="seen")
    MaintenanceJobFactory(key="hidden", visible_in_ui=False)
    jobs = root.get(f"/maintenance/jobs{query}").json()
    assert [job["key"] for job in jobs] == ["seen" if visible else "hidden"]
    assert jobs[0]["visible_in_ui"] is visible


@pytest.mark.parametrize("value", ["all", "maybe", "2", ""])
def test_visible_in_ui_is_a_yes_or_no(root: JsonClient, value: str) -> None:
    assert root.get(f"/maintenance/jobs?visible_in_ui={value}").status_code == 422


def test_jobs_come_in_pages_by_key(root: JsonClient) -> None:
    MaintenanceJob.objects.all().delete()
    for key in ("c", "a", "b"):
        MaintenanceJobFactory(key=key)
    first = root.get("/maintenance/jobs?limit=2")
    assert [job["key"] for job in first.json()] == ["a", "b"]
    assert first["Link"] == '</api/v1/maintenance/jobs?limit=2&after=b>; rel="next"'
    last = root.get(f"/maintenance/jobs?limit=2&after={first['X-Next']}")
    assert [job["key"] for job in last.json()] == ["c"]
    assert "X-Next" not in last


def test_a_job_is_added_changed_and_deleted(root: JsonClient) -> None:
    made = root.send("POST", "/maintenance/jobs", key="weekly", job_type="retention_cleanup", schedule_cron="@weekly")
    assert made.status_code == 201
    address = f"/maintenance/jobs/{made.json()['id']}"
    changed = root.send("PATCH", address, enabled=False)
    assert changed.json() | {"updated_at": ""} == made.json() | {"enabled": False, "updated_at": ""}
    assert root.get(address).json()["enabled"] is False
    assert root("DELETE", address).status_code == 204
    assert root.get(address).status_code == 404


@pytest.mark.parametrize(
    ("values", "field"),
    [
        pytest.param({"schedule_cron": "61 * * * *"}, "schedule_cron", id="minute 61"),
        pytest.param({"timezone": "Mars/Olympus"}, "timezone", id="unknown zone"),
        pytest.param({"key": "a b"}, "key", id="key with a blank"),
        pytest.param({"job_type": "vacuum"}, "job_type", id="unknown type"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused_at_its_field(
    root: JsonClient, values: dict[str, str], field: str
) -> None:
    answer = root.send("POST", "/maintenance/jobs", **{"key": "x", "job_type": "retention_cleanup", **values})
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [field]


def test_a_running_job_is_not_deleted(root: JsonClient) -> None:
    run = MaintenanceRunFactory(running=True)
    answer = root("DELETE", f"/maintenance/jobs/{run.job_id}")
    assert answer.status_code == 409
    assert "is running" in answer.json()["detail"]


def test_running_a_job_records_a_run_and_does_nothing_else(root: JsonClient, tmp_path: Path) -> None:
    Options.load()
    Options.objects.update(retention={"keep_last": 1})
    doomed = add_backup(make_job(tmp_path), timezone.now() - timedelta(days=2))
    add_backup(doomed.job, timezone.now() - timedelta(days=1), target=doomed.target)
    job = MaintenanceJobFactory()
    answer = root("POST", f"/maintenance/jobs/{job.pk}/run")
    assert answer.status_code == 202
    run = MaintenanceRun.objects.get()
    assert answer.json()["id"] == run.pk
    assert (run.status, run.trigger, run.requested_by) == ("queued", RunTrigger.API, "root")
    assert artifact_path(doomed).exists()
    assert root("POST", f"/maintenance/jobs/{job.pk}/run").json()["id"] == run.pk


# --- Runs ---------------------------------------------------------------------------------------------------------


def test_a_run_tells_its_figures(root: JsonClient) -> None:
    figures = {"targets_processed": 2, "deleted_count": 1, "kept_count": 9, "failed_count": 0, "freed_bytes": 2**40}
    figures |= {"deleted_paths": ["etc/a.tar.zst"], "failed_paths": []}
    run = MaintenanceRunFactory(succeeded=True, result_json=figures, message="1 moved to the trash, 9 kept.")
    answer = root.get(f"/maintenance/runs/{run.pk}").json()
    assert {name: answer["result"][name] for name in figures} == figures
    assert (answer["status"], answer["outcome"], answer["job_key"]) == ("succeeded", "ok", run.job_key)
    assert answer["duration_seconds"] >= 0


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({"deleted_paths": ["a", "b"]}, {"deleted_count": 2, "deleted_paths": ["a", "b"]}, id="no count"),
        pytest.param({"kept_count": None, "failed_paths": None}, {}, id="nulls"),
        pytest.param({"deleted_count": "7", "deleted_paths": "a"}, {}, id="of other types"),
        pytest.param({"pairs": [1, {"job": "x"}], "later": 1}, {"pairs": [{"job": "x"}]}, id="of a later version"),
        pytest.param([1, 2], {}, id="a list"),
        pytest.param("text", {}, id="text"),
    ],
)
def test_figures_of_another_version_are_read_as_far_as_they_go(
    root: JsonClient, stored: Any, expected: dict[str, Any]
) -> None:
    run = MaintenanceRunFactory(succeeded=True, result_json=stored)
    result = root.get(f"/maintenance/runs/{run.pk}").json()["result"]
    assert {name: value for name, value in result.items() if value} == expected
    assert result["targets_processed"] == 0


def test_runs_come_newest_first_and_page_by_cursor_even_within_one_moment(root: JsonClient) -> None:
    moment = timezone.now()
    made = [MaintenanceRunFactory(failed=True, queued_at=moment - timedelta(hours=n // 3)).pk for n in range(7)]
    expected = sorted(made, key=lambda pk: (-(made.index(pk) // 3), pk), reverse=True)
    seen: list[int] = []
    address = "/maintenance/runs?limit=2"
    for _ in range(4):
        answer = root.get(address)
        seen += [run["id"] for run in answer.json()]
        if "X-Next" not in answer:
            break
        address = answer["Link"].partition(">")[0].removeprefix("</api/v1")
    assert seen == expected


@pytest.mark.parametrize(("query", "expected"), [("job_id={job}", {"mine"}), ("status=failed", {"theirs"})])
def test_runs_are_filtered(root: JsonClient, query: str, expected: set[str]) -> None:
    mine = MaintenanceRunFactory(succeeded=True, job__name="mine")
    MaintenanceRunFactory(failed=True, job__name="theirs")
    runs = root.get(f"/maintenance/runs?{query.format(job=mine.job_id)}").json()
    assert {run["job_name"] for run in runs} == expected


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "status=odd", "before=x", "before=1-" + "9" * 19])
def test_a_filter_that_makes_no_sense_is_422(root: JsonClient, query: str) -> None:
    assert root.get(f"/maintenance/runs?{query}").status_code == 422


def test_a_list_of_runs_takes_few_queries(root: JsonClient, django_assert_max_num_queries: Any) -> None:
    MaintenanceRunFactory.create_batch(20, succeeded=True)
    root.get("/maintenance/runs")
    with django_assert_max_num_queries(8):
        assert len(root.get("/maintenance/runs").json()) == 20


def test_a_log_is_read_in_pages_and_followed(root: JsonClient) -> None:
    run = MaintenanceRunFactory(succeeded=True)
    for seq in range(1, 6):
        MaintenanceRunLogLine.objects.create(run=run, seq=seq, at=timezone.now(), text=f"line {seq}")
    page = root.get(f"/maintenance/runs/{run.pk}/log?limit=3").json()
    assert [line["text"] for line in page["items"]] == ["line 1", "line 2", "line 3"]
    rest = root.get(f"/maintenance/runs/{run.pk}/log?after={page['next']}").json()
    assert ([line["seq"] for line in rest["items"]], rest["next"]) == ([4, 5], None)


# --- Retention ----------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> list[Backup]:
    """Five daily copies of one pair, newest first."""
    job = make_job(tmp_path)
    return [add_backup(job, timezone.now() - timedelta(days=days)) for days in range(1, 6)]


def ids(backup: Backup) -> dict[str, Any]:
    return {"job_id": backup.job_id, "target_id": backup.target_id}


@pytest.mark.parametrize("operation", ["preview", "run"])
@pytest.mark.parametrize("key", ["job_id", "target_id"])
def test_one_half_of_a_pair_is_422(
    root: JsonClient, manual: MaintenanceJob, pair: list[Backup], operation: str, key: str
) -> None:
    answer = root.send("POST", f"/settings/retention/{operation}", **{key: ids(pair[0])[key]})
    assert answer.status_code == 422
    assert "together" in answer.json()["detail"]
    assert not MaintenanceRun.objects.exists()


@pytest.mark.parametrize("operation", ["preview", "run"])
def test_an_unknown_pair_is_404(root: JsonClient, manual: MaintenanceJob, pair: list[Backup], operation: str) -> None:
    address = f"/settings/retention/{operation}"
    stranger, nobody = TargetFactory(), 4711
    assert root.send("POST", address, job_id=nobody, target_id=pair[0].target_id).status_code == 404
    assert root.send("POST", address, job_id=pair[0].job_id, target_id=nobody).status_code == 404
    never = root.send("POST", address, job_id=pair[0].job_id, target_id=stranger.pk)
    assert never.status_code == 404
    assert stranger.name in never.json()["detail"]
    assert not MaintenanceRun.objects.exists()


def test_a_preview_gives_each_verdict_with_its_reasons_and_changes_nothing(
    root: JsonClient, pair: list[Backup]
) -> None:
    Options.load()
    Options.objects.update(retention={"keep_last": 2})
    answer = root("POST", "/settings/retention/preview").json()
    counts = ("targets_processed", "deleted_count", "kept_count", "failed_count")
    assert [answer[name] for name in counts] == [1, 3, 2, 0]
    assert answer["deleted_paths"] == [backup.artifact.relative for backup in pair[2:]]
    verdicts = answer["pairs"][0]["verdicts"]
    assert [verdict["keep"] for verdict in verdicts] == [True, True, False, False, False]
    assert all(verdict["text"] and verdict["reasons"] for verdict in verdicts)
    assert answer["pairs"][0]["verdicts_left_out"] == 0
    assert all(artifact_path(backup).exists() for backup in pair)
    assert not MaintenanceRun.objects.exists()


def test_a_preview_tries_a_policy_on_everything_without_saving_it(root: JsonClient, pair: list[Backup]) -> None:
    answer = root.send("POST", "/settings/retention/preview", retention={"keep_last": 1}, minimum_keep=2).json()
    assert (answer["kept_count"], answer["deleted_count"]) == (2, 3)
    assert Options.load().retention == {}


@pytest.mark.parametrize(("named", "kept"), [(True, 1), (False, 4)], ids=["on one pair", "on everything"])
def test_a_tried_policy_replaces_a_jobs_own_only_where_the_pair_is_named(
    root: JsonClient, pair: list[Backup], named: bool, kept: int
) -> None:
    job = pair[0].job
    assert job is not None
    job.retention = {"keep_last": 4}
    job.save()
    body = {"retention": {"keep_last": 1}, **(ids(pair[0]) if named else {})}
    assert root.send("POST", "/settings/retention/preview", **body).json()["kept_count"] == kept
    job.refresh_from_db()
    assert job.retention == {"keep_last": 4}


def test_a_policy_to_try_is_refused_at_its_rule(root: JsonClient) -> None:
    answer = root.send("POST", "/settings/retention/preview", retention={"keep_daily": "many"})
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["retention.keep_daily"]


def test_a_preview_says_which_storage_could_not_be_looked_at(root: JsonClient, pair: list[Backup]) -> None:
    (Path(pair[0].storage.path) / ".keepwell-storage.json").unlink()
    answer = root("POST", "/settings/retention/preview").json()
    assert (answer["failed_count"], answer["failed_paths"]) == (1, ["nightly / etc"])
    assert "sentinel" in answer["problems"][0] or "storage" in answer["problems"][0]


@pytest.mark.parametrize("one_pair", [False, True], ids=["everything", "one pair"])
def test_a_cleanup_is_recorded_under_the_hidden_job_and_not_done_in_the_request(
    root: JsonClient, manual: MaintenanceJob, pair: list[Backup], one_pair: bool
) -> None:
    Options.load()
    Options.objects.update(retention={"keep_last": 4})
    params = ids(pair[0]) if one_pair else {}
    answer = root.send("POST", "/settings/retention/run", **params)
    assert answer.status_code == 202
    run = MaintenanceRun.objects.get()
    assert answer.json()["id"] == run.pk
    assert (run.job, run.status, run.params, run.trigger) == (manual, "queued", params, RunTrigger.API)
    assert all(artifact_path(backup).exists() for backup in pair)
    execute_run("maintenance", run.pk)
    assert root.get(f"/maintenance/runs/{run.pk}").json()["result"]["deleted_count"] == 1


def test_asking_again_gives_the_waiting_cleanup_and_another_scope_is_409(
    root: JsonClient, manual: MaintenanceJob, pair: list[Backup]
) -> None:
    first = root("POST", "/settings/retention/run").json()["id"]
    assert root("POST", "/settings/retention/run").json()["id"] == first
    other = root.send("POST", "/settings/retention/run", **ids(pair[0]))
    assert other.status_code == 409
    assert f"run {first}" in other.json()["detail"]
    assert MaintenanceRun.objects.count() == 1


def test_waiting_ends_when_the_time_is_up(root: JsonClient, manual: MaintenanceJob) -> None:
    started = time.monotonic()
    answer = root("POST", "/settings/retention/run?wait=1")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert 1 <= time.monotonic() - started < 5


def test_a_request_does_not_wait_when_too_many_wait_already(
    root: JsonClient, manual: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maintenance.api._waiting", threading.BoundedSemaphore(1))
    with maintenance_api._waiting:
        started = time.monotonic()
        assert root("POST", "/settings/retention/run?wait=60").status_code == 202
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("wait", ["-1", "61", "long", "1.5"])
def test_waiting_is_a_number_of_seconds_up_to_a_minute(root: JsonClient, manual: MaintenanceJob, wait: str) -> None:
    assert root("POST", f"/settings/retention/run?wait={wait}").status_code == 422
    assert not MaintenanceRun.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_waiting_ends_with_the_run(root: JsonClient, manual: MaintenanceJob) -> None:
    def work() -> None:
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and not (run := MaintenanceRun.objects.first()):
                time.sleep(0.05)
            assert run is not None
            execute_run("maintenance", run.pk)
        finally:
            connections.close_all()

    worker = threading.Thread(target=work)
    worker.start()
    answer = root("POST", "/settings/retention/run?wait=30")
    worker.join()
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


def test_a_pair_without_copies_is_known_by_its_job(root: JsonClient) -> None:
    job = BackupJobFactory()
    answer = root.send("POST", "/settings/retention/preview", job_id=job.pk, target_id=job.targets.get().pk)
    assert (answer.status_code, answer.json()["targets_processed"]) == (200, 0)
