"""What holds a run back that starts by itself: pauses, windows, blackout dates, overlap. Runs by hand: nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.utils import timezone

from backups.models import BackupRun
from backups.services.jobs import job_set
from scheduling.choices import BY_ITSELF, Overlap, RunStatus, RunTrigger
from scheduling.context import RunContext, RunResult
from scheduling.dispatch import scheduled_dispatch
from scheduling.executing import execute_run
from scheduling.job_rules import pause_all, pause_in_force, resume_all
from scheduling.ledger import AnotherRunWaitsError
from scheduling.worker import Worker
from tests.factories import BackupJobFactory, MaintenanceJobFactory
from tests.scheduling.engine import KINDS, ask, claim, finish, in_state, make_job, record

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)
BY_HAND = [trigger for trigger in RunTrigger if trigger not in BY_ITSELF]
HOUR = timedelta(hours=1)


def at(hour: float) -> Callable[[], datetime]:
    """A clock that stands `hour` hours after midnight of 24 December, UTC."""
    return lambda: NOON.replace(hour=0) + timedelta(hours=hour)


def tick(job: Any, hour: float = 12) -> Any:
    """The schedule's instant at that hour."""
    return ask(job, RunTrigger.SCHEDULE, slot=at(hour)(), now=at(hour))


def night_job(**values: Any) -> Any:
    """May start between 22:00 and 04:00, UTC."""
    return BackupJobFactory(timezone="UTC", window_start=time(22), window_end=time(4), **values)


# --- Pauses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trigger", BY_ITSELF)
def test_what_starts_by_itself_is_skipped_during_a_pause_and_says_whose(kind: str, trigger: RunTrigger) -> None:
    job = make_job(kind, paused_until=NOON + HOUR, paused_by="anna", timezone="Europe/Berlin")
    run = ask(job, trigger, now=at(12))
    assert run.status == RunStatus.SKIPPED
    assert run.message == f"{job.name} is paused by anna until 2026-12-24 14:00 (Europe/Berlin)."
    assert run.finished_at == run.queued_at == NOON


def test_a_pause_of_everything_says_why() -> None:
    pause_all(until=NOON + HOUR, by="ben", reason="new disk")
    run = tick(BackupJobFactory(timezone="UTC"))
    assert run.message == "Everything is paused by ben until 2026-12-24 13:00 (UTC) (new disk)."
    assert run.slot == NOON


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trigger", BY_HAND)
def test_a_run_by_hand_is_never_held_back(kind: str, trigger: RunTrigger) -> None:
    pause_all(until=NOON + HOUR, by="ben")
    job = make_job(
        kind,
        paused_until=NOON + HOUR,
        enabled=False,
        blackout_dates=["2026-12-24"],
        timezone="UTC",
        window_start=time(22),
        window_end=time(4),
    )
    run = ask(job, trigger, now=at(12))
    assert (run.status, run.not_before) == (RunStatus.QUEUED, None)
    assert claim(run, now=at(12)) is not None


def test_a_pause_ends_by_itself_at_its_moment() -> None:
    pause_all(until=NOON, by="ben")
    assert tick(BackupJobFactory(), 11.99).status == RunStatus.SKIPPED
    assert tick(BackupJobFactory(), 12).status == RunStatus.QUEUED
    assert pause_in_force(NOON) is None


def test_a_pause_is_ended_by_hand_and_set_anew() -> None:
    assert not resume_all()
    pause_all(until=NOON + HOUR, by="ben", reason="one")
    pause_all(until=NOON + 2 * HOUR, by="anna", reason="two")
    pause = pause_in_force(NOON)
    assert pause is not None
    assert (pause.until, pause.by, pause.reason) == (NOON + 2 * HOUR, "anna", "two")
    assert resume_all()
    assert tick(BackupJobFactory()).status == RunStatus.QUEUED


@pytest.mark.parametrize("everything", [False, True], ids=["of the job", "of everything"])
def test_what_waited_before_a_pause_waits_through_it(everything: bool) -> None:
    job = BackupJobFactory()
    run = tick(job)
    if everything:
        pause_all(until=NOON + HOUR, by="ben")
    else:
        type(job).objects.update(paused_until=NOON + HOUR)
    assert claim(run, now=at(12.5)) is None
    run.refresh_from_db()
    assert (run.status, run.fence, run.started_at) == (RunStatus.QUEUED, 0, None)
    assert claim(run, now=at(13)) is not None


@pytest.mark.parametrize("everything", [False, True], ids=["of the job", "of everything"])
def test_the_worker_does_not_try_what_waits_through_a_pause_again_and_again(everything: bool) -> None:
    later = timezone.now() + HOUR
    job, by_hand = BackupJobFactory(), BackupJobFactory()
    ask(job, RunTrigger.SCHEDULE)
    run = ask(by_hand)
    if everything:
        pause_all(until=later, by="ben")
    else:
        type(job).objects.update(paused_until=later)
    assert Worker(size=4)._waiting() == [("backup", run.pk)]


def test_a_pause_lets_what_runs_go_on() -> None:
    run = claim(tick(BackupJobFactory()), now=at(12))
    pause_all(until=NOON + HOUR, by="ben")
    assert finish(run)


# --- Windows --------------------------------------------------------------------------------------


def test_outside_its_window_a_run_waits_for_the_opening() -> None:
    run = tick(night_job(), 12)
    assert (run.status, run.not_before) == (RunStatus.QUEUED, at(22)())
    assert claim(run, now=at(21.99)) is None
    assert claim(run, now=at(22)) is not None


def test_inside_its_window_it_starts_at_once() -> None:
    run = tick(night_job(), 23)
    assert run.not_before is None
    assert claim(run, now=at(23)) is not None


def test_what_did_not_start_before_the_window_closed_waits_for_the_next() -> None:
    """The edge itself is outside: at 04:00 the window is closed."""
    job = night_job()
    run = tick(job, 3.9)
    assert run.not_before is None
    assert claim(run, now=at(4)) is None
    run.refresh_from_db()
    assert (run.status, run.not_before) == (RunStatus.QUEUED, at(22)())
    other = tick(night_job(), 3.9)
    assert claim(other, now=at(3.9999)) is not None


def test_what_has_started_goes_on_after_the_window_has_closed() -> None:
    run = claim(tick(night_job(), 3.9), now=at(3.9))
    assert finish(run, now=at(9))


def test_a_retry_waits_for_its_delay_and_then_for_the_window(kind_changed: Callable[..., None]) -> None:
    job = night_job(retry_count=1, retry_delay=60)
    run = claim(tick(job, 3), now=at(3))
    finish(run, RunStatus.FAILED, now=at(3.5))
    assert run.retries.get().not_before == at(22)()


def test_a_window_that_was_taken_away_meanwhile_holds_nothing_back() -> None:
    job = night_job()
    run = tick(job, 3.9)
    type(job).objects.update(window_start=None, window_end=None)
    assert claim(run, now=at(5)) is not None


@pytest.mark.parametrize("change", [{"window_start": None, "window_end": None}, {"window_start": time(1)}])
def test_a_window_that_is_changed_frees_what_waits_for_it(change: dict[str, Any]) -> None:
    """Otherwise a run would wait for the old opening, and every further time be skipped for its sake."""
    job = night_job()
    run = tick(job, 12)
    BackupRun.objects.update(not_before=timezone.now() + timedelta(hours=10))
    job_set(job=job, **change)
    run.refresh_from_db()
    assert run.not_before is None
    assert claim(run, now=at(2)) is not None


def test_a_job_that_is_changed_leaves_a_retry_its_delay() -> None:
    job = BackupJobFactory(retry_count=1, retry_delay=60)
    failed = claim(ask(job))
    finish(failed, RunStatus.FAILED)
    job_set(job=job, retry_delay=30)
    retry = failed.retries.get()
    assert retry.not_before == retry.queued_at + timedelta(minutes=30)


# --- Blackout dates -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_blackout_date_a_fire_is_skipped_and_says_so(kind: str) -> None:
    job = make_job(kind, blackout_dates=["2026-12-24..2026-12-26"], timezone="UTC")
    assert tick(job).message == f"2026-12-24..2026-12-26 is a blackout date of {job.name}."
    assert tick(job, 12 - 24).status == RunStatus.QUEUED


def test_the_day_is_the_one_in_the_jobs_zone() -> None:
    job = BackupJobFactory(blackout_dates=["2026-12-25"], timezone="Pacific/Auckland")
    assert tick(job, 10.9).status == RunStatus.QUEUED
    assert tick(job, 11).status == RunStatus.SKIPPED


def test_what_waits_for_a_window_that_opens_on_a_blackout_date_is_skipped() -> None:
    job = night_job(blackout_dates=["2026-12-24"])
    assert tick(job, -19).status == RunStatus.QUEUED  # the day before at 05:00: opens that evening
    late = night_job(blackout_dates=["2026-12-24"])
    type(late).objects.filter(pk=late.pk).update(window_start=time(3), window_end=time(4))
    assert tick(late, -12).status == RunStatus.SKIPPED


def test_what_a_busy_machine_pushes_into_a_blackout_date_is_skipped_when_it_would_start() -> None:
    job = BackupJobFactory(blackout_dates=["2026-12-24"], timezone="UTC")
    run = tick(job, -0.1)
    assert run.status == RunStatus.QUEUED
    assert claim(run, now=at(0.1)) is None
    run.refresh_from_db()
    assert (run.status, run.finished_at) == (RunStatus.SKIPPED, at(0.1)())
    assert "blackout date" in run.message


def test_a_retry_that_would_fall_on_a_blackout_date_is_skipped() -> None:
    job = BackupJobFactory(blackout_dates=["2026-12-25"], timezone="UTC", retry_count=1, retry_delay=120)
    run = claim(tick(job, 22.5), now=at(22.5))
    finish(run, RunStatus.FAILED, now=at(23))
    assert run.retries.get().status == RunStatus.SKIPPED


# --- By hand while something is held back ---------------------------------------------------------


@pytest.mark.parametrize("hold", ["window", "pause", "retry delay"])
def test_a_run_by_hand_takes_the_place_of_one_that_is_held_back(hold: str) -> None:
    job = night_job() if hold == "window" else BackupJobFactory(retry_count=1)
    if hold == "retry delay":
        failed = claim(ask(job, now=at(11)), now=at(11))
        finish(failed, RunStatus.FAILED, now=at(11.99))
        waiting = failed.retries.get()
    else:
        waiting = tick(job)
    if hold == "pause":
        pause_all(until=NOON + HOUR, by="ben")
    run = ask(job, requested_by="anna", now=at(12))
    waiting.refresh_from_db()
    assert waiting.status == RunStatus.SKIPPED
    assert waiting.message == f"{job.name} was started by hand by anna instead."
    assert run != waiting
    assert claim(run, now=at(12)) is not None


def test_a_run_by_hand_is_the_one_that_waits_for_its_turn_alone() -> None:
    job = BackupJobFactory()
    waiting = tick(job)
    assert ask(job, now=at(12)) == waiting
    by_hand = BackupJobFactory()
    first = ask(by_hand, now=at(12))
    pause_all(until=NOON + HOUR, by="ben")
    assert ask(by_hand, now=at(12)) == first


def test_a_run_by_hand_with_something_else_to_do_does_not_take_a_place() -> None:
    job = night_job()
    waiting = tick(job)
    with pytest.raises(AnotherRunWaitsError):
        ask(job, params={"only": "etc"}, now=at(12))
    waiting.refresh_from_db()
    assert waiting.status == RunStatus.QUEUED


def test_taking_the_place_of_a_run_says_nothing_to_the_jobs_that_follow() -> None:
    job = night_job()
    follower = MaintenanceJobFactory(run_after=f"backup:{job.pk}")
    tick(job)
    run = claim(ask(job, now=at(12)), now=at(12))
    assert not follower.runs.exists()
    finish(run, now=at(13))
    assert follower.runs.get().status == RunStatus.QUEUED


# --- Overlap --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.CANCELLING])
def test_a_time_that_comes_while_the_run_before_is_going_waits_or_is_skipped(kind: str, status: RunStatus) -> None:
    waits, skips = make_job(kind), make_job(kind, overlap=Overlap.SKIP)
    for job in (waits, skips):
        going = in_state(kind, status, job=job)
    assert tick(waits).status == RunStatus.QUEUED
    skipped = tick(skips)
    assert skipped.message == f"Run {going.pk} of {skips.name} was still going, and this job skips then."
    assert skipped.slot == NOON


def test_a_job_that_skips_runs_again_when_the_run_before_is_over() -> None:
    job = BackupJobFactory(overlap=Overlap.SKIP)
    in_state("backup", RunStatus.SUCCEEDED, job=job)
    assert tick(job).status == RunStatus.QUEUED


def test_a_job_that_waits_has_one_that_waits_and_further_times_are_skipped() -> None:
    job = BackupJobFactory()
    in_state("backup", RunStatus.RUNNING, job=job)
    assert [tick(job, hour).status for hour in (12, 13, 14)] == ["queued", "skipped", "skipped"]


def test_asking_by_hand_while_it_runs_waits_whatever_the_job_says_of_its_schedule() -> None:
    job = BackupJobFactory(overlap=Overlap.SKIP)
    in_state("backup", RunStatus.RUNNING, job=job)
    assert ask(job).status == RunStatus.QUEUED


# --- Late, switched off, gone ---------------------------------------------------------------------


def test_a_run_that_is_late_says_how_late(kind_changed: Callable[..., None]) -> None:
    def nothing(_run: Any, _context: RunContext) -> RunResult:
        return RunResult(message="Nothing to do.")

    kind_changed("backup", perform=nothing)
    late = ask(BackupJobFactory(), RunTrigger.SCHEDULE, slot=timezone.now() - 30 * HOUR)
    punctual = ask(BackupJobFactory(), RunTrigger.SCHEDULE, slot=timezone.now() - timedelta(seconds=50))
    for run in (late, punctual):
        execute_run("backup", run.pk)
    assert timedelta(hours=30) <= late.lateness < timedelta(hours=30, minutes=1)
    assert "recorded 1 d 6 h later" in " ".join(late.log_lines.values_list("text", flat=True))
    assert not punctual.log_lines.exists()


def test_a_job_that_is_switched_off_while_its_run_waits_does_not_start_by_itself() -> None:
    scheduled, by_hand = BackupJobFactory(), BackupJobFactory()
    runs = [tick(scheduled), ask(by_hand)]
    type(scheduled).objects.update(enabled=False)
    assert claim(runs[0], now=at(13)) is None
    assert claim(runs[1]) is not None
    runs[0].refresh_from_db()
    assert runs[0].message == f"{scheduled.name} was switched off before this run started."


@pytest.mark.parametrize("kind", KINDS)
def test_a_fire_of_a_job_that_is_gone_or_off_records_nothing(kind: str) -> None:
    job = make_job(kind, enabled=False)
    assert [ask(job, trigger) for trigger in BY_ITSELF] == [None, None, None]
    pk = job.pk
    job.delete()
    assert scheduled_dispatch(kind, pk, trigger=RunTrigger.MANUAL) is None


def test_a_zone_that_this_machine_does_not_know_any_more_keeps_no_other_run_waiting() -> None:
    job = BackupJobFactory()
    run = record(job, RunTrigger.AFTER)
    type(job).objects.update(timezone="Mars/Olympus")
    assert claim(run) is not None
