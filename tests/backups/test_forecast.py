from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backups.models import Backup, BackupJob, Options
from backups.services.forecast import cleanup_times, forecast_pair, forecast_until, pair_cron, pair_schedule
from backups.services.protections import backup_pin
from backups.services.retention import Pair, plan_pair
from maintenance.choices import JobType
from maintenance.cleanup_times import scheduled_cleanups
from maintenance.models import CleanupPlan, CleanupPlanPair, MaintenanceJob
from tests import factories

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
UNTIL = NOW + timedelta(days=30)


@pytest.fixture(autouse=True)
def no_cleanup_jobs_but_those_of_the_test() -> None:
    MaintenanceJob.objects.all().delete()


def pair_of(job: BackupJob) -> Pair:
    target = job.targets.get()
    return Pair(job=job, target_id=target.pk, target_name=target.name)


def nightly(days: int, **values: object) -> BackupJob:
    """A job with a good copy at 02:30 of each of the last `days` days."""
    job = factories.BackupJobFactory(**values)
    for day in range(days):
        factories.BackupFactory(job=job, created_at=NOW.replace(hour=2, minute=30) - timedelta(days=day))
    return job


def test_the_backups_ahead_are_the_jobs_own_fires_in_its_zone() -> None:
    job = factories.BackupJobFactory(schedule="30 2 * * *", timezone="Europe/Berlin")
    schedule = pair_schedule(pair=pair_of(job), now=NOW, until=NOW + timedelta(days=2))
    assert list(schedule.backups) == [
        datetime(2026, 11, 25, 1, 30, tzinfo=UTC),
        datetime(2026, 11, 26, 1, 30, tzinfo=UTC),
    ]


@pytest.mark.parametrize(
    "values", [{"enabled": False}, {"schedule": ""}, {"schedule": "0 0 31 2 *"}, {"timezone": "Mars/Olympus"}], ids=str
)
def test_a_job_that_does_not_run_by_itself_makes_no_backup(values: dict[str, object]) -> None:
    job = factories.BackupJobFactory(**values)
    assert pair_cron(pair_of(job)) is None
    assert list(pair_schedule(pair=pair_of(job), now=NOW, until=UNTIL).backups) == []


def test_a_target_that_the_job_names_no_longer_gets_no_backup() -> None:
    job = nightly(2)
    pair = pair_of(job)
    job.targets.clear()
    assert list(pair_schedule(pair=pair, now=NOW, until=UNTIL).backups) == []


def test_cleanups_are_those_of_all_jobs_that_are_on_and_scheduled() -> None:
    factories.MaintenanceJobFactory(schedule_cron="0 3 * * *", timezone="Europe/Berlin")
    factories.MaintenanceJobFactory(schedule_cron="0 12 * * *", timezone="UTC")
    factories.MaintenanceJobFactory(schedule_cron="0 5 * * *", enabled=False)
    factories.MaintenanceJobFactory(schedule_cron="")
    factories.MaintenanceJobFactory(schedule_cron="0 6 * * *", job_type=JobType.PURGE_TRASH)
    assert cleanup_times(NOW, NOW + timedelta(days=1)) == [
        datetime(2026, 11, 25, 2, tzinfo=UTC),
        # After the start, up to the end: noon of the 24th is not ahead, noon of the 25th is.
        datetime(2026, 11, 25, 12, tzinfo=UTC),
    ]


def test_a_cleanup_without_a_zone_of_its_own_runs_in_that_of_options() -> None:
    Options.objects.filter(pk=Options.load().pk).update(timezone="Asia/Tokyo")
    factories.MaintenanceJobFactory(schedule_cron="0 3 * * *")
    assert scheduled_cleanups(NOW, NOW + timedelta(days=1)) == [datetime(2026, 11, 24, 18, tzinfo=UTC)]


@pytest.mark.parametrize("cron", ["0 * * * *", "*/5 * * * *"], ids=["hourly", "every five minutes"])
def test_at_most_one_cleanup_an_hour_is_looked_at(cron: str) -> None:
    factories.MaintenanceJobFactory(schedule_cron=cron)
    assert len(scheduled_cleanups(NOW, NOW + timedelta(days=1))) == 24


def test_a_forecast_says_when_each_copy_goes_and_its_plan_is_that_of_a_cleanup_now() -> None:
    job = nightly(4, retention={"keep_last": 3})
    factories.MaintenanceJobFactory(schedule_cron="0 3 * * *")
    options = Options.load()
    forecast = forecast_pair(pair=pair_of(job), options=options, now=NOW, until=UNTIL)
    assert forecast.plan.digest == plan_pair(pair=pair_of(job), options=options, now=NOW).plan.digest
    assert forecast.next_cleanup == datetime(2026, 11, 25, 3, tzinfo=UTC)
    newest_first = [backup.uid for backup in Backup.objects.order_by("-created_at")]
    assert list(forecast.backups) == newest_first
    # At 02:30 a copy comes in, so that two of the four are beyond the last three.
    assert [forecast.timeline.fates[uid].deleted_at for uid in newest_first] == [
        datetime(2026, 11, day, 3, tzinfo=UTC) for day in (27, 26, 25, 25)
    ]


def test_nothing_goes_when_no_cleanup_is_scheduled() -> None:
    job = nightly(4, retention={"keep_last": 1})
    forecast = forecast_pair(pair=pair_of(job), options=Options.load(), now=NOW, until=UNTIL)
    assert forecast.next_cleanup is None
    assert {fate.deleted_at for fate in forecast.timeline.fates.values()} == {None}
    assert len(forecast.plan.delete) == 3


def test_a_copy_goes_at_the_first_cleanup_after_its_pin_ends() -> None:
    job = nightly(4, retention={"keep_last": 1}, enabled=False)
    factories.MaintenanceJobFactory(schedule_cron="0 3 * * *")
    oldest = Backup.objects.order_by("created_at")[0]
    backup_pin(backup=oldest, by="anna", until=NOW + timedelta(days=10), now=NOW)
    forecast = forecast_pair(pair=pair_of(job), options=Options.load(), now=NOW, until=UNTIL)
    assert forecast.timeline.fates[oldest.uid].deleted_at == datetime(2026, 12, 5, 3, tzinfo=UTC)


def test_another_policy_is_tried_on_the_pair_and_never_saved() -> None:
    job = nightly(4, retention={"keep_last": 4}, enabled=False)
    factories.MaintenanceJobFactory(schedule_cron="0 3 * * *")
    pair = pair_of(job)
    tried = forecast_pair(pair=pair, options=Options.load(), now=NOW, until=UNTIL, policy={"keep_last": 2})
    assert sum(fate.deleted_at is not None for fate in tried.timeline.fates.values()) == 2
    assert pair.job.retention == {"keep_last": 4}
    assert BackupJob.objects.get().retention == {"keep_last": 4}


def test_the_guards_are_those_of_options_and_copies_since_the_last_cleanup_replace_others() -> None:
    job = nightly(12, retention={"keep_last": 8}, enabled=False)
    factories.MaintenanceJobFactory(schedule_cron="0 3 * * *")
    pair, options = pair_of(job), Options.load()
    first = datetime(2026, 11, 25, 3, tzinfo=UTC)
    assert forecast_pair(pair=pair, options=options, now=NOW, until=UNTIL).timeline.approvals == (first,)
    cleaned = CleanupPlan.objects.create(
        status="executed",
        digest="0",
        created_at=NOW,
        run=factories.MaintenanceRunFactory(succeeded=True),
    )
    CleanupPlanPair.objects.create(
        plan=cleaned,
        job=job,
        job_name=job.name,
        target_id=pair.target_id,
        target_name=pair.target_name,
        planned_at=NOW - timedelta(days=2),
        digest="0",
        policy={},
        policy_hash="0",
        kept=0,
        deleting=0,
        deleting_bytes=0,
        carried_out=True,
        packed=b"",
    )
    assert forecast_pair(pair=pair, options=options, now=NOW, until=UNTIL).timeline.approvals == ()


def test_a_dense_schedule_is_not_looked_at_to_the_end() -> None:
    job = factories.BackupJobFactory(schedule="* * * * *")
    until = forecast_until(pair=pair_of(job), now=NOW, until=NOW + timedelta(days=90))
    assert until == NOW + timedelta(minutes=5000)
    hourly = factories.BackupJobFactory(schedule="0 * * * *")
    assert forecast_until(pair=pair_of(hourly), now=NOW, until=UNTIL) == UNTIL


def test_a_forecast_needs_the_same_queries_for_few_and_many_copies() -> None:
    few, many = nightly(1), nightly(40)
    counts = []
    for pair in (pair_of(few), pair_of(many)):
        with CaptureQueriesContext(connection) as queries:
            forecast_pair(pair=pair, options=Options(), now=NOW, until=UNTIL)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12
