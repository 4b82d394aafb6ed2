"""Retries, and jobs that run after others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from maintenance.choices import JobType
from maintenance.tasks import TASKS
from scheduling.choices import RunStatus, RunTrigger
from scheduling.dispatch import run_again
from scheduling.job_rules import pause_all
from scheduling.ledger import run_cancel, runs_clear_way, runs_mark_lost
from scheduling.registry import get_kind
from tests.factories import BackupJobFactory, MaintenanceJobFactory
from tests.scheduling.engine import KINDS, ask, carried_out, claim, finish, in_state, job_id, make_job, record

pytestmark = pytest.mark.django_db
FAR = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def both_kinds_may_be_retried(kind_changed: Callable[..., None]) -> None:
    for kind in KINDS:
        kind_changed(kind, may_retry=lambda _run: True)


def newest(job: Any) -> Any:
    return job.runs.order_by("pk").last()


def retry_of(run: Any) -> Any:
    return run.retries.get()


# --- Retries --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_run_is_tried_again_as_a_new_row_that_names_it(kind: str) -> None:
    job = make_job(kind, retry_count=2, retry_delay=10, queue="nas1")
    before = timezone.now()
    failed = carried_out(job, RunStatus.FAILED)
    retry = retry_of(failed)
    assert (retry.status, retry.trigger, retry.attempt, retry.slot) == ("queued", "retry", 2, None)
    assert (retry.queue, retry.job, retry.job_name) == ("nas1", job, job.name)
    assert before + timedelta(minutes=10) <= retry.not_before <= timezone.now() + timedelta(minutes=10)
    assert failed.status == RunStatus.FAILED
    assert claim(retry) is None, "not before its delay has passed"
    assert claim(retry, now=lambda: retry.not_before) is not None


@pytest.mark.parametrize(("count", "tries"), [(0, 1), (1, 2), (3, 4), (10, 11)])
def test_it_is_tried_again_as_often_as_the_job_says(count: int, tries: int) -> None:
    job = BackupJobFactory(retry_count=count, retry_delay=0)
    carried_out(job, RunStatus.FAILED)
    while (waiting := job.runs.queued().first()) is not None:
        finish(claim(waiting), RunStatus.FAILED)
    assert list(job.runs.order_by("pk").values_list("attempt", flat=True)) == list(range(1, tries + 1))
    parents = list(job.runs.order_by("pk").values_list("parent", flat=True))
    assert parents == [None, *job.runs.order_by("pk").values_list("pk", flat=True)[: tries - 1]]


def test_a_retry_that_succeeds_is_the_last() -> None:
    job = BackupJobFactory(retry_count=5, retry_delay=0)
    carried_out(job, RunStatus.FAILED)
    finish(claim(newest(job)))
    assert job.runs.count() == 2
    assert not job.runs.queued().exists()


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.CANCELLED])
def test_what_did_not_fail_is_not_tried_again(status: RunStatus) -> None:
    job = BackupJobFactory(retry_count=5)
    carried_out(job, status)
    assert job.runs.count() == 1


def test_a_lost_run_is_tried_again() -> None:
    job = BackupJobFactory(retry_count=1)
    run = claim(record(job), holder="gone")
    assert runs_mark_lost() == 1
    assert retry_of(run).attempt == 2
    assert runs_mark_lost() == 0
    assert job.runs.count() == 2


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.LOST])
def test_a_run_that_a_person_was_stopping_is_not_tried_again(status: RunStatus) -> None:
    """Also when it failed, or its process died, before it had heard of that."""
    job = BackupJobFactory(retry_count=5)
    run = claim(record(job), holder="gone")
    assert run_cancel(kind=get_kind("backup"), run_id=run.pk, by="anna") == RunStatus.CANCELLING
    assert runs_mark_lost() == 1 if status == RunStatus.LOST else finish(run, status)
    run.refresh_from_db()
    assert (run.status, job.runs.count()) == (status, 1)


def test_a_run_that_was_cancelled_while_it_waited_is_not_tried_again() -> None:
    job = BackupJobFactory(retry_count=5)
    carried_out(job, RunStatus.FAILED)
    run_cancel(kind=get_kind("backup"), run_id=newest(job).pk, by="anna")
    assert list(job.runs.order_by("pk").values_list("status", flat=True)) == ["failed", "cancelled"]


def test_a_command_that_has_returned_leaves_nothing_that_starts_later() -> None:
    job = BackupJobFactory(retry_count=5)
    carried_out(job, RunStatus.FAILED, trigger=RunTrigger.COMMAND)
    assert job.runs.count() == 1


def test_no_task_that_deletes_is_ever_tried_again_by_itself(kind_changed: Callable[..., None]) -> None:
    kind_changed("maintenance")
    for job_type in (JobType.RETENTION_CLEANUP, JobType.PURGE_TRASH):
        assert not TASKS[job_type].may_retry
        job = MaintenanceJobFactory(job_type=job_type, retry_count=10)
        carried_out(job, RunStatus.FAILED)
        claim(record(job), holder="gone")
        runs_mark_lost()
        assert list(job.runs.order_by("pk").values_list("status", flat=True)) == ["failed", "lost"]


def test_a_run_that_waits_already_is_the_retry() -> None:
    job = BackupJobFactory(retry_count=3)
    run = claim(ask(job))
    waiting = ask(job)
    finish(run, RunStatus.FAILED)
    assert list(job.runs.order_by("pk")) == [run, waiting]


def test_a_retry_that_finds_a_run_with_something_else_to_do_is_recorded_as_skipped() -> None:
    job = BackupJobFactory(retry_count=3)
    run = claim(ask(job))
    ask(job, params={"only": "etc"})
    finish(run, RunStatus.FAILED)
    retry = retry_of(run)
    assert (retry.status, retry.attempt) == (RunStatus.SKIPPED, 2)
    assert "waiting to start already" in retry.message


def test_the_request_is_repeated_as_it_was_made() -> None:
    job = BackupJobFactory(retry_count=1)
    assert retry_of(carried_out(job, RunStatus.FAILED, params={"only": "etc"})).params == {"only": "etc"}


@pytest.mark.parametrize(
    ("change", "tries"),
    [({"retry_count": 0}, 0), ({"enabled": False}, 0), ({"retry_count": 2, "retry_delay": 1440}, 1)],
    ids=["without retries now", "switched off", "with another delay"],
)
def test_a_job_that_was_changed_while_it_ran_is_tried_again_as_it_is_now(change: dict[str, Any], tries: int) -> None:
    job = BackupJobFactory(retry_count=1, retry_delay=1)
    run = claim(ask(job))
    type(job).objects.filter(pk=job.pk).update(**change)
    finish(run, RunStatus.FAILED)
    assert job.runs.exclude(pk=run.pk).count() == tries
    if tries:
        assert retry_of(run).not_before > timezone.now() + timedelta(hours=23)


def test_a_job_that_was_deleted_while_it_ran_is_not_tried_again() -> None:
    job = BackupJobFactory(retry_count=1)
    follower = MaintenanceJobFactory(run_after=job_id(job))
    run = claim(ask(job))
    type(job).objects.filter(pk=job.pk).delete()
    assert finish(run, RunStatus.FAILED)
    assert not run.retries.exists()
    assert not follower.runs.exists()


def test_a_retry_that_would_fall_into_a_pause_is_skipped_and_says_so() -> None:
    job = BackupJobFactory(retry_count=1, retry_delay=10)
    run = claim(ask(job))
    type(job).objects.filter(pk=job.pk).update(paused_until=timezone.now() + timedelta(hours=1), paused_by="anna")
    finish(run, RunStatus.FAILED)
    retry = retry_of(run)
    assert retry.status == RunStatus.SKIPPED
    assert "is paused by anna until" in retry.message


def test_a_pause_that_is_over_by_then_does_not_keep_a_retry_away() -> None:
    job = BackupJobFactory(retry_count=1, retry_delay=90)
    run = claim(ask(job))
    pause_all(until=timezone.now() + timedelta(hours=1), by="anna")
    finish(run, RunStatus.FAILED)
    assert retry_of(run).status == RunStatus.QUEUED


def test_a_job_that_is_switched_off_while_its_retry_waits_is_not_tried_again() -> None:
    job = BackupJobFactory(retry_count=1, retry_delay=0)
    retry = retry_of(carried_out(job, RunStatus.FAILED))
    type(job).objects.filter(pk=job.pk).update(enabled=False)
    assert claim(retry) is None
    retry.refresh_from_db()
    assert retry.status == RunStatus.SKIPPED
    assert "switched off" in retry.message


def test_a_job_is_deleted_with_what_waits_of_it() -> None:
    job = BackupJobFactory(retry_count=1)
    retry = retry_of(carried_out(job, RunStatus.FAILED))
    runs_clear_way(kind_name="backup", job=job)
    retry.refresh_from_db()
    assert retry.status == RunStatus.CANCELLED
    assert "was deleted before this run started" in retry.message


def test_running_it_again_by_hand_names_the_run_and_counts_anew() -> None:
    job = BackupJobFactory(retry_count=1, retry_delay=0)
    carried_out(job, RunStatus.FAILED)
    finish(claim(newest(job)), RunStatus.FAILED)
    last = newest(job)
    again = run_again(kind_name="backup", run=last, by="anna")
    assert again is not None
    assert (again.parent, again.attempt, again.trigger, again.requested_by) == (last, 1, RunTrigger.MANUAL, "anna")
    finish(claim(again), RunStatus.FAILED)
    assert retry_of(again).attempt == 2


def test_what_goes_wrong_with_a_retry_does_not_keep_the_run_from_being_closed(
    kind_changed: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_args: Any, **_request: Any) -> None:
        raise ZeroDivisionError("in the executor")

    kind_changed("backup", execute=broken)
    job = BackupJobFactory(retry_count=1)
    run = claim(record(job))
    assert finish(run, RunStatus.FAILED)
    run.refresh_from_db()
    assert run.status == RunStatus.FAILED
    assert "in the executor" in caplog.text


def test_a_finish_that_is_rolled_back_leaves_no_retry() -> None:
    job = BackupJobFactory(retry_count=1)
    run = claim(ask(job))
    with transaction.atomic():
        finish(run, RunStatus.FAILED)
        transaction.set_rollback(True)
    assert list(job.runs.values_list("status", flat=True)) == ["running"]


# --- Jobs that run after others -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("follower_kind", KINDS)
def test_a_job_runs_after_another_has_succeeded(kind: str, follower_kind: str) -> None:
    job = make_job(kind)
    follower, other = make_job(follower_kind, run_after=job_id(job)), make_job(follower_kind, run_after=f"{kind}:999")
    carried_out(job)
    run = follower.runs.get()
    assert (run.status, run.trigger, run.slot, run.parent) == (RunStatus.QUEUED, RunTrigger.AFTER, None, None)
    assert not other.runs.exists()


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.CANCELLED])
def test_a_job_is_skipped_when_the_one_before_did_not_succeed(status: RunStatus) -> None:
    job = BackupJobFactory(name="nightly")
    follower = MaintenanceJobFactory(run_after=job_id(job))
    run = carried_out(job, status)
    skipped = follower.runs.get()
    assert (skipped.status, skipped.trigger) == (RunStatus.SKIPPED, RunTrigger.AFTER)
    assert skipped.message == f"nightly did not succeed (run {run.pk}), so this did not follow."


def test_a_job_is_skipped_when_the_one_before_was_lost_or_cancelled_while_it_waited() -> None:
    job = BackupJobFactory()
    follower = MaintenanceJobFactory(run_after=job_id(job))
    claim(record(job), holder="gone")
    runs_mark_lost()
    run_cancel(kind=get_kind("backup"), run_id=ask(job).pk, by="anna")
    assert list(follower.runs.values_list("status", flat=True)) == ["skipped", "skipped"]


def test_while_a_retry_is_to_come_nothing_follows() -> None:
    job = BackupJobFactory(retry_count=2, retry_delay=0)
    follower = MaintenanceJobFactory(run_after=job_id(job))
    carried_out(job, RunStatus.FAILED)
    assert not follower.runs.exists()
    finish(claim(newest(job)), RunStatus.FAILED)
    assert not follower.runs.exists()
    finish(claim(newest(job)), RunStatus.FAILED)
    assert follower.runs.get().status == RunStatus.SKIPPED


def test_after_a_retry_that_succeeds_the_next_job_runs_once() -> None:
    job = BackupJobFactory(retry_count=2, retry_delay=0)
    follower = MaintenanceJobFactory(run_after=job_id(job))
    carried_out(job, RunStatus.FAILED)
    finish(claim(newest(job)))
    assert follower.runs.get().status == RunStatus.QUEUED


@pytest.mark.parametrize(
    "change", [{"enabled": False}, {"paused_until": FAR}], ids=["switched off meanwhile", "paused meanwhile"]
)
def test_when_no_retry_comes_after_all_the_next_job_is_told(change: dict[str, Any]) -> None:
    job = BackupJobFactory(retry_count=2)
    follower = MaintenanceJobFactory(run_after=job_id(job))
    run = claim(ask(job))
    type(job).objects.filter(pk=job.pk).update(**change)
    finish(run, RunStatus.FAILED)
    assert follower.runs.get().status == RunStatus.SKIPPED


def test_a_job_that_is_switched_off_does_not_follow() -> None:
    job = BackupJobFactory()
    follower = MaintenanceJobFactory(run_after=job_id(job), enabled=False)
    carried_out(job)
    carried_out(job, RunStatus.FAILED)
    assert not follower.runs.exists()


def test_a_job_without_a_schedule_follows() -> None:
    job = BackupJobFactory()
    follower = MaintenanceJobFactory(run_after=job_id(job), schedule_cron="")
    carried_out(job)
    assert follower.runs.get().status == RunStatus.QUEUED


def test_a_job_that_follows_and_waits_already_runs_once() -> None:
    job = BackupJobFactory()
    follower = MaintenanceJobFactory(run_after=job_id(job))
    waiting = ask(follower)
    carried_out(job)
    assert follower.runs.get() == waiting


def test_a_chain_goes_on_when_it_succeeds_and_is_skipped_to_its_end_when_it_does_not() -> None:
    first = BackupJobFactory(name="first")
    second = BackupJobFactory(name="second", run_after=job_id(first))
    third = MaintenanceJobFactory(run_after=job_id(second))
    carried_out(first, RunStatus.FAILED)
    assert "first did not succeed" in second.runs.get().message
    assert third.runs.get().message == f"second was skipped (run {second.runs.get().pk}), so this did not follow."
    carried_out(first)
    finish(claim(newest(second)))
    assert [run.status for run in third.runs.order_by("pk")] == ["skipped", "queued"]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED])
def test_jobs_that_follow_each_other_in_a_circle_come_to_an_end(length: int, status: RunStatus) -> None:
    jobs = [BackupJobFactory(name=f"job {number}") for number in range(length)]
    outside = MaintenanceJobFactory(run_after=job_id(jobs[0]))
    for job, before in zip(jobs, [jobs[-1], *jobs[:-1]], strict=True):
        type(job).objects.filter(pk=job.pk).update(run_after=job_id(before))
    carried_out(jobs[0], status)
    for job in jobs:
        assert not job.runs.queued().exists()
    assert "never end" in newest(jobs[1 % length]).message or status == RunStatus.FAILED
    assert outside.runs.filter(status="queued").count() == (1 if status == RunStatus.SUCCEEDED else 0)


def test_a_scheduled_time_that_is_skipped_is_told_to_the_next_job_unless_a_run_is_on_its_way() -> None:
    job = BackupJobFactory(paused_until=FAR)
    follower = MaintenanceJobFactory(run_after=job_id(job))
    skipped = ask(job, RunTrigger.SCHEDULE)
    assert skipped.status == RunStatus.SKIPPED
    assert "was skipped" in follower.runs.get().message
    follower.runs.all().delete()
    in_state("backup", RunStatus.RUNNING, job=job)
    ask(job, RunTrigger.SCHEDULE, slot=timezone.now())
    assert not follower.runs.exists()


def test_a_follower_whose_own_rules_hold_it_back_is_skipped_or_waits_by_them() -> None:
    job = BackupJobFactory()
    paused = MaintenanceJobFactory(run_after=job_id(job), paused_until=FAR)
    carried_out(job)
    assert "is paused until" in paused.runs.get().message
