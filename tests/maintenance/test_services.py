from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError

from maintenance.models import MaintenanceJob
from maintenance.services import (
    CLEANUP_MANUAL,
    CLEANUP_NIGHTLY,
    get_job,
    get_job_by_key,
    get_run,
    job_create,
    job_delete,
    job_update,
    list_jobs,
    list_runs,
)
from tests.factories import MaintenanceJobFactory, MaintenanceRunFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_seeded_jobs(db: None) -> None:
    MaintenanceJob.objects.all().delete()


def test_jobs_are_listed_by_visibility() -> None:
    shown, hidden = MaintenanceJobFactory(key="a"), MaintenanceJobFactory(key="b", visible_in_ui=False)
    assert list(list_jobs()) == [shown, hidden]
    assert list(list_jobs(visible_in_ui=True)) == [shown]
    assert list(list_jobs(visible_in_ui=False)) == [hidden]


def test_a_job_is_found_by_id_and_by_key() -> None:
    job = MaintenanceJobFactory(key="cleanup")
    assert get_job(job.pk) == get_job_by_key("cleanup") == job
    with pytest.raises(MaintenanceJob.DoesNotExist):
        get_job_by_key("nothing")


def test_runs_are_listed_newest_first_and_at_most_so_many() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    job = MaintenanceJobFactory()
    runs = [MaintenanceRunFactory(job=job, succeeded=True, queued_at=start + timedelta(days=day)) for day in range(5)]
    assert list(list_runs()) == runs[::-1]
    assert list(list_runs(limit=2)) == [runs[4], runs[3]]
    assert list(list_runs(limit=0)) == []
    assert get_run(runs[0].pk) == runs[0]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"key": "has space"}, "key"),
        ({"key": ""}, "key"),
        ({"key": "x" * 65}, "key"),
        ({"job_type": "coffee"}, "job_type"),
        ({"schedule_cron": "61 * * * *"}, "schedule_cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"name": "x" * 81}, "name"),
    ],
)
def test_a_bad_job_is_refused_at_its_field(values: dict[str, str], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        job_create(**{"key": "good", "job_type": "retention_cleanup", **values})
    assert list(caught.value.message_dict) == [field]


def test_a_key_can_be_used_once() -> None:
    job_create(key="cleanup", job_type="retention_cleanup")
    with pytest.raises(ValidationError, match="already"):
        job_create(key="cleanup", job_type="retention_cleanup")


def test_a_job_is_changed_in_part() -> None:
    job = job_update(job=MaintenanceJobFactory(schedule_cron="0 3 * * *"), enabled=False)
    assert (job.enabled, job.schedule_cron) == (False, "0 3 * * *")
    assert job_update(job=job, schedule_cron="@daily").schedule_cron == "@daily"


def test_a_running_job_is_not_deleted_and_a_waiting_run_is_cancelled() -> None:
    run = MaintenanceRunFactory(running=True)
    with pytest.raises(ValidationError, match="is running"):
        job_delete(job=run.job)
    waiting = MaintenanceRunFactory()
    job_delete(job=waiting.job)
    waiting.refresh_from_db()
    assert (waiting.status, waiting.job) == ("cancelled", None)


@pytest.mark.parametrize("key", [CLEANUP_NIGHTLY, CLEANUP_MANUAL])
def test_a_default_cleanup_job_is_not_deleted(key: str) -> None:
    job = MaintenanceJobFactory(key=key)
    with pytest.raises(ValidationError, match="cannot be deleted"):
        job_delete(job=job)
    assert MaintenanceJob.objects.filter(pk=job.pk).exists()


def test_the_cleanup_by_hand_never_gets_a_schedule() -> None:
    job = MaintenanceJobFactory(key=CLEANUP_MANUAL, schedule_cron="")
    with pytest.raises(ValidationError, match="never scheduled") as caught:
        job_update(job=job, schedule_cron="0 3 * * *")
    assert list(caught.value.message_dict) == ["schedule_cron"]
    assert job_update(job=job, name="By hand").schedule_cron == ""
