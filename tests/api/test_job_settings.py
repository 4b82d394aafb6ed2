"""How jobs of both kinds run, and pauses, through the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from backups.models import BackupJob
from maintenance.models import MaintenanceJob
from scheduling.job_settings import job_id, settings_of
from scheduling.models import Pause
from tests.api.conftest import JsonClient
from tests.factories import BackupJobFactory, MaintenanceJobFactory, StorageFactory, TargetFactory

pytestmark = pytest.mark.django_db

LATER = "2127-01-01T06:00:00Z"
KINDS = [
    pytest.param(BackupJobFactory, "/backup-jobs", id="backup"),
    pytest.param(MaintenanceJobFactory, "/maintenance/jobs", id="maintenance"),
]
SETTINGS = {
    "overlap": "skip",
    "retry_delay": 5,
    "time_limit": 90,
    "window_start": "22:00",
    "window_end": "06:00",
    "blackout_dates": ["2026-12-24"],
    "queue": "nas1",
}


def test_a_backup_job_is_made_with_every_setting_and_shows_them(root: JsonClient) -> None:
    before = BackupJobFactory()
    body = {"name": "nightly", "target_ids": [TargetFactory().pk], "storage_id": StorageFactory().pk}
    wanted = {**SETTINGS, "retry_count": 2, "run_after": job_id(before)}
    made = root.send("POST", "/backup-jobs", **body, **wanted)
    assert made.status_code == 201
    assert {name: made.json()[name] for name in wanted} == wanted
    assert (made.json()["paused_until"], made.json()["paused_by"]) == (None, "")
    assert root.get(f"/backup-jobs/{made.json()['id']}").json() == made.json()


def test_a_maintenance_job_is_made_with_every_setting_but_retries(root: JsonClient) -> None:
    body = {"key": "weekly", "job_type": "retention_cleanup", **SETTINGS}
    refused = root.send("POST", "/maintenance/jobs", **body, retry_count=1)
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["retry_count"])
    made = root.send("POST", "/maintenance/jobs", **body)
    assert made.status_code == 201
    assert {name: made.json()[name] for name in SETTINGS} == SETTINGS


@pytest.mark.parametrize(("factory", "path"), KINDS)
def test_a_setting_is_changed_alone_and_the_rest_stays(root: JsonClient, factory: Any, path: str) -> None:
    job = factory()
    assert root.send("PATCH", f"{path}/{job.pk}", **SETTINGS).status_code == 200
    changed = root.send("PATCH", f"{path}/{job.pk}", window_end="07:00", time_limit=None)
    assert changed.status_code == 200
    job.refresh_from_db()
    assert {name: changed.json()[name] for name in SETTINGS} == {**SETTINGS, "window_end": "07:00", "time_limit": None}
    assert settings_of(job)["queue"] == "nas1"


@pytest.mark.parametrize(("factory", "path"), KINDS)
@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"overlap": "both"}, "overlap"),
        ({"overlap": None}, "overlap"),
        ({"retry_delay": 10**30}, "retry_delay"),
        ({"retry_delay": None}, "retry_delay"),
        ({"retry_delay": "many"}, "retry_delay"),
        ({"time_limit": 0}, "time_limit"),
        ({"window_start": "22:00"}, "window_end"),
        ({"window_start": 22}, "window_start"),
        ({"blackout_dates": ["Christmas"]}, "blackout_dates"),
        ({"blackout_dates": "2026-12-24"}, "blackout_dates"),
        ({"blackout_dates": [1]}, "blackout_dates.0"),
        ({"run_after": "nightly"}, "run_after"),
        ({"run_after": "backup:999999"}, "run_after"),
        ({"queue": "a b"}, "queue"),
        ({"queue": "x" * 9000}, "queue"),
        ({"paused_until": LATER}, "paused_until"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_is_422_at_its_field(
    root: JsonClient, factory: Any, path: str, values: dict[str, Any], field: str
) -> None:
    job = factory()
    before = type(job).objects.values().get(pk=job.pk)
    answer = root.send("PATCH", f"{path}/{job.pk}", **values)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])
    assert type(job).objects.values().get(pk=job.pk) == before


def test_a_circle_is_422_and_a_followed_job_is_not_deleted(root: JsonClient) -> None:
    nightly = BackupJobFactory(name="nightly")
    cleanup = MaintenanceJobFactory(name="cleanup", run_after=job_id(nightly))
    answer = root.send("PATCH", f"/backup-jobs/{nightly.pk}", run_after=job_id(cleanup))
    assert answer.status_code == 422
    assert "nightly would run after itself" in answer.json()["errors"]["run_after"][0]
    answer = root("DELETE", f"/backup-jobs/{nightly.pk}")
    assert (answer.status_code, answer.json()["detail"].partition(".")[0]) == (409, "cleanup runs after nightly")


@pytest.mark.parametrize(("factory", "path"), KINDS)
def test_a_job_is_paused_resumed_and_copied(root: JsonClient, factory: Any, path: str) -> None:
    job = factory(name="nightly")
    address = f"{path}/{job.pk}"
    paused = root.send("POST", f"{address}/pause", until=LATER).json()
    assert (paused["paused_until"], paused["paused_by"]) == (LATER, "root")
    copy = root("POST", f"{address}/duplicate")
    assert copy.status_code == 201
    assert (copy.json()["name"], copy.json()["enabled"], copy.json()["paused_until"]) == ("nightly copy", False, None)
    resumed = root("POST", f"{address}/resume").json()
    assert (resumed["paused_until"], resumed["paused_by"]) == (None, "")
    for action in ("duplicate", "resume"):
        assert root("POST", f"{path}/999999/{action}").status_code == 404
    assert root.send("POST", f"{path}/999999/pause", until=LATER).status_code == 404


@pytest.mark.parametrize("path", ["/backup-jobs/{}/pause", "/pause"])
@pytest.mark.parametrize(
    "until", ["2020-01-01T00:00:00Z", "2127-01-01T06:00:00", "soon", None, 10**30, "9999-12-31T23:59:59-14:00"]
)
def test_a_pause_ends_at_a_later_moment_with_its_offset(root: JsonClient, path: str, until: Any) -> None:
    answer = root.send("POST", path.format(BackupJobFactory().pk), until=until)
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["until"]
    assert not Pause.objects.exists()
    assert BackupJob.objects.get().paused_until is None


def test_everything_is_paused_and_resumed(root: JsonClient, viewer: JsonClient) -> None:
    nothing = {"paused": False, "until": None, "since": None, "by": "", "reason": ""}
    assert viewer.get("/pause").json() == nothing
    paused = root.send("POST", "/pause", until=LATER, reason="new disk").json()
    assert {**paused, "since": None} == {
        "paused": True,
        "until": LATER,
        "since": None,
        "by": "root",
        "reason": "new disk",
    }
    assert viewer.get("/pause").json() == paused
    assert viewer("POST", "/pause/resume").status_code == 403
    assert root("POST", "/pause/resume").json() == nothing
    assert root("POST", "/pause/resume").json() == nothing


def test_a_pause_that_has_ended_is_none(viewer: JsonClient) -> None:
    now = timezone.now()
    Pause.objects.create(pk=1, until=now - timedelta(seconds=1), by="anna", since=now - timedelta(hours=1))
    assert viewer.get("/pause").json()["paused"] is False


@pytest.mark.parametrize(
    "body", [{"until": LATER, "reason": "x" * 201}, {"until": LATER, "reason": "\0"}, {"reason": ""}]
)
def test_a_pause_that_makes_no_sense_is_422(root: JsonClient, body: dict[str, Any]) -> None:
    assert root.send("POST", "/pause", **body).status_code == 422
    assert not Pause.objects.exists()


def test_lists_show_the_settings_without_a_query_for_each_job(
    root: JsonClient, django_assert_max_num_queries: Any
) -> None:
    before = BackupJobFactory()
    BackupJobFactory.create_batch(20, run_after=job_id(before), paused_until=datetime(2127, 1, 1, tzinfo=UTC))
    MaintenanceJob.objects.update(run_after=job_id(before))
    root.get("/backup-jobs")
    for address in ("/backup-jobs", "/maintenance/jobs"):
        with django_assert_max_num_queries(8):
            assert root.get(address).status_code == 200
