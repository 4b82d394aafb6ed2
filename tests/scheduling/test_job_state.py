from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from scheduling.items import ScheduledItem
from scheduling.job_rules import pause_all
from scheduling.job_settings import job_id
from scheduling.job_state import JobState, job_states, next_start, soonest_starts
from scheduling.rules import rules_of
from tests.factories import BackupJobFactory, MaintenanceJobFactory

# A Friday, 13:00 in Berlin.
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
ZONE = "Europe/Berlin"


def starts(schedule: str, *, window: tuple[int, int] | None = None, blackouts: tuple[str, ...] = ()) -> str:
    item = ScheduledItem(kind="backup", job_id=1, name="nightly", schedule=schedule, timezone=ZONE, enabled=True)
    start, end = (time(window[0]), time(window[1])) if window else (None, None)
    found = next_start(item, rules_of(zone=ZONE, start=start, end=end, blackouts=blackouts), NOW)
    return found.isoformat(timespec="minutes") if found else "never"


@pytest.mark.parametrize(
    ("schedule", "window", "blackouts", "meant"),
    [
        ("30 2 * * *", None, (), "2026-11-28T02:30+01:00"),
        ("30 2 * * *", None, ("2026-11-28",), "2026-11-29T02:30+01:00"),
        ("30 2 * * *", None, ("2026-11-28..2026-12-31",), "2027-01-01T02:30+01:00"),
        ("* * * * *", None, ("2026-11-27..2026-11-28",), "2026-11-29T00:00+01:00"),
        ("30 2 * * *", (4, 6), (), "2026-11-28T04:00+01:00"),
        ("30 20 * * *", (22, 6), (), "2026-11-27T22:00+01:00"),
        # Due today, its window opens tomorrow, which is a day without runs; so is what is due tomorrow.
        ("30 20 * * *", (4, 6), ("2026-11-28",), "2026-11-30T04:00+01:00"),
        ("30 2 * * *", None, ("2026-11-28..9999-12-31",), "never"),
        ("61 * * * *", None, (), "never"),
        ("", None, (), "never"),
    ],
)
def test_the_next_start_is_one_that_happens(
    schedule: str, window: tuple[int, int] | None, blackouts: tuple[str, ...], meant: str
) -> None:
    assert starts(schedule, window=window, blackouts=blackouts) == meant


def state(job: Any) -> JobState:
    return job_states([(job, ScheduledItem.from_backup_job(job))], now=NOW)[job_id(job)]


@pytest.mark.django_db
def test_a_paused_job_starts_next_after_its_pause() -> None:
    job = BackupJobFactory(timezone=ZONE, paused_until=NOW + timedelta(days=2), paused_by="anna")
    found = state(job)
    assert (found.paused_until, found.paused_by) == (NOW + timedelta(days=2), "anna")
    assert found.next_at is not None
    assert found.next_at.isoformat(timespec="minutes") == "2026-11-30T02:30+01:00"


@pytest.mark.django_db
def test_a_pause_that_has_ended_is_none() -> None:
    found = state(BackupJobFactory(paused_until=NOW, paused_by="anna"))
    assert (found.paused_until, found.paused_by) == (None, "")


@pytest.mark.django_db
def test_while_everything_is_paused_the_next_start_comes_after_that() -> None:
    job = BackupJobFactory(timezone=ZONE)
    pause_all(until=NOW + timedelta(days=1), by="anna")
    found = state(job)
    assert found.paused_until is None
    assert found.next_at is not None
    assert found.next_at.isoformat(timespec="minutes") == "2026-11-29T02:30+01:00"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("schedule", "after", "words"),
    [
        ("30 2 * * *", False, "At 02:30 every day"),
        ("", True, "After cleanup"),
        ("", False, "By hand only"),
    ],
)
def test_a_jobs_schedule_is_put_into_words(schedule: str, *, after: bool, words: str) -> None:
    cleanup = MaintenanceJobFactory(name="cleanup")
    job = BackupJobFactory(schedule=schedule, run_after=job_id(cleanup) if after else "")
    found = state(job)
    assert found.words == words
    assert found.after == ("cleanup" if after else "")
    assert found.starts_by_itself is (after or bool(schedule))


@pytest.mark.django_db
def test_states_take_the_same_few_queries_for_many_jobs(django_assert_max_num_queries: Any) -> None:
    cleanup = MaintenanceJobFactory()
    jobs = [BackupJobFactory(timezone=ZONE, run_after=job_id(cleanup)) for _ in range(20)]
    jobs += [BackupJobFactory(timezone=ZONE, run_after=job_id(jobs[0])) for _ in range(20)]
    with django_assert_max_num_queries(3):
        job_states([(job, ScheduledItem.from_backup_job(job)) for job in jobs], now=NOW)


@pytest.mark.django_db
def test_the_soonest_starts_are_those_that_happen() -> None:
    shared = [BackupJobFactory(name=f"nightly {number}", timezone=ZONE) for number in range(3)]
    paused = BackupJobFactory(name="paused", schedule="0 * * * *", timezone=ZONE, paused_until=NOW + timedelta(days=9))
    off = BackupJobFactory(name="off", schedule="0 * * * *", timezone=ZONE, enabled=False)
    weekly = BackupJobFactory(name="weekly", schedule="0 4 * * 0", timezone=ZONE)
    pairs = [(job, ScheduledItem.from_backup_job(job)) for job in (paused, off, weekly, *shared)]
    found = soonest_starts(pairs, now=NOW, pause=None, count=4)
    assert [start.item.name for start in found] == ["nightly 0", "nightly 1", "nightly 2", "weekly"]
    pause = pause_all(until=NOW + timedelta(days=3), by="anna")
    found = soonest_starts(pairs, now=NOW, pause=pause, count=1)
    assert found[0].at.isoformat(timespec="minutes") == "2026-12-01T02:30+01:00"
