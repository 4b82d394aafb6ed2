from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backups.choices import AttemptStatus, BackupState
from backups.models import Backup, BackupJob, Options
from backups.services.protections import backup_pin, hold_place
from maintenance.models import MaintenanceJob
from scheduling.choices import RunStatus
from tests import factories
from tests.pages.people import HTMX, sign_in

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tuesday 24 November 2026, 12:00 UTC, with one cleanup every night at 03:00 in UTC."""
    MaintenanceJob.objects.all().delete()
    factories.MaintenanceJobFactory(schedule_cron="0 3 * * *")
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    yield


@pytest.fixture
def client(noon: None) -> Client:
    # Signed in at the same simulated time, or the session would be over.
    return sign_in("viewer")


def nightly(days: int, **values: Any) -> BackupJob:
    """A job of one target, two weeks old, with a good copy at 02:30 of each of the last `days` days."""
    target = factories.TargetFactory(name="etc")
    job = factories.BackupJobFactory(**{"name": "nightly", "targets": [target], **values})
    for row in (job, target):
        type(row).objects.filter(pk=row.pk).update(created_at=NOW - timedelta(days=14))
    for day in range(days):
        copy_of(job, day)
    return job


def copy_of(job: BackupJob, days_ago: int, **values: Any) -> Backup:
    return factories.BackupFactory(
        job=job, created_at=NOW.replace(hour=2, minute=30) - timedelta(days=days_ago), **values
    )


def url_of(job: BackupJob) -> str:
    target = job.targets.first() or job.backups.first().target
    return f"/backup-jobs/{job.pk}/targets/{target.pk}/"


def page(client: Client, job: BackupJob, query: str = "", **headers: Any) -> str:
    answer = client.get(url_of(job) + query, headers=headers)
    assert answer.status_code == 200
    return answer.content.decode()


def marks(html: str) -> dict[str, str]:
    """What each day of the calendars shows, by its date."""
    return dict(re.findall(r'\?day=([\d-]+)" data-day="(\w*)"', html))


def words(html: str) -> dict[str, str]:
    """What each day of the calendars says, by its date."""
    return dict(re.findall(r'\?day=([\d-]+)" data-day="\w*" aria-label="([^"]*)"', html))


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_first_line_is_the_answer(client: Client) -> None:
    html = page(client, nightly(5, retention={"keep_last": 4}))
    assert "<h1>etc, by nightly</h1>" in html
    assert "5 copies, oldest 20 Nov 2026; tonight’s cleanup would move 2 to the trash." in text(html)


def test_a_cleanup_over_the_blast_radius_is_said_to_ask_first(client: Client) -> None:
    html = page(client, nightly(12, retention={"keep_last": 2}))
    assert "would move 11 to the trash, and so stop and ask first." in text(html)
    assert marks(html)["2026-11-25"]
    assert "the cleanup would stop and ask" in words(html)["2026-11-25"]


def test_a_copy_that_goes_only_with_approval_says_so_in_the_table_and_on_its_own_page(client: Client) -> None:
    job = nightly(12, retention={"keep_last": 2})
    oldest = Backup.objects.earliest("created_at")
    html = text(page(client, job))
    assert "Wed 25 Nov, 03:00 at the next cleanup, if approved" in html
    assert "goes Wed 25 Nov, 03:00 , if approved" in html
    own = text(client.get(oldest.get_absolute_url()).content.decode())
    assert "The next cleanup asks first whether to move it to the trash" in own
    assert "Goes on 25 November 2026 if someone approves it, when" in own
    assert "It is neither pinned nor held" in own
    assert "Nothing but the policy keeps it" not in own
    BackupJob.objects.update(retention={"keep_last": 11})
    assert "if approved" not in text(page(client, job))


def test_without_a_scheduled_cleanup_it_says_so_and_what_one_would_move(client: Client) -> None:
    MaintenanceJob.objects.all().delete()
    html = page(client, nightly(5, retention={"keep_last": 4}))
    assert "a cleanup would move 1 to the trash. No cleanup is scheduled." in text(html)
    assert marks(html)["2026-11-20"] == "leaving"
    assert "at a cleanup" in text(html)


def test_each_day_shows_what_became_of_its_copy(client: Client) -> None:
    job = nightly(0, retention={"keep_last": 3})
    for day in (0, 1, 2):
        copy_of(job, day)
    copy_of(job, 3, suspect_reason="1 B is under half of 1.0 KiB, the copy before it")
    copy_of(job, 4, state=BackupState.MISSING)
    copy_of(job, 5, trashed=True)
    copy_of(job, 6, deleted=True)
    run = factories.BackupRunFactory(
        job=job, failed=True, slot=NOW - timedelta(days=7), queued_at=NOW - timedelta(days=7)
    )
    factories.BackupRunTargetFactory(run=run, target=job.targets.get(), status=AttemptStatus.FAILED)
    shown = marks(page(client, job))
    assert {day: kind for day, kind in shown.items() if day <= "2026-11-24"} == {
        "2026-11-24": "kept",
        "2026-11-23": "kept",
        "2026-11-22": "leaving",
        "2026-11-21": "flawed",
        "2026-11-20": "flawed",
        "2026-11-19": "trashed",
        "2026-11-18": "deleted",
        "2026-11-17": "failed",
        **{f"2026-11-{day}": "missed" for day in range(11, 17)},
    }


def test_a_run_that_failed_before_it_came_to_the_target_shows_as_failed(client: Client) -> None:
    job = nightly(1)
    at = NOW - timedelta(days=3)
    factories.BackupRunFactory(job=job, failed=True, slot=at, queued_at=at)
    assert marks(page(client, job))["2026-11-21"] == "failed"


def test_a_run_that_failed_for_another_target_is_no_failure_of_this_one(client: Client) -> None:
    job = nightly(1)
    at = NOW - timedelta(days=3)
    run = factories.BackupRunFactory(job=job, failed=True, slot=at, queued_at=at)
    factories.BackupRunTargetFactory(run=run, target=job.targets.get(), status=AttemptStatus.SUCCEEDED, active=False)
    assert "2026-11-21" not in marks(page(client, job))


def test_several_copies_of_a_day_are_counted_and_the_strongest_is_shown(client: Client) -> None:
    job = nightly(1)
    copy_of(job, 0, deleted=True)
    factories.BackupFactory(job=job, created_at=NOW - timedelta(hours=1))
    html = page(client, job)
    assert marks(html)["2026-11-24"] == "kept"
    assert words(html)["2026-11-24"] == "Tue 24 Nov 2026: 2 copies kept, 1 copy deleted"
    assert re.search(r'<text class="number"[^>]*>2</text>', html)


def test_a_pinned_copy_is_marked_and_says_by_whom(client: Client) -> None:
    job = nightly(3, retention={"keep_last": 1})
    backup_pin(backup=Backup.objects.order_by("created_at")[0], by="anna", note="tax records", now=NOW)
    html = page(client, job)
    assert words(html)["2026-11-22"] == "Sun 22 Nov 2026: 1 copy kept, 1 protected"
    assert 'href="#mark-protected"' in html
    assert "pinned for ever by anna: tax records" in html


def test_a_hold_that_covers_the_pair_is_shown_and_another_is_not(client: Client) -> None:
    job = nightly(2)
    hold_place(by="anna", note="audit of 2026", job=job, now=NOW)
    hold_place(by="bert", note="something else", target=factories.TargetFactory(), now=NOW)
    html = page(client, job)
    assert "Held by anna" in html
    assert "audit of 2026" in html
    assert "something else" not in html


@pytest.mark.parametrize(
    ("retention", "says"), [(None, "From <a"), ({"keep_last": 4}, "This job’s own policy")], ids=["Options", "own"]
)
def test_the_policy_is_told_in_words_and_whose_it_is(client: Client, retention: Any, says: str) -> None:
    html = page(client, nightly(1, retention=retention))
    assert says in html
    assert ("The last 4; periods in UTC." in html) == bool(retention)


def test_a_day_is_missed_only_when_the_schedule_had_a_backup_and_nothing_ran(client: Client) -> None:
    job = nightly(1, schedule="30 2 * * 1-5")
    skipped, cancelled = (NOW.replace(hour=2, minute=30) - timedelta(days=days) for days in (4, 5))
    for at, status in ((skipped, RunStatus.SKIPPED), (cancelled, RunStatus.CANCELLED)):
        factories.BackupRunFactory(job=job, status=status, slot=at, queued_at=at, finished_at=at)
    shown = marks(page(client, job))
    # The job was made on Tuesday 10 November at noon; the 14th, 15th, 21st and 22nd are a weekend.
    assert sorted(day for day, kind in shown.items() if kind == "missed") == [
        f"2026-11-{day}" for day in (11, 12, 13, 16, 17, 18, 20, 23)
    ]


def test_a_day_is_not_missed_before_its_backup_was_due(client: Client) -> None:
    assert marks(page(client, nightly(0, schedule="0 15 * * *"))).get("2026-11-24") is None
    assert marks(page(client, BackupJob.objects.get())).get("2026-11-23") == "missed"


@pytest.mark.parametrize("values", [{"enabled": False}, {"schedule": ""}], ids=["switched off", "by hand"])
def test_a_job_that_does_not_run_by_itself_misses_nothing(client: Client, values: dict[str, Any]) -> None:
    assert "missed" not in marks(page(client, nightly(1, **values))).values()


def test_days_are_those_of_the_policys_zone(client: Client) -> None:
    Options.objects.filter(pk=Options.load().pk).update(timezone="Asia/Tokyo")
    job = nightly(0)
    factories.BackupFactory(job=job, created_at=datetime(2026, 11, 22, 16, tzinfo=UTC))
    assert marks(page(client, job))["2026-11-23"] == "kept"


def test_times_are_those_of_the_policys_zone_too(client: Client) -> None:
    job = nightly(0, retention={"keep_last": 5, "timezone": "Asia/Tokyo"})
    factories.BackupFactory(job=job, created_at=datetime(2026, 11, 23, 16, 5, tzinfo=UTC))
    html = page(client, job)
    assert marks(html)["2026-11-24"] == "kept"
    assert ">Tue 24 Nov, 01:05</time>" in html


def test_the_time_since_the_newest_copy_is_a_gap(client: Client) -> None:
    job = nightly(0, enabled=False)
    copy_of(job, 6)
    copy_of(job, 7)
    assert "6 d 9 h from 18 Nov 2026" in text(page(client, job)).replace("\xa0", " ")


def test_a_policy_that_cannot_be_used_is_told_instead(client: Client) -> None:
    job = nightly(2, retention={"keep_last": 1, "timezone": "Mars/Olympus"})
    html = page(client, job)
    assert "Its retention policy cannot be used." in html
    assert "not a known time zone" in html
    assert client.get(url_of(job) + "?day=2026-11-24", headers=HTMX).status_code == 200


def test_the_days_ahead_show_what_is_due_what_stays_and_what_goes(client: Client) -> None:
    html = page(client, nightly(3, retention={"keep_last": 3}))
    assert marks(html)["2026-12-24"] == "expected"
    assert marks(html)["2027-02-22"] == "staying"
    assert (
        words(html)["2026-11-25"] == "Wed 25 Nov 2026: 1 copy due, gone again by 22 Feb 2027; 1 copy goes to the trash"
    )
    assert html.count('class="losing" href="#mark-losing"/></a>') == 3


def test_the_table_says_why_a_copy_stays_when_it_goes_and_what_replaces_it(client: Client) -> None:
    job = nightly(2, retention={"keep_daily": 2})
    newer, older = Backup.objects.order_by("-created_at")
    html = page(client, job)
    rows = [text(row) for row in re.findall(r"<tr[^>]*>.*?</tr>", html, re.DOTALL)]
    [row] = [row for row in rows if row.startswith("Mon 23 Nov, 02:30")]
    assert "It is the newest of its day (daily 2 of 2)" in row
    assert "Wed 25 Nov, 03:00 at the next cleanup" in row
    assert html.index(newer.get_absolute_url()) < html.index(older.get_absolute_url(), html.index("on storage"))


def test_numbers_are_given_now_and_at_the_end_of_the_forecast(client: Client) -> None:
    job = nightly(0, retention={"keep_last": 10})
    copy_of(job, 0)
    copy_of(job, 9)
    copy_of(job, 12, suspect_reason="it holds no entries")
    html = text(page(client, job)).replace("\xa0", " ")
    assert "Copies 3 11 on 22 Feb 2027" in html
    assert "Oldest restore point 15 Nov 2026 13 Feb 2027 then" in html
    assert "9 d from 15 Nov 2026; 1 d then" in html


def test_a_chosen_day_shows_its_copies_with_every_reason(client: Client) -> None:
    job = nightly(2, retention={"keep_last": 2, "keep_daily": 1})
    whole = page(client, job, "?day=2026-11-23")
    assert whole.count('class="day-copy"') == 1
    html = text(whole)
    assert "Monday, 23 November 2026" in html
    assert "Until then: it is one of the newest (last 2 of 2)" in html
    assert "Goes Wed 25 Nov, 03:00 , when" in html


def test_a_day_of_many_copies_unfolds_all_of_them(client: Client) -> None:
    job = nightly(0)
    for hour in range(10):
        factories.BackupFactory(job=job, created_at=NOW - timedelta(hours=hour))
    html = page(client, job, "?day=2026-11-24")
    assert html.count('class="day-copy"') == 10
    assert "4 more of that day" in html


def test_htmx_gets_only_the_day_and_where_its_ring_goes(client: Client) -> None:
    job = nightly(2)
    answer = client.get(url_of(job) + "?day=2026-11-23", headers=HTMX)
    html = answer.content.decode()
    assert html.lstrip().startswith('<div id="day"')
    assert "<h1" not in html
    assert 'id="chosen-past" class="chosen" width="18" height="18" rx="4.5" hx-swap-oob="true" x=' in html
    assert (
        'id="chosen-ahead" class="chosen" width="18" height="18" rx="4.5" hx-swap-oob="true" visibility="hidden"'
        in html
    )
    assert "HX-Request" in answer["Vary"]


def test_a_chosen_day_names_its_failed_run_and_its_deleted_copy_with_the_reason(client: Client) -> None:
    job = nightly(1)
    verdict = {
        "reasons": [{"kind": "replaced", "rule": "daily", "text": "daily: 2026-11-20 23:00 is newer in the same day"}]
    }
    copy_of(job, 4, deleted=True, verdict=verdict)
    other = copy_of(job, 3, deleted=True)
    at = NOW - timedelta(days=4)
    run = factories.BackupRunFactory(job=job, failed=True, slot=at, queued_at=at)
    factories.BackupRunTargetFactory(
        run=run, target=job.targets.get(), status=AttemptStatus.FAILED, message="/srv is not mounted."
    )
    html = page(client, job, "?day=2026-11-20")
    assert "2026-11-20 23:00 is newer in the same day" in html
    assert "/srv is not mounted." in html
    assert other.get_absolute_url() not in html[html.index('id="day"') : html.index("calendar-table")]
    assert run.get_absolute_url() in html


def test_a_chosen_day_ahead_says_what_is_due_and_what_goes(client: Client) -> None:
    html = text(page(client, nightly(3, retention={"keep_last": 3}), "?day=2026-11-25"))
    assert "02:30: a copy is due" in html
    assert "The copy of Sun 22 Nov, 02:30 goes at 03:00, when" in html
    assert "At the end of the day: 3 good copies" in html


@pytest.mark.parametrize(
    "day", ["", "yesterday", "2026-02-30", "1999-01-01", "9999-12-31", "0001-01-01", "2026-11-24%00"]
)
def test_a_day_that_is_none_of_the_calendars_is_left_out(client: Client, day: str) -> None:
    assert "Choose a day" in page(client, nightly(1), f"?day={day}")


def test_without_a_chosen_day_the_next_to_go_are_listed(client: Client) -> None:
    html = text(page(client, nightly(4, retention={"keep_last": 4})))
    assert "Next to go Sat 21 Nov 2026, 02:30 goes Wed 25 Nov, 03:00" in html


def test_a_pair_that_belongs_together_no_longer_still_has_its_page(client: Client) -> None:
    job = nightly(3, retention={"keep_last": 1})
    url = url_of(job)
    job.targets.clear()
    html = client.get(url).content.decode()
    assert "Not backed up any more." in html
    assert "tonight’s cleanup would move 2 to the trash" in html
    assert "expected" not in marks(html).values()


def test_a_pair_without_a_copy_says_what_comes_next(client: Client) -> None:
    html = page(client, nightly(0))
    assert "No copy on storage." in html
    assert "The next backup of nightly makes the first one." in html


def test_a_pair_that_never_was_is_not_found(client: Client) -> None:
    job = nightly(1)
    stranger = factories.TargetFactory()
    for url in (
        f"/backup-jobs/{job.pk}/targets/{stranger.pk}/",
        f"/backup-jobs/99/targets/{job.targets.get().pk}/",
        f"/backup-jobs/{job.pk}/targets/99/",
    ):
        assert client.get(url).status_code == 404


def test_only_the_newest_copies_are_listed_with_a_link_to_all(client: Client) -> None:
    job = nightly(0)
    Backup.objects.bulk_create(
        factories.BackupFactory.build(
            job=job, target=job.targets.get(), storage=job.storage, created_at=NOW - timedelta(hours=hour)
        )
        for hour in range(201)
    )
    html = page(client, job)
    assert "The newest 200 of 201 copies" in html
    assert html.count('data-label="Goes on"') == 200


def test_the_calendar_is_there_as_a_table_too(client: Client) -> None:
    html = text(page(client, nightly(3)))
    assert "The calendar as a table, by month" in html
    assert "November 2026 3 0 0 0 0 0" in html


def test_every_day_with_something_to_show_is_a_link_with_a_name(client: Client) -> None:
    html = page(client, nightly(3))
    links = re.findall(r'<a href="\?day=[^>]*>', html)
    assert len(links) > 90
    assert all("aria-label" in link for link in links)


def test_the_page_of_the_job_and_of_the_target_lead_here(client: Client) -> None:
    job = nightly(1)
    for url in (job.get_absolute_url(), job.targets.get().get_absolute_url()):
        assert f'href="{url_of(job)}"' in client.get(url).content.decode()


def test_the_page_needs_the_same_queries_for_few_and_many_copies(client: Client) -> None:
    few = nightly(2, name="few")
    run = factories.BackupRunFactory(job=few, failed=True, slot=NOW)
    factories.BackupRunTargetFactory(run=run, target=few.targets.get(), active=False, status=AttemptStatus.FAILED)
    many = factories.BackupJobFactory(name="many", targets=[factories.TargetFactory(name="srv")])
    for hour in range(200):
        factories.BackupFactory(
            job=many, created_at=NOW - timedelta(hours=hour * 20), deleted=hour > 40, verdict={"reasons": []}
        )
        run = factories.BackupRunFactory(job=many, failed=True, slot=NOW - timedelta(hours=hour * 20))
        factories.BackupRunTargetFactory(run=run, target=many.targets.get(), active=False, status=AttemptStatus.FAILED)
    counts = []
    for query in ("", "?day=2026-11-24"):
        for job in (few, many):
            url = url_of(job) + query
            client.get(url)
            with CaptureQueriesContext(connection) as queries:
                client.get(url)
            counts.append(len(queries))
    assert counts[0] == counts[1]
    assert counts[2] == counts[3] <= 34


def test_names_are_escaped(client: Client) -> None:
    html = page(client, nightly(1, name="<b>nightly</b>"))
    assert "<b>" not in html
