"""Why a run has not started, in words."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from backups.choices import AttemptStatus
from scheduling.choices import RunTrigger
from scheduling.job_rules import pause_all
from scheduling.registry import get_kind
from scheduling.waiting import run_waits
from tests.factories import (
    BackupJobFactory,
    BackupRunFactory,
    BackupRunTargetFactory,
    HostFactory,
    MaintenanceRunFactory,
    TargetFactory,
)

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def waits(run: Any, now: datetime = NOW) -> list[str]:
    return [wait.text.replace("\u00a0", " ") for wait in run_waits(run, get_kind(run.kind), now)]


def test_a_run_without_anything_in_its_way_waits_for_nothing() -> None:
    assert waits(BackupRunFactory()) == []
    assert waits(MaintenanceRunFactory()) == []
    assert waits(BackupRunFactory(job=None)) == []


def test_a_window_is_told_in_the_readers_zone() -> None:
    job = BackupJobFactory(timezone="Europe/Berlin", window_start=time(22), window_end=time(5))
    run = BackupRunFactory(job=job, trigger=RunTrigger.SCHEDULE, not_before=NOW + timedelta(hours=9))
    assert waits(run) == ["Waits until 21:00, its run window opens then (in 9 h)."]
    with timezone.override(ZoneInfo("Asia/Tokyo")):
        assert waits(run) == ["Waits until Wed 25 Nov, 06:00, its run window opens then (in 9 h)."]


def test_a_retry_says_which_it_is_and_when() -> None:
    job = BackupJobFactory(retry_count=3)
    run = BackupRunFactory(
        job=job, trigger=RunTrigger.RETRY, attempt=3, not_before=NOW + timedelta(minutes=8, seconds=20)
    )
    assert waits(run) == ["Retry 2 of 3 in 9 min (12:08)."]
    job.retry_count = 0
    job.save()
    run.job.refresh_from_db()
    assert waits(run) == ["Retry 2 in 9 min (12:08)."]


def test_a_retry_that_its_window_holds_back_says_both() -> None:
    job = BackupJobFactory(retry_count=3, timezone="UTC", window_start=time(22), window_end=time(5))
    run = BackupRunFactory(job=job, trigger=RunTrigger.RETRY, attempt=2, not_before=NOW + timedelta(hours=10))
    assert waits(run) == ["Retry 1 of 3 in 10 h (22:00, when its run window opens)."]


def test_what_starts_by_itself_waits_for_the_end_of_a_pause_and_a_run_by_hand_does_not() -> None:
    pause_all(until=NOW + timedelta(hours=1), by="ann", reason="new disk")
    [text] = waits(BackupRunFactory(trigger=RunTrigger.SCHEDULE))
    assert text.startswith("Everything is paused by ann until")
    assert "new disk" in text
    assert waits(BackupRunFactory(trigger=RunTrigger.MANUAL)) == []


def test_the_runs_in_its_way_are_named_and_those_of_other_targets_are_not() -> None:
    etc, home = TargetFactory(name="etc"), TargetFactory(name="home")
    own = TargetFactory()
    job, weekly = BackupJobFactory(targets=[etc, own]), BackupJobFactory(name="weekly", targets=[etc, home])
    same = BackupRunFactory(running=True, job=job)
    BackupRunTargetFactory(run=same, target=own, status=AttemptStatus.RUNNING)
    other = BackupRunFactory(running=True, job=weekly)
    for target in (etc, home):
        BackupRunTargetFactory(run=other, target=target, status=AttemptStatus.PENDING)
    run = BackupRunFactory(job=job)
    assert waits(run) == [
        f"Waits for run {same.pk} of the same job to end.",
        f"Waits for target etc, which run {other.pk} of weekly is at.",
    ]
    assert [wait.run for wait in run_waits(run, get_kind("backup"), NOW)] == [same, other]


def test_what_is_in_the_way_now_is_no_matter_for_a_run_that_is_due_later() -> None:
    job = BackupJobFactory()
    BackupRunFactory(running=True, job=job)
    assert len(waits(BackupRunFactory(job=job, not_before=NOW + timedelta(hours=1)))) == 1


def test_a_queue_that_nobody_serves_is_named() -> None:
    run = BackupRunFactory(queue="nas1")
    assert waits(run) == ["Waits for a worker of the queue nas1: no host serves it. Start one there."]
    host = HostFactory(hostname="nas-one", queues=["nas1"], seen_at=NOW - timedelta(minutes=10))
    assert waits(run) == ["Waits for a worker of the queue nas1: nas-one, which serves it, has been silent for 10 min."]
    host.seen_at = NOW
    host.save()
    assert waits(run) == []


def test_a_default_queue_without_hosts_is_the_schedulers_matter() -> None:
    HostFactory(queues=["nas1"], seen_at=NOW)
    HostFactory(queues="nonsense", seen_at=NOW)
    assert waits(BackupRunFactory()) == []
