from __future__ import annotations

import threading
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from backups.models import BackupJob
from backups.services import jobs as backup_jobs
from maintenance import services as maintenance
from maintenance.models import MaintenanceJob
from scheduling.job_settings import (
    DEFAULTS,
    copy_name,
    followers,
    job_choices,
    job_id,
    job_names,
    job_pause,
    job_resume,
    known_queues,
    settings_clean,
    settings_of,
)
from scheduling.models.job import Job
from tests.factories import BackupJobFactory, HostFactory, MaintenanceJobFactory

pytestmark = pytest.mark.django_db

ALL = {
    "overlap": "skip",
    "retry_count": 3,
    "retry_delay": 5,
    "time_limit": 90,
    "window_start": "22:00",
    "window_end": "6:00",
    "blackout_dates": ["2026-12-31..2027-01-01", " 2026-12-24 ", "2026-12-24"],
    "queue": "nas1",
}
CLEAN = {
    **ALL,
    "window_start": time(22),
    "window_end": time(6),
    "blackout_dates": ["2026-12-24", "2026-12-31..2027-01-01"],
}


def errors(job: Any, *, may_retry: bool = True, **values: Any) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as caught:
        settings_clean(values, job=job, may_retry=may_retry)
    found: dict[str, list[str]] = caught.value.message_dict
    return found


def test_every_setting_of_a_job_has_a_default_and_it_is_the_models() -> None:
    passing = {"paused_until", "paused_by"}
    assert {field.name for field in Job._meta.fields} - passing == set(DEFAULTS)
    assert settings_of(BackupJob()) == DEFAULTS


def test_settings_are_brought_into_the_form_that_is_stored() -> None:
    assert settings_clean(ALL, job=BackupJob()) == CLEAN
    assert settings_clean({}, job=BackupJob()) == {}


def test_what_is_left_blank_is_the_default() -> None:
    for blank in (None, "", []):
        assert settings_clean(dict.fromkeys(DEFAULTS, blank), job=BackupJob()) == DEFAULTS


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"overlap": "both"}, "overlap", "not one of the choices"),
        ({"overlap": 1}, "overlap", "not one of the choices"),
        ({"retry_count": 11}, "retry_count", "from 0 to 10"),
        ({"retry_count": -1}, "retry_count", "from 0 to 10"),
        ({"retry_count": True}, "retry_count", "from 0 to 10"),
        ({"retry_count": "3"}, "retry_count", "from 0 to 10"),
        ({"retry_count": 1.0}, "retry_count", "from 0 to 10"),
        ({"retry_delay": 1441}, "retry_delay", "from 0 to 1440"),
        ({"retry_delay": 10**30}, "retry_delay", "from 0 to 1440"),
        ({"time_limit": 0}, "time_limit", "from 1 to 10080"),
        ({"time_limit": 10081}, "time_limit", "from 1 to 10080"),
        ({"window_start": "22:00"}, "window_end", "Say when the window ends too"),
        ({"window_end": "22:00"}, "window_start", "Say when the window starts too"),
        ({"window_start": "22:00", "window_end": "22:00"}, "window_end", "at any time"),
        ({"window_start": "24:00", "window_end": "06:00"}, "window_start", "not a time of day"),
        ({"window_start": "ten", "window_end": "06:00"}, "window_start", "not a time of day"),
        ({"window_start": 22, "window_end": "06:00"}, "window_start", "not a time of day"),
        ({"window_start": "٢٢:00", "window_end": "06:00"}, "window_start", "not a time of day"),
        ({"blackout_dates": "2026-12-24"}, "blackout_dates", "a list of dates"),
        ({"blackout_dates": [20261224]}, "blackout_dates", "a list of dates"),
        ({"blackout_dates": ["Christmas"]}, "blackout_dates", "is not a date"),
        ({"blackout_dates": ["2026-02-29"]}, "blackout_dates", "is not a date"),
        ({"blackout_dates": ["2026-12-26..2026-12-24"]}, "blackout_dates", "ends before it starts"),
        ({"blackout_dates": ["2026-12-24"] * 101}, "blackout_dates", "100 are the most"),
        ({"blackout_dates": ["x" * 9000]}, "blackout_dates", "is not a date"),
        ({"run_after": "nightly"}, "run_after", "is not a job"),
        ({"run_after": 3}, "run_after", "is not a job"),
        ({"run_after": f"backup:{'9' * 30}"}, "run_after", "is not a job"),
        ({"run_after": "backup:999999"}, "run_after", "There is no job backup:999999"),
        ({"run_after": "coffee:1"}, "run_after", "There is no job coffee:1"),
        ({"queue": "nas 1"}, "queue", "A queue's name"),
        ({"queue": "x" * 33}, "queue", "A queue's name"),
        ({"queue": "\0"}, "queue", "A queue's name"),
        ({"paused_until": timezone.now()}, "paused_until", "no setting of this name"),
        ({"name": "other"}, "name", "no setting of this name"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_at_its_field(values: dict[str, Any], field: str, says: str) -> None:
    found = errors(BackupJob(name="nightly"), **values)
    assert list(found) == [field]
    assert says in found[field][0]
    assert len(found[field][0]) < 300


def test_everything_wrong_is_said_at_once() -> None:
    found = errors(BackupJob(), overlap="both", retry_count=99, queue="?", window_start="22:00")
    assert set(found) == {"overlap", "retry_count", "queue", "window_end"}


@given(
    st.dictionaries(
        st.sampled_from(sorted(set(DEFAULTS) - {"run_after"})),
        st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.lists(st.text(max_size=12), max_size=3),
    )
)
def test_any_values_are_cleaned_into_what_the_database_takes_or_refused(values: dict[str, Any]) -> None:
    job = BackupJob(name="nightly")
    try:
        clean = settings_clean(values, job=job)
    except ValidationError as error:
        assert set(error.message_dict) <= set(DEFAULTS)
        return
    assert set(clean) == set(values)
    for name, value in {**DEFAULTS, **clean}.items():
        setattr(job, name, value)
    job.clean_fields(exclude={"storage", "name"})
    assert settings_clean(settings_of(job), job=job) == settings_of(job), "cleaning twice changes nothing"


def test_one_end_of_a_stored_window_can_be_moved_and_not_taken_away() -> None:
    job = BackupJob(window_start=time(22), window_end=time(6))
    assert settings_clean({"window_end": "07:00"}, job=job) == {"window_end": time(7)}
    assert list(errors(job, window_end=None)) == ["window_end"]
    assert settings_clean({"window_start": "", "window_end": ""}, job=job) == {
        "window_start": None,
        "window_end": None,
    }


def test_a_job_that_deletes_has_no_retries() -> None:
    job = MaintenanceJobFactory()
    with pytest.raises(ValidationError, match="never tried again without a person") as caught:
        maintenance.job_update(job=job, retry_count=1)
    assert list(caught.value.message_dict) == ["retry_count"]
    with pytest.raises(ValidationError, match="never tried again without a person"):
        maintenance.job_create(key="weekly", job_type="purge_trash", retry_count=1)
    assert maintenance.job_update(job=job, retry_count=0, retry_delay=5, time_limit=60).time_limit == 60


# --- Running after another job -------------------------------------------------------------------------------------


def test_a_job_runs_after_one_of_the_other_kind() -> None:
    nightly = BackupJobFactory(name="nightly")
    cleanup = maintenance.job_update(job=MaintenanceJobFactory(), run_after=job_id(nightly))
    assert cleanup.run_after == f"backup:{nightly.pk}"
    assert followers(nightly) == [cleanup]
    assert job_names([cleanup.run_after]) == {f"backup:{nightly.pk}": "nightly"}


def test_a_job_does_not_run_after_itself() -> None:
    job = BackupJobFactory(name="nightly")
    assert "cannot run after itself" in errors(job, run_after=job_id(job))["run_after"][0]


def test_a_circle_is_refused_and_said_link_by_link() -> None:
    weekly = BackupJobFactory(name="weekly")
    nightly = BackupJobFactory(name="nightly", run_after=job_id(weekly))
    cleanup = MaintenanceJobFactory(name="cleanup", run_after=job_id(nightly))
    says = errors(weekly, run_after=job_id(cleanup))["run_after"][0]
    assert says == (
        "weekly would run after itself: weekly runs after cleanup, cleanup after nightly, nightly after weekly. "
        "Choose another job."
    )


def test_a_circle_that_is_there_already_does_not_trap_anybody_else() -> None:
    one, two, free = BackupJobFactory(), BackupJobFactory(), BackupJobFactory()
    BackupJob.objects.filter(pk=one.pk).update(run_after=job_id(two))
    BackupJob.objects.filter(pk=two.pk).update(run_after=job_id(one))
    assert settings_clean({"run_after": job_id(one)}, job=free) == {"run_after": job_id(one)}


def test_the_cleanup_by_hand_runs_after_nothing() -> None:
    nightly = BackupJobFactory()
    manual = MaintenanceJobFactory(key="retention_cleanup_manual_")
    MaintenanceJob.objects.filter(key=maintenance.CLEANUP_MANUAL).delete()
    MaintenanceJob.objects.filter(pk=manual.pk).update(key=maintenance.CLEANUP_MANUAL, schedule_cron="")
    with pytest.raises(ValidationError, match="only runs by hand"):
        maintenance.job_update(job=manual, run_after=job_id(nightly))


def test_a_job_that_others_run_after_is_not_deleted() -> None:
    nightly = BackupJobFactory(name="nightly")
    cleanup = MaintenanceJobFactory(name="cleanup", run_after=job_id(nightly))
    with pytest.raises(ValidationError, match=r"cleanup runs after nightly\. Choose another job or none there"):
        backup_jobs.job_delete(job=nightly)
    maintenance.job_update(job=cleanup, run_after="")
    backup_jobs.job_delete(job=nightly)
    assert not BackupJob.objects.exists()


def test_many_followers_are_counted_rather_than_listed() -> None:
    cleanup = MaintenanceJobFactory(name="cleanup")
    for number in range(7):
        BackupJobFactory(name=f"job {number}", run_after=job_id(cleanup))
    with pytest.raises(ValidationError, match="job 0, job 1, job 2, job 3, job 4 and 2 more run after cleanup"):
        maintenance.job_delete(job=cleanup)


@pytest.mark.django_db(transaction=True)
def test_two_who_tie_two_jobs_to_each_other_at_once_make_no_circle() -> None:
    one, two = BackupJobFactory(name="one"), BackupJobFactory(name="two")
    barrier, said = threading.Barrier(2), []

    def tie(job: BackupJob, to: BackupJob) -> None:
        try:
            barrier.wait()
            backup_jobs.job_set(job=job, run_after=job_id(to))
        except ValidationError as error:
            said.append(error.messages[0])
        finally:
            connection.close()

    threads = [threading.Thread(target=tie, args=pair) for pair in ((one, two), (two, one))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 1
    assert "would run after itself" in said[0]
    assert BackupJob.objects.exclude(run_after="").count() == 1


def test_the_jobs_to_run_after_are_all_others_of_both_kinds() -> None:
    MaintenanceJob.objects.all().delete()
    own, other = BackupJobFactory(name="own"), BackupJobFactory(name="other")
    cleanup = MaintenanceJobFactory(name="cleanup")
    assert job_choices(besides=own) == [
        ("Backup jobs", [(job_id(other), "other")]),
        ("Maintenance jobs", [(job_id(cleanup), "cleanup")]),
    ]


def test_the_queues_are_those_of_this_process_and_of_every_host() -> None:
    HostFactory(queues=["nas1", "default"])
    HostFactory(queues=["attic"])
    assert known_queues() == ["attic", "default", "nas1"]


# --- Pausing and copying -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [BackupJobFactory, MaintenanceJobFactory], ids=["backup", "maintenance"])
def test_a_job_is_paused_and_resumed_and_nothing_else_changes(factory: Any) -> None:
    job = factory()
    until = timezone.now() + timedelta(hours=1)
    type(job).objects.filter(pk=job.pk).update(name="renamed meanwhile")
    paused = job_pause(job=job, until=until, by="anna")
    assert (paused.paused_until, paused.paused_by, paused.name) == (until, "anna", "renamed meanwhile")
    assert paused.updated_at > job.updated_at
    resumed = job_resume(job=job)
    assert (resumed.paused_until, resumed.paused_by) == (None, "")


def test_a_pause_ends_later_and_needs_a_job() -> None:
    job = BackupJobFactory()
    with pytest.raises(ValidationError) as caught:
        job_pause(job=job, until=timezone.now(), by="anna")
    assert list(caught.value.message_dict) == ["until"]
    backup_jobs.job_delete(job=BackupJob.objects.get(pk=job.pk))
    with pytest.raises(BackupJob.DoesNotExist):
        job_pause(job=job, until=timezone.now() + timedelta(hours=1), by="anna")
    with pytest.raises(BackupJob.DoesNotExist):
        job_resume(job=job)


def test_saving_a_job_does_not_end_a_pause_that_came_meanwhile() -> None:
    stale = BackupJobFactory(name="nightly")
    job_pause(job=stale, until=datetime(2127, 1, 1, tzinfo=UTC), by="anna")
    changed = backup_jobs.job_update(
        job=stale,
        name="hourly",
        targets=list(stale.targets.all()),
        storage=stale.storage,
        schedule="@hourly",
        timezone="",
        enabled=True,
        retention=None,
    )
    assert (changed.name, changed.paused_by) == ("hourly", "anna")


def test_a_copy_of_a_backup_job_does_the_same_and_starts_nothing() -> None:
    job = BackupJobFactory(name="nightly", retention={"keep_last": 3}, paused_until=datetime(2127, 1, 1, tzinfo=UTC))
    job = backup_jobs.job_set(job=job, **ALL)
    first, second = (backup_jobs.job_duplicate(job=job) for _ in range(2))
    assert (first.name, second.name) == ("nightly copy", "nightly copy 2")
    assert (first.enabled, first.paused_until, first.retention) == (False, None, {"keep_last": 3})
    assert settings_of(first) == settings_of(job) == {**CLEAN, "run_after": ""}
    assert list(first.targets.all()) == list(job.targets.all())


def test_a_copy_of_a_maintenance_job_has_a_key_of_its_own_and_is_in_sight() -> None:
    job = MaintenanceJobFactory(key="cleanup", name="Cleanup", visible_in_ui=False, time_limit=5)
    first, second = (maintenance.job_duplicate(job=job) for _ in range(2))
    assert [first.key, second.key] == ["cleanup_copy", "cleanup_copy_2"]
    assert [first.name, second.name] == ["Cleanup copy", "Cleanup copy 2"]
    assert (first.enabled, first.visible_in_ui, first.time_limit) == (False, True, 5)


@given(st.text(min_size=1, max_size=90), st.integers(0, 12))
def test_a_copys_name_is_free_and_not_too_long(name: str, taken: int) -> None:
    names: set[str] = set()
    for _ in range(taken + 1):
        found = copy_name(name, names.__contains__, longest=80)
        assert found not in names
        assert len(found) <= 80
        names.add(found)


def test_unknown_fields_are_refused_by_both_services() -> None:
    with pytest.raises(ValidationError) as caught:
        maintenance.job_update(job=MaintenanceJobFactory(), key="other")
    assert list(caught.value.message_dict) == ["key"]
    with pytest.raises(ValidationError) as caught:
        backup_jobs.job_set(job=BackupJobFactory(), colour="red")
    assert list(caught.value.message_dict) == ["colour"]


def test_a_refused_setting_leaves_the_job_as_it_was() -> None:
    job = BackupJobFactory(name="nightly")
    with pytest.raises(ValidationError), transaction.atomic():
        backup_jobs.job_update(
            job=job,
            name="hourly",
            targets=list(job.targets.all()),
            storage=job.storage,
            schedule="@hourly",
            timezone="",
            enabled=True,
            retention=None,
            overlap="both",
        )
    job.refresh_from_db()
    assert (job.name, job.schedule) == ("nightly", "30 2 * * *")
