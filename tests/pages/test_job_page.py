from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backups.models import BackupJob, BackupRun
from backups.services.options import options_update
from maintenance.models import MaintenanceJob
from scheduling.choices import RunStatus
from scheduling.job_rules import pause_all
from tests.factories import BackupJobFactory, BackupRunFactory, MaintenanceJobFactory, MaintenanceRunFactory
from tests.pages.people import sign_in

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 18, 11, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=400)


@pytest.fixture
def client() -> Client:
    return sign_in("administrator")


@pytest.fixture(autouse=True)
def berlin_at_noon(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    options_update(timezone="Europe/Berlin")
    monkeypatch.setattr(timezone, "now", lambda: NOW)


def nightly(*, unchanged_since: datetime = LONG_AGO, **values: Any) -> BackupJob:
    """A job at 02:30 every day, which is 01:30 UTC in this November, not changed since."""
    job = BackupJobFactory(**{"name": "nightly", "schedule": "30 2 * * *", **values})
    BackupJob.objects.filter(pk=job.pk).update(created_at=LONG_AGO, updated_at=unchanged_since)
    return job


def night(day: int, month: int = 11) -> datetime:
    return datetime(2026, month, day, 1 if (month, day) > (10, 24) else 0, 30, tzinfo=UTC)


def ran(job: Any, at: datetime, status: str = "succeeded", *, minutes: float = 10, **more: Any) -> BackupRun:
    more.setdefault("outcome", "ok" if status == "succeeded" else "")
    slot = more.pop("slot", at)
    return BackupRunFactory(
        job=job,
        status=status,
        slot=slot,
        queued_at=at,
        started_at=None if status in ("queued", "skipped") else at,
        finished_at=None if status in ("queued", "running", "cancelling") else at + timedelta(minutes=minutes),
        **more,
    )


def ran_every_night(job: Any, *, but: set[int] = frozenset(), since: int = 40) -> None:  # type: ignore[assignment]
    for ago in range(since):
        at = night(18) - timedelta(days=ago)
        at = at - timedelta(hours=1) if at < datetime(2026, 10, 25, 1, tzinfo=UTC) else at
        if ago not in but:
            ran(job, at)


def page(client: Client, job: Any) -> str:
    answer = client.get(job.get_absolute_url())
    assert answer.status_code == 200
    return answer.content.decode()


def strip(text: str) -> dict[str, tuple[str, str]]:
    """The strip: by the day's words what it shows, and all that it says."""
    found = re.findall(r'<li data-status="(\w+)"[^>]*>\s*<(?:a href="[^"]*"|span) title="([^:"]*): ([^"]*)"', text)
    return {day: (status, words) for status, day, words in found}


def test_the_strip_tells_each_of_the_last_thirty_days(client: Client) -> None:
    job = nightly()
    ran_every_night(job, but={1, 2, 3, 4})
    ran(job, night(17), "failed")
    ran(job, night(16), "skipped")
    ran(job, night(15), outcome="warning")
    ran(job, night(14), "lost")
    days = strip(page(client, job))
    assert len(days) == 30
    assert list(days)[-1] == "Wed 18 Nov 2026"
    assert [status for status, _ in list(days.values())[-6:]] == [
        "succeeded",
        "lost",
        "warning",
        "skipped",
        "failed",
        "succeeded",
    ]
    assert days["Sun 25 Oct 2026"] == ("succeeded", "1 succeeded"), "on the day of the change as well"


def test_a_day_leads_to_its_runs(client: Client) -> None:
    job = nightly()
    ran_every_night(job)
    assert f"/runs/?kind=backup&amp;job={job.pk}&amp;from=2026-11-17&amp;to=2026-11-17" in page(client, job)


def test_a_time_without_any_run_was_missed(client: Client) -> None:
    job = nightly()
    ran_every_night(job, but={2})
    text = page(client, job)
    days = strip(text)
    assert days["Mon 16 Nov 2026"] == ("missed", "1 missed")
    assert [day for day, (status, _) in days.items() if status == "missed"] == ["Mon 16 Nov 2026"]
    assert "1 time of the schedule passed without any run" in text


def test_a_skipped_time_was_not_missed(client: Client) -> None:
    job = nightly()
    ran_every_night(job, but={2})
    ran(job, night(16), "skipped")
    assert strip(page(client, job))["Mon 16 Nov 2026"] == ("skipped", "1 skipped")


def test_a_run_by_hand_does_not_make_up_for_a_missed_time(client: Client) -> None:
    job = nightly()
    ran_every_night(job, but={2})
    ran(job, night(16) + timedelta(hours=9), slot=None)
    assert strip(page(client, job))["Mon 16 Nov 2026"] == ("missed", "1 missed, 1 succeeded")


def test_a_catch_up_run_belongs_to_the_time_that_it_caught_up_on(client: Client) -> None:
    job = nightly()
    ran_every_night(job, but={1, 2})
    ran(job, night(17) + timedelta(days=1, hours=5), slot=night(17))
    days = strip(page(client, job))
    assert days["Mon 16 Nov 2026"] == ("missed", "1 missed")
    assert days["Tue 17 Nov 2026"] == ("none", "nothing due")


def test_nothing_is_missed_before_the_job_had_this_schedule(client: Client) -> None:
    job = nightly(unchanged_since=datetime(2026, 11, 10, 9, tzinfo=UTC))
    text = page(client, job)
    days = strip(text)
    assert [day for day, (status, _) in days.items() if status == "missed"] == [
        f"{name} {day} Nov 2026"
        for day, name in enumerate(("Wed", "Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"), start=11)
    ]
    assert days["Mon 9 Nov 2026"] == ("none", "no run recorded")
    assert "told from 10 Nov on, when the job was last changed" in text


@pytest.mark.parametrize("values", [{"enabled": False}, {"schedule": ""}], ids=["switched off", "by hand"])
def test_a_job_that_starts_nothing_by_its_schedule_misses_nothing(client: Client, values: dict[str, Any]) -> None:
    text = page(client, nightly(**values))
    assert {status for status, _ in strip(text).values()} == {"none"}
    assert "Missed times are told" not in text


def test_a_time_that_has_just_come_is_not_missed_yet(client: Client) -> None:
    job = nightly(schedule="55 11 * * *")
    assert strip(page(client, job))["Wed 18 Nov 2026"] == ("none", "nothing due")


def test_missed_times_of_an_hourly_job_are_counted(client: Client) -> None:
    job = nightly(schedule="0 * * * *")
    for hour in range(20):
        ran(job, datetime(2026, 11, 16, 23, tzinfo=UTC) + timedelta(hours=hour))
    assert strip(page(client, job))["Tue 17 Nov 2026"] == ("missed", "4 missed, 20 succeeded")


def test_the_rates_say_what_counts(client: Client) -> None:
    job = nightly()
    for day in range(1, 9):
        ran(job, night(day))
    ran(job, night(9), "failed")
    ran(job, night(10), "lost")
    ran(job, night(11), "cancelled")
    ran(job, night(12), "skipped")
    ran(job, night(1, month=8), "failed")
    text = page(client, job)
    figures = re.findall(r"<dd>([^<]*%)</dd><dd class=\"hint\">([^<]*)</dd>", text)
    assert figures == [("80\u00a0%", "8 of 10 runs"), ("73\u00a0%", "8 of 11")]
    assert "cancelled and skipped ones count for neither" in text


def test_the_typical_duration_is_the_median_of_those_that_succeeded(client: Client) -> None:
    job = nightly()
    for day, minutes in enumerate((10, 20, 30, 40, 300), start=1):
        ran(job, night(day), minutes=minutes)
    ran(job, night(6), "failed", minutes=1)
    text = page(client, job)
    assert '<dd>30\u00a0min</dd><dd class="hint">95 % within 5\u00a0h</dd>' in text


def test_curves_show_durations_and_sizes_with_failed_runs_marked(client: Client) -> None:
    job = nightly()
    for day in range(1, 6):
        ran(job, night(day), minutes=10 * day, result_json={"stored_bytes": day * 2**30})
    failed = ran(job, night(6), "failed", minutes=3)
    text = page(client, job)
    assert "Duration of 5 runs from Sun 1 Nov 2026 to Fri 6 Nov 2026: typically 30\u00a0min" in text
    assert "Stored of 5 runs" in text
    assert "typically 3\u00a0GiB, between 1\u00a0GiB and 5\u00a0GiB" in text
    crosses = re.findall(r'<a href="([^"]*)" tabindex="-1">(?:(?!</a>).)*class="cross"', text, re.S)
    assert set(crosses) == {failed.get_absolute_url()}


@pytest.mark.parametrize("figure", ["many", None, [], {}, True])
def test_figures_that_are_no_numbers_are_left_out(client: Client, figure: Any) -> None:
    job = nightly()
    for day in range(1, 4):
        ran(job, night(day), result_json={"stored_bytes": figure})
    assert "Stored of" not in page(client, job)


def test_the_next_times_say_what_holds_them_back(client: Client) -> None:
    job = nightly(
        schedule="0 12 * * *",
        window_start=time(22),
        window_end=time(4),
        blackout_dates=["2026-11-21..2026-11-22"],
        paused_until=NOW + timedelta(days=2, hours=3),
        paused_by="anna",
    )
    text = page(client, job)
    starts = text.partition('<ol class="next-starts"')[2].partition("</ol>")[0]
    assert "and 1 more until Fri 20 Nov, 12:00, pass without a run: paused" in starts
    assert "due Mon 23 Nov, 12:00, waits for its window" in starts
    assert "and 1 more until Sun 22 Nov, 12:00, pass without a run: a blackout date" in starts
    assert "Paused until" in text
    assert "by anna" in text


def test_a_pause_of_everything_is_told_on_the_page_of_each_job(client: Client) -> None:
    pause_all(until=NOW + timedelta(days=3), by="bert")
    assert "pass without a run: paused" in page(client, nightly())


def test_a_coming_change_of_the_clocks_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    job = nightly()
    monkeypatch.setattr(timezone, "now", lambda: datetime(2027, 3, 27, 11, tzinfo=UTC))
    assert "clocks go forward 1 h at 02:00 that day (Europe/Berlin)" in page(sign_in("administrator"), job)


def test_settings_are_told_in_words(client: Client) -> None:
    before = BackupJobFactory(name="before")
    job = nightly(
        retry_count=2,
        retry_delay=15,
        time_limit=90,
        window_start=time(22),
        window_end=time(4),
        blackout_dates=["2026-12-24..2026-12-26"],
        run_after=f"backup:{before.pk}",
        overlap="skip",
        queue="nas1",
    )
    cleanup = MaintenanceJobFactory(name="cleanup after it", run_after=f"backup:{job.pk}")
    text = page(client, job)
    for words in (
        "A failed run is tried again twice, 15 min apart.",
        "A run is stopped, and failed, after 1 h 30 min.",
        "Starts by itself only from 22:00 to 04:00 the next day (Europe/Berlin); what is due outside waits.",
        "Nothing starts by itself on Thu 24 Dec 2026 to Sat 26 Dec 2026.",
        "A time that comes while the run before is still going is skipped.",
        "Workers that serve “nas1” run it.",
        f'<a href="{before.get_absolute_url()}">before</a>',
        f'<a href="{cleanup.get_absolute_url()}">cleanup after it</a>',
    ):
        assert words in text
    assert "As usual" not in text


def test_a_job_that_follows_one_that_is_gone_says_so(client: Client) -> None:
    assert "backup:4711, which is no job any more" in page(client, nightly(run_after="backup:4711"))


def test_a_job_with_nothing_set_says_what_that_means(client: Client) -> None:
    text = page(client, nightly())
    assert "As usual" in text
    assert "a failed run is not tried again by itself" in text


def test_a_schedule_that_cannot_be_used_is_told(client: Client) -> None:
    job = nightly()
    BackupJob.objects.filter(pk=job.pk).update(schedule="61 * * * *", updated_at=LONG_AGO)
    text = page(client, job)
    assert "It does not start by itself." in text
    assert "the minute “61” cannot be read" in text


def test_a_maintenance_job_has_the_same_page(client: Client) -> None:
    job = MaintenanceJobFactory(key="weekly", name="Weekly cleanup", schedule_cron="0 3 * * 1")
    MaintenanceJob.objects.filter(pk=job.pk).update(created_at=LONG_AGO, updated_at=LONG_AGO)
    for day in (2, 9):
        at = datetime(2026, 11, day, 2, tzinfo=UTC)
        MaintenanceRunFactory(
            job=job,
            status="succeeded",
            slot=at,
            queued_at=at,
            started_at=at,
            finished_at=at + timedelta(minutes=day),
            result_json={"deleted_bytes": day * 2**20},
        )
    text = page(client, job)
    days = strip(text)
    assert days["Mon 16 Nov 2026"] == ("missed", "1 missed")
    assert days["Mon 9 Nov 2026"] == ("succeeded", "1 succeeded")
    assert days["Tue 10 Nov 2026"] == ("none", "nothing due")
    assert "Moved to the trash of 2 runs" in text
    assert f"/calendar/?kind=maintenance&amp;job={job.pk}" in text
    assert job.get_absolute_url() == "/maintenance-jobs/weekly/"


def test_the_list_of_maintenance_jobs_leads_to_their_pages(client: Client) -> None:
    job = MaintenanceJobFactory()
    assert f'<a href="{job.get_absolute_url()}">{job.name}</a>' in client.get("/maintenance-jobs/").content.decode()


@pytest.mark.parametrize("path", ["/maintenance-jobs/no-such-job/", "/backup-jobs/4711/", f"/backup-jobs/{'9' * 30}/"])
def test_a_job_that_is_not_there_is_not_found(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("status", RunStatus.values)
def test_every_status_has_its_place_in_the_strip(client: Client, status: str) -> None:
    job = nightly(enabled=False)
    ran(job, night(17), status)
    assert strip(page(client, job))["Tue 17 Nov 2026"][0] == status


def test_a_viewer_is_offered_nothing_that_changes_the_job(client: Client) -> None:
    for job in (nightly(), MaintenanceJobFactory()):
        main = page(sign_in("viewer"), job).partition("<main")[2]
        for action in ("Run now</button>", ">Edit</a>", ">Duplicate</a>", "/pause/", ">Delete</a>"):
            assert action not in main


def test_a_job_with_a_long_history_needs_the_same_few_queries(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    job = nightly()
    ran_every_night(job, since=200)
    for _ in range(12):
        BackupJobFactory(run_after=f"backup:{job.pk}")
    with django_assert_max_num_queries(20):
        page(admin_client, job)
    task = MaintenanceJobFactory()
    for number in range(120):
        MaintenanceRunFactory(job=task, succeeded=True, queued_at=NOW - timedelta(hours=number))
    with django_assert_max_num_queries(16):
        page(admin_client, task)
