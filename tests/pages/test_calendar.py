from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from backups.models import BackupJob
from backups.services.options import options_update
from maintenance.models import MaintenanceJob
from scheduling.choices import RunStatus
from scheduling.job_rules import pause_all
from tests.factories import BackupJobFactory, BackupRunFactory, MaintenanceJobFactory, MaintenanceRunFactory
from tests.pages.people import HTMX, sign_in

pytestmark = pytest.mark.django_db

URL = "/calendar/"
NOW = datetime(2026, 11, 18, 11, 0, tzinfo=UTC)


@pytest.fixture
def client() -> Client:
    return sign_in("viewer")


@pytest.fixture(autouse=True)
def berlin_at_noon(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Wednesday in Berlin with nothing scheduled but what a test adds."""
    options_update(timezone="Europe/Berlin")
    MaintenanceJob.objects.update(enabled=False)
    monkeypatch.setattr(timezone, "now", lambda: NOW)


def page(client: Client, query: str = "") -> str:
    answer = client.get(f"{URL}{query}")
    assert answer.status_code == 200
    return answer.content.decode()


def cell(text: str, day: str) -> str:
    """The day's cell of a month: from its number to the next one."""
    found = re.search(rf'aria-label="{day}".*?</td>', text, re.S)
    assert found is not None, f"{day} is not on the page"
    return found[0]


def row(text: str, day: str) -> str:
    found = re.search(rf'<h2 id="day-{day}".*?</section>', text, re.S)
    assert found is not None, f"{day} is not on the page"
    return found[0]


def ended(job: BackupJob, at: datetime, status: str = "succeeded", **more: Any) -> Any:
    took = more.pop("took", timedelta(minutes=10))
    outcome = more.pop("outcome", "ok" if status == "succeeded" else "")
    return BackupRunFactory(
        job=job, status=status, outcome=outcome, queued_at=at, started_at=at, finished_at=at + took, **more
    )


def test_a_day_that_was_shows_its_runs_the_worst_first(client: Client) -> None:
    good, bad = BackupJobFactory(name="etc", schedule=""), BackupJobFactory(name="photos", schedule="")
    ended(good, datetime(2026, 11, 3, 1, 30, tzinfo=UTC))
    failed = ended(bad, datetime(2026, 11, 3, 12, 0, tzinfo=UTC), "failed")
    day = cell(page(client), "Tue 3 Nov 2026")
    assert day.index("photos") < day.index("etc")
    assert failed.get_absolute_url() in day
    assert "13:00" in day, "the time is that of Options' zone"


def test_runs_of_a_job_on_a_day_are_one_line_that_leads_to_them(client: Client) -> None:
    job = BackupJobFactory(name="hourly", schedule="")
    for hour in range(5):
        ended(job, datetime(2026, 11, 3, 8 + hour, tzinfo=UTC), "failed" if hour == 2 else "succeeded")
    day = cell(page(client), "Tue 3 Nov 2026")
    assert "5×" in day
    assert "1 failed, 4 succeeded" in day
    assert f"/runs/?kind=backup&amp;job={job.pk}&amp;from=2026-11-03&amp;to=2026-11-03" in day


def test_a_run_belongs_to_the_day_on_which_the_wall_in_options_zone_says(client: Client) -> None:
    job = BackupJobFactory(name="late", schedule="")
    ended(job, datetime(2026, 11, 3, 23, 30, tzinfo=UTC))
    text = page(client)
    assert "late" in cell(text, "Wed 4 Nov 2026")
    assert "late" not in cell(text, "Tue 3 Nov 2026")
    week = page(client, "?view=week&date=2026-11-04")
    assert 'class="line-name">late' in row(week, "2026-11-04")
    assert "1 succeeded" in row(week, "2026-11-04")


def test_a_day_with_very_many_runs_shows_how_many_of_each(client: Client) -> None:
    for number in range(201):
        ended(BackupJobFactory(targets=[], schedule=""), datetime(2026, 11, 3, 8, 0, number % 60, tzinfo=UTC))
    ended(BackupJobFactory(schedule=""), datetime(2026, 11, 3, 9, tzinfo=UTC), "lost")
    ended(BackupJobFactory(schedule=""), datetime(2026, 11, 3, 9, tzinfo=UTC), outcome="warning")
    day = cell(page(client), "Tue 3 Nov 2026")
    assert re.findall(r"<span>([^<]*)</span></a></li>", day) == ["1 lost", "1 warning", "201 succeeded"]
    assert "status=lost&amp;from=2026-11-03&amp;to=2026-11-03" in day
    assert "status=succeeded&amp;outcome=ok" in day, "those with a warning have a line of their own"


def test_days_to_come_show_what_the_schedules_say(client: Client) -> None:
    job = BackupJobFactory(name="nightly", schedule="30 2 * * *")
    text = page(client)
    for day in ("Thu 19 Nov 2026", "Mon 30 Nov 2026", "Sun 6 Dec 2026"):
        assert "02:30" in cell(text, day)
        assert job.get_absolute_url() in cell(text, day)
    assert "nightly" not in cell(text, "Wed 18 Nov 2026"), "02:30 has passed today"
    assert "12 to come." in text, "those of December are outside of the month"


def test_a_schedule_in_another_zone_is_shown_by_the_clocks_of_options(client: Client) -> None:
    BackupJobFactory(name="tokyo", schedule="0 3 * * *", timezone="Asia/Tokyo")
    assert "19:00" in cell(page(client), "Fri 20 Nov 2026")


def test_switched_off_and_unusable_schedules_are_not_to_come(client: Client) -> None:
    BackupJobFactory(name="off", enabled=False)
    BackupJobFactory(name="broken", schedule="0 0 31 2 *")
    BackupJobFactory(name="nowhere", timezone="Mars/Olympus")
    text = page(client)
    assert not re.search("line-name", text)


def test_blackout_dates_and_pauses_are_marked(client: Client) -> None:
    BackupJobFactory(name="etc", blackout_dates=["2026-11-20"])
    BackupJobFactory(name="web", schedule="0 4 * * *", paused_until=NOW + timedelta(days=2))
    text = page(client)
    blackout = cell(text, "Fri 20 Nov 2026")
    assert "etc, Fri 20 Nov 2026 02:30: passes without a run: blackout date" in blackout
    assert "web, Fri 20 Nov 2026 04:00: passes without a run: paused" in blackout
    assert "passes" not in cell(text, "Sat 21 Nov 2026")
    assert "3 times will pass without a run." in text


def test_a_pause_of_everything_holds_everything(client: Client) -> None:
    BackupJobFactory(name="etc")
    pause_all(until=NOW + timedelta(days=3), by="anna")
    text = page(client)
    assert "passes without a run: paused" in cell(text, "Fri 20 Nov 2026")
    assert "planned" in cell(text, "Sun 22 Nov 2026")


def test_what_waits_for_its_window_stands_where_it_starts(client: Client) -> None:
    BackupJobFactory(name="etc", schedule="0 12 * * *", window_start=time(22), window_end=time(4))
    text = page(client, "?view=week")
    friday = row(text, "2026-11-20")
    assert "etc, Fri 20 Nov 2026 22:00: planned, waits for its window since 12:00" in friday


def test_a_day_with_a_change_of_the_clocks_says_so(client: Client) -> None:
    BackupJobFactory(name="etc")
    text = page(client, "?date=2027-03-10")
    changed = cell(text, "Sun 28 Mar 2027")
    assert "clocks go forward 1 h at 02:00" in changed
    assert "03:00" in changed, "02:30 is left out, so it starts when the clocks show more"
    assert text.count("clocks go") == 1


def test_a_week_shows_runs_as_bars_as_long_as_they_took(client: Client) -> None:
    job = BackupJobFactory(name="etc", schedule="0 12 * * *")
    run = ended(job, datetime(2026, 11, 16, 11, tzinfo=UTC), took=timedelta(hours=6))
    monday = row(page(client, "?view=week"), "2026-11-16")
    assert f'<a href="{run.get_absolute_url()}" aria-label="etc, Mon 16 Nov 2026 12:00 to 18:00: succeeded"' in monday
    assert 'x="50.00%"' in monday
    assert 'width="25.00%"' in monday


def test_a_planned_time_is_as_long_as_the_job_usually_takes(client: Client) -> None:
    job = BackupJobFactory(name="etc", schedule="0 12 * * *")
    for number, hours in enumerate((3, 2, 9)):
        ended(job, datetime(2026, 8, 1 + number, 10, tzinfo=UTC), took=timedelta(hours=hours))
    friday = row(page(client, "?view=week"), "2026-11-20")
    assert "etc, Fri 20 Nov 2026 12:00: planned, usually until 15:00" in friday
    assert 'width="12.50%"' in friday


def test_a_run_over_midnight_is_on_both_days_even_when_it_began_in_the_week_before(client: Client) -> None:
    job = BackupJobFactory(name="etc", schedule="")
    ended(job, datetime(2026, 11, 15, 21, tzinfo=UTC), took=timedelta(hours=4))
    ended(job, datetime(2026, 11, 17, 9, tzinfo=UTC))
    text = page(client, "?view=week")
    assert 'x="0.00%" y="3" width="8.33%"' in row(text, "2026-11-16")
    assert "1 succeeded" not in row(text, "2026-11-16"), "it counts on the day on which it was recorded"


def test_a_day_with_too_many_runs_for_bars_shows_them_by_the_hour(client: Client) -> None:
    for number in range(61):
        at = datetime(2026, 11, 16, 11, number % 60, tzinfo=UTC)
        ended(BackupJobFactory(targets=[], schedule=""), at, "failed" if number == 3 else "succeeded")
    monday = row(page(client, "?view=week"), "2026-11-16")
    assert "Mon 16 Nov 2026, from 12:00: 1 failed, 60 succeeded" in monday
    assert 'class="bar"' not in monday


def test_kind_and_job_narrow_what_ran_and_what_is_to_run(client: Client) -> None:
    etc, web = BackupJobFactory(name="etc"), BackupJobFactory(name="web")
    cleanup = MaintenanceJobFactory(name="cleanup", schedule_cron="0 5 * * *")
    for job in (etc, web):
        ended(job, datetime(2026, 11, 3, 9, tzinfo=UTC))
    MaintenanceRunFactory(job=cleanup, succeeded=True, queued_at=datetime(2026, 11, 3, 9, tzinfo=UTC))

    def names(query: str) -> set[str]:
        return set(re.findall(r'class="line-name">([^<]*)', page(client, query)))

    assert names("") == {"etc", "web", "cleanup"}
    assert names("?kind=backup") == {"etc", "web"}
    assert names("?kind=maintenance") == {"cleanup"}
    assert names(f"?kind=backup&job={web.pk}") == {"web"}
    assert names(f"?kind=backup&job={web.pk}&view=week") == {"web"}


def job_chips(text: str) -> list[str]:
    bar = re.search(r'aria-label="Job">.*?</nav>', text, re.S)
    return re.findall(r'class="chip"[^>]*>([^<]*)', bar[0]) if bar else []


@pytest.mark.parametrize("view", ["month", "week"])
def test_all_jobs_of_the_period_can_be_chosen_also_those_that_no_cell_has_room_for(client: Client, view: str) -> None:
    for number in range(5):
        ended(BackupJobFactory(name=f"ran {number}", schedule=""), NOW - timedelta(days=1))
        BackupJobFactory(name=f"to come {number}", schedule=f"{number} 4 * * *")
    text = page(client, f"?view={view}")
    assert job_chips(text) == ["All", *(f"{what} {number}" for what in ("ran", "to come") for number in range(5))]
    assert 'id="calendar-job"' not in text


def test_one_of_many_jobs_is_found_by_its_name(client: Client) -> None:
    jobs = [BackupJobFactory(name=f"job {number:02d}", schedule="0 4 * * *") for number in range(14)]
    text = page(client)
    assert job_chips(text) == []
    assert 'id="calendar-job"' in text
    answer = client.get(f"{URL}?view=week&job=b+07")
    assert answer.status_code == 302
    assert f"job={jobs[7].pk}" in answer["Location"]
    assert "kind=backup" in answer["Location"]
    assert job_chips(client.get(answer["Location"]).content.decode()) == ["All", "job 07"]
    assert "fits several jobs" in page(client, "?job=job+1")
    assert "No job has a name with “&lt;x&gt;” in it" in page(client, "?job=%3Cx%3E%00")


def test_every_choice_is_in_the_address_and_stays_there(client: Client) -> None:
    job = BackupJobFactory(name="etc")
    text = page(client, f"?view=week&date=2026-11-10&kind=backup&job={job.pk}").replace("&amp;", "&")
    previous, following = (re.search(rf'rel="{rel}" href="([^"]*)"', text) for rel in ("prev", "next"))
    assert previous is not None
    assert following is not None
    for found, day in ((previous, "2026-11-03"), (following, "2026-11-17")):
        assert set(found[1].partition("?")[2].split("&")) == {
            "view=week",
            f"date={day}",
            "kind=backup",
            f"job={job.pk}",
        }


@pytest.mark.parametrize(
    "query",
    [
        "?view=year",
        "?date=yesterday",
        "?date=2026-13-40",
        "?date=0001-01-01",
        "?date=9999-12-31",
        "?date=2199-12-31&view=week",
        "?date=2000-01-01&view=week",
        "?date=%00",
        "?kind=nothing&job=3",
        "?kind=backup&job=999999999999999999",
        "?kind=backup&job=99999999999999999999999999",
        "?kind=backup&job=-1",
        "?kind=backup&job=%00",
        "?kind=backup&kind=maintenance&view=week&view=month",
        "?job=3",
        "?date=" + "9" * 3000,
    ],
)
def test_an_address_that_makes_no_sense_still_gives_a_calendar(client: Client, query: str) -> None:
    BackupJobFactory(name="etc")
    assert "<h1>" in page(client, query)


@pytest.mark.parametrize("zone", ["America/Santiago", "Pacific/Apia", "Asia/Kathmandu", "Australia/Lord_Howe"])
@pytest.mark.parametrize("view", ["month", "week"])
def test_any_zone_has_a_calendar_all_the_year(client: Client, zone: str, view: str) -> None:
    options_update(timezone=zone)
    BackupJobFactory(name="etc", schedule="*/30 * * * *", window_start=time(20), window_end=time(2, 30))
    for month in (1, 3, 4, 9, 10, 12):
        page(client, f"?view={view}&date=2027-{month:02d}-04")


def test_an_empty_month_says_so(client: Client) -> None:
    assert "Nothing ran, and nothing is to run." in page(client, "?date=2020-02-01")


def test_htmx_gets_the_calendar_alone_with_the_page_s_new_title(client: Client) -> None:
    answer = client.get(f"{URL}?date=2026-10-01", headers=HTMX)
    text = answer.content.decode()
    # htmx takes the title from the top of what it gets, and nowhere else.
    assert re.match(r"\s*<title>October 2026 · Calendar · Keepwell</title>\s*<div id=\"calendar\"", text)
    assert "HX-Request" in answer["Vary"]


@pytest.mark.parametrize("view", ["month", "week"])
def test_it_needs_the_same_few_queries_for_many_jobs_and_runs(
    admin_client: Client, view: str, django_assert_max_num_queries: Any
) -> None:
    for number in range(15):
        job = BackupJobFactory(schedule=f"{number} 4 * * *")
        ended(job, NOW - timedelta(days=1, minutes=number), "failed" if number % 3 else "succeeded")
        MaintenanceRunFactory(succeeded=True, queued_at=NOW - timedelta(hours=number))
    with django_assert_max_num_queries(8):
        text = page(admin_client, f"?view={view}")
    assert text.count("line-name") > 20


def test_thousands_of_jobs_are_summed_up(client: Client) -> None:
    storage = BackupJobFactory(name="one").storage
    BackupJob.objects.bulk_create(
        BackupJob(name=f"many {number:04d}", storage=storage, schedule=f"{number % 60} 4 * * *")
        for number in range(2000)
    )
    day = cell(page(client), "Fri 20 Nov 2026")
    assert day.count("line-name") == 4
    assert "+33" in day, "one line stands for all that start at the same minute"
    week = row(page(client, "?view=week"), "2026-11-20")
    assert "2\u202f001 planned" in week
    assert "from 04:00: 2,000 planned" in week


@pytest.mark.parametrize("status", [*RunStatus.values])
def test_every_status_has_a_shape_and_a_word(client: Client, status: str) -> None:
    at = datetime(2026, 11, 17, 9, tzinfo=UTC)
    BackupRunFactory(job__schedule="", status=status, queued_at=at, started_at=at, finished_at=at)
    for view in ("month", "week"):
        text = page(client, f"?view={view}")
        assert f'id="shape-{status}"' in text
        assert f'href="#shape-{status}"' in text
        assert f'data-status="{status}"' in text


def test_someone_who_may_see_no_runs_sees_no_names(client: Client) -> None:
    job = BackupJobFactory(name="secret")
    ended(job, datetime(2026, 11, 3, 9, tzinfo=UTC))
    User.objects.get(username="the viewer").groups.clear()
    answer = client.get(URL)
    assert answer.status_code == 403
    assert "secret" not in answer.content.decode()
