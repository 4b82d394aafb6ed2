from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from django_apscheduler.models import DjangoJob, DjangoJobExecution

from backups.models import BackupRun
from maintenance.models import MaintenanceJob
from scheduling import clock as clock_module
from scheduling.clock import Clock, CronsimTrigger, schedule_jobs_on_startup
from scheduling.cron import ScheduleError
from tests.factories import BackupJobFactory, MaintenanceJobFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clock() -> Iterator[Clock]:
    MaintenanceJob.objects.all().delete()
    started = schedule_jobs_on_startup()
    yield started
    if started.scheduler.running:
        started.stop()


def jobs(clock: Clock) -> dict[str, Any]:
    return {job.id: job for job in clock.scheduler.get_jobs()}


def test_both_kinds_are_loaded_under_their_ids() -> None:
    MaintenanceJob.objects.all().delete()
    backup, maintenance = BackupJobFactory(), MaintenanceJobFactory()
    BackupJobFactory(enabled=False)
    MaintenanceJobFactory(schedule_cron="")
    clock = schedule_jobs_on_startup()
    try:
        assert set(jobs(clock)) == {f"backup:{backup.pk}", f"maintenance:{maintenance.pk}"}
        job = jobs(clock)[f"backup:{backup.pk}"]
        assert job.args == ("backup", str(backup.pk))
        assert (job.coalesce, job.max_instances, job.misfire_grace_time) == (True, 1, None)
        assert job.func_ref == "scheduling.dispatch:fire"
    finally:
        clock.stop()


def test_reconcile_adds_changes_and_removes_only_what_differs(clock: Clock) -> None:
    same, edited, removed = BackupJobFactory(), BackupJobFactory(), BackupJobFactory()
    assert clock.reconcile() == 3
    before = {row.id: bytes(row.job_state) for row in DjangoJob.objects.all()}
    edited.schedule = "0 4 * * *"
    edited.save()
    removed.delete()
    added = BackupJobFactory(schedule="0 5 * * *")
    assert clock.reconcile() == 3
    assert clock.reconcile() == 0
    assert set(jobs(clock)) == {f"backup:{job.pk}" for job in (same, edited, added)}
    after = {row.id: bytes(row.job_state) for row in DjangoJob.objects.all()}
    assert after[f"backup:{same.pk}"] == before[f"backup:{same.pk}"]
    assert jobs(clock)[f"backup:{edited.pk}"].trigger == CronsimTrigger("0 4 * * *", "UTC")


def test_a_change_of_rows_is_noticed_without_waiting_for_the_half_minute(clock: Clock) -> None:
    job = BackupJobFactory()
    clock.reconcile_if_changed()
    assert f"backup:{job.pk}" in jobs(clock)


def test_a_row_with_an_unusable_schedule_does_not_keep_the_others_from_being_scheduled(clock: Clock) -> None:
    good = BackupJobFactory()
    BackupJobFactory(schedule="not a schedule")
    BackupJobFactory(timezone="Mars/Olympus")
    clock.reconcile()
    assert set(jobs(clock)) == {f"backup:{good.pk}"}


def test_a_restart_keeps_what_was_due_and_catches_up_once(clock: Clock) -> None:
    job = BackupJobFactory(schedule="*/5 * * * *")
    clock.reconcile()
    clock.stop()
    missed = timezone.now() - timedelta(days=3)
    row = DjangoJob.objects.get()
    state = pickle.loads(row.job_state)
    state["next_run_time"] = missed
    row.next_run_time, row.job_state = missed, pickle.dumps(state)
    row.save()

    again = schedule_jobs_on_startup()
    try:
        deadline = timezone.now() + timedelta(seconds=10)
        while not BackupRun.objects.exists() and timezone.now() < deadline:
            pass
    finally:
        again.stop()
    run = BackupRun.objects.get(job=job)
    assert run.slot is not None
    assert timedelta(0) <= timezone.now() - run.slot < timedelta(minutes=6)


def test_the_ledger_not_the_library_records_executions(clock: Clock) -> None:
    assert DjangoJobExecution.objects.count() == 0


def test_a_long_downtime_is_skipped_in_one_step() -> None:
    trigger = CronsimTrigger("* * * * *", "UTC")
    now = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)
    year_ago = now - timedelta(days=365)
    assert trigger.get_next_fire_time(year_ago, now) == datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_a_trigger_survives_the_store() -> None:
    trigger = CronsimTrigger("0 3 * * 0", "Europe/Berlin")
    copy = pickle.loads(pickle.dumps(trigger))
    assert copy == trigger
    fire = copy.get_next_fire_time(None, datetime(2026, 11, 24, tzinfo=UTC))
    assert fire.isoformat() == "2026-11-29T02:00:00+00:00"


@pytest.mark.parametrize(("expression", "zone"), [("nope", "UTC"), ("0 3 * * *", "Nowhere")])
def test_a_trigger_refuses_what_cannot_be_used(expression: str, zone: str) -> None:
    with pytest.raises(ScheduleError):
        CronsimTrigger(expression, zone)


def test_the_function_that_fires_can_be_found_by_its_name() -> None:
    module, _, name = clock_module.FIRE.partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))
