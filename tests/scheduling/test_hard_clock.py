"""The clock under a database that fails, a wall clock that jumps, and strangers in its store."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone
from django_apscheduler.models import DjangoJob

from backups.models import BackupRun
from maintenance.models import MaintenanceJob
from scheduling import clock as clock_module
from scheduling import dispatch
from scheduling.clock import Clock, ScheduleStore, schedule_jobs_on_startup
from tests.factories import BackupJobFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_other_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    MaintenanceJob.objects.all().delete()
    monkeypatch.setattr(clock_module, "RETRY_SECONDS", 0.05)


@pytest.fixture
def start() -> Iterator[Callable[[], Clock]]:
    started: list[Clock] = []

    def begin() -> Clock:
        started.append(schedule_jobs_on_startup())
        return started[-1]

    yield begin
    for clock in started:
        if clock.scheduler.running:
            clock.stop()


def plan_fire(moment: datetime) -> None:
    """Let the one stored schedule fire at `moment`; the clock must be stopped."""
    row = DjangoJob.objects.get()
    state = pickle.loads(row.job_state)
    state["next_run_time"] = moment
    row.next_run_time, row.job_state = moment, pickle.dumps(state)
    row.save()


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def next_fire() -> datetime:
    fire = DjangoJob.objects.get().next_run_time
    assert fire is not None
    return fire


def overdue(start: Callable[[], Clock]) -> None:
    """Leave a stored schedule that was due a day ago."""
    BackupJobFactory(schedule="0 3 * * *")
    start().stop()
    plan_fire(timezone.now() - timedelta(days=1))


def test_a_fire_that_the_database_does_not_take_stays_due(
    start: Callable[[], Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    overdue(start)
    real, calls = dispatch.scheduled_dispatch, []

    def locked(*args: Any, **kwargs: Any) -> Any:
        calls.append(next_fire() <= timezone.now())
        if len(calls) < 4:
            raise OperationalError("database is locked")
        return real(*args, **kwargs)

    monkeypatch.setattr(dispatch, "scheduled_dispatch", locked)
    start()
    assert wait_for(lambda: next_fire() > timezone.now())
    assert BackupRun.objects.count() == 1
    # Each time it was still due in the store: killed in between, the next start would have fired it.
    assert calls == [True] * 4


def test_the_clock_outlives_a_store_that_cannot_be_written(
    start: Callable[[], Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    overdue(start)
    real, calls = ScheduleStore.update_job, []

    def locked(self: ScheduleStore, job: Any) -> None:
        calls.append(job.id)
        if len(calls) < 4:
            raise OperationalError("database is locked")
        real(self, job)

    monkeypatch.setattr(ScheduleStore, "update_job", locked)
    start()
    assert wait_for(lambda: next_fire() > timezone.now())
    assert len(calls) == 4
    assert BackupRun.objects.count() == 1  # fired four times, for one slot


def test_a_fire_that_cannot_be_recorded_at_all_does_not_hold_the_others_up(
    start: Callable[[], Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    overdue(start)

    def broken(*_args: Any) -> None:
        raise LookupError("no such kind")

    monkeypatch.setattr(dispatch, "scheduled_dispatch", broken)
    start()
    assert wait_for(lambda: next_fire() > timezone.now())


def test_schedules_that_a_wrong_clock_planned_are_brought_back_at_start(start: Callable[[], Clock]) -> None:
    BackupJobFactory(schedule="0 3 * * *")
    start().stop()
    plan_fire(timezone.now() + timedelta(days=20_000))
    start()
    assert next_fire() <= timezone.now() + timedelta(days=1, hours=1)


def test_a_schedule_that_is_rightly_far_ahead_stays_as_it_is(start: Callable[[], Clock]) -> None:
    BackupJobFactory(schedule="0 3 1 1 *")
    start().stop()
    before = bytes(DjangoJob.objects.get().job_state)
    start()
    assert bytes(DjangoJob.objects.get().job_state) == before


def test_a_clock_that_is_set_back_while_it_runs_is_noticed(
    start: Callable[[], Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    BackupJobFactory(schedule="0 3 * * *")
    start().stop()
    plan_fire(timezone.now() + timedelta(hours=23))
    clock = start()
    true_fire = clock.scheduler.get_jobs()[0].trigger.get_next_fire_time(None, timezone.now())
    boot_at = clock_module._boot_at()
    clock.scheduler.modify_job(DjangoJob.objects.get().id, next_run_time=timezone.now() + timedelta(days=300))
    clock.reconcile()
    assert next_fire() > timezone.now() + timedelta(days=200)
    monkeypatch.setattr(clock_module, "_boot_at", lambda: boot_at - 300 * 86400)
    clock.reconcile()
    assert next_fire() == true_fire


def test_a_schedule_that_someone_took_out_of_the_store_is_put_back(start: Callable[[], Clock]) -> None:
    BackupJobFactory()
    clock = start()
    DjangoJob.objects.all().delete()
    assert clock.reconcile() == 1
    assert DjangoJob.objects.count() == 1


def test_an_unusable_schedule_is_named_once_not_every_half_minute(
    start: Callable[[], Clock], caplog: pytest.LogCaptureFixture
) -> None:
    BackupJobFactory(schedule="not a schedule")
    clock = start()
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        clock.reconcile()
    assert not caplog.records


def test_no_wait_is_longer_than_half_a_minute(start: Callable[[], Clock]) -> None:
    """A machine that slept, or whose clock was set forward, is late by no more than that."""
    BackupJobFactory(schedule="0 3 1 1 *")
    clock = start()
    assert 0 < clock.scheduler._process_jobs() <= 30
