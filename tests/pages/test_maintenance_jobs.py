from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from maintenance.models import MaintenanceRun
from scheduling.choices import RunOutcome, RunStatus, RunTrigger
from scheduling.models import SchedulerState
from tests.factories import MaintenanceJobFactory, MaintenanceRunFactory

pytestmark = pytest.mark.django_db

URL = "/maintenance-jobs/"
HX = {"HX-Request": "true"}
POLLS = 'hx-trigger="every'
# A Tuesday, 23:48 in Berlin.
LATE_TUESDAY = datetime(2026, 11, 24, 22, 48, tzinfo=UTC)


@pytest.fixture
def late_tuesday(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: LATE_TUESDAY)


def page(client: Client, query: str = "", **headers: Any) -> str:
    response = client.get(f"{URL}{query}", **headers)
    assert response.status_code == 200
    return response.content.decode()


def signed_in_as(client: Client, role: str) -> Client:
    user = User.objects.create_user("ann")
    user.groups.add(Group.objects.get(name=role))
    client.force_login(user)
    return client


def test_the_page_has_its_title_and_the_wrench(admin_client: Client) -> None:
    html = page(admin_client)
    heading = re.search(r"<h1>(.*?)</h1>", html, re.DOTALL)
    assert heading is not None
    assert "Maintenance Jobs" in heading[1]
    assert "<svg" in heading[1]


@pytest.mark.usefixtures("late_tuesday")
def test_a_job_shows_its_schedule_in_words_and_its_next_run_in_its_own_zone(admin_client: Client) -> None:
    MaintenanceJobFactory(name="Berlin cleanup", schedule_cron="0 3 * * *", timezone="Europe/Berlin")
    html = page(admin_client)
    row = html[html.index("Berlin cleanup</a>") :]
    row = row[: row.index("</tr>")]
    for part in ("0 3 * * *", "At 03:00 every day", "Europe/Berlin", "in 3\u00a0h 12\u00a0min", "Wed 03:00"):
        assert part in row


def test_hidden_jobs_are_not_listed_but_their_runs_are(admin_client: Client) -> None:
    hidden = MaintenanceJobFactory(name="Behind a button", visible_in_ui=False)
    html = page(admin_client)
    assert f"/{hidden.key}/run/" not in html
    run = MaintenanceRunFactory(succeeded=True, job=hidden)
    assert f'id="run-{run.pk}"' in page(admin_client)


def test_a_run_row_says_type_times_and_what_it_did(admin_client: Client) -> None:
    figures = {"targets_processed": 3, "deleted_count": 12, "kept_count": 41, "failed_count": 0, "deleted_bytes": 2048}
    MaintenanceRunFactory(
        succeeded=True,
        started_at=timezone.now() - timedelta(hours=1, seconds=72),
        finished_at=timezone.now() - timedelta(hours=1),
        result_json=figures,
    )
    html = page(admin_client)
    for part in ("Retention cleanup", "1\u00a0h ago", "1\u00a0min 12\u00a0s", 'data-status="succeeded"'):
        assert part in html
    assert "3 targets, 12 deleted (2.0\u00a0KiB), 41 kept" in html


def test_a_run_that_failed_says_why(admin_client: Client) -> None:
    MaintenanceRunFactory(failed=True, message="nas is not mounted <here>.")
    assert "nas is not mounted &lt;here&gt;." in page(admin_client)


@pytest.mark.parametrize(
    ("run", "status"),
    [
        ({}, "queued"),
        ({"running": True}, "running"),
        ({"succeeded": True}, "succeeded"),
        ({"failed": True}, "failed"),
        ({"succeeded": True, "outcome": RunOutcome.WARNING}, "warning"),
    ],
)
def test_the_badge_follows_the_run(run: dict[str, Any], status: str, admin_client: Client) -> None:
    MaintenanceRunFactory(**run)
    html = page(admin_client)
    assert f'class="badge" data-status="{status}"' in html[html.index('id="run-rows"') :]


def test_runs_are_filtered_by_job_and_status(admin_client: Client) -> None:
    mine = MaintenanceRunFactory(failed=True)
    other = MaintenanceRunFactory(failed=True)
    good = MaintenanceRunFactory(succeeded=True, job=mine.job)

    def shown(query: str) -> set[int]:
        return {int(pk) for pk in re.findall(r'id="run-(\d+)"', page(admin_client, query))}

    assert shown("") == {mine.pk, other.pk, good.pk}
    assert shown(f"?job={mine.job.key}") == {mine.pk, good.pk}
    assert shown(f"?job={mine.job.key}&status=failed") == {mine.pk}
    assert shown("?job=no-such-job&status=nonsense&before=%00") == {mine.pk, other.pk, good.pk}


def test_old_runs_are_on_further_pages(admin_client: Client) -> None:
    job = MaintenanceJobFactory()
    for number in range(52):
        MaintenanceRunFactory(succeeded=True, job=job, queued_at=LATE_TUESDAY - timedelta(days=number))
    first = page(admin_client)
    assert len(re.findall(r'id="run-\d+"', first)) == 50
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    assert len(re.findall(r'id="run-\d+"', admin_client.get(older[1]).content.decode())) == 2


def test_the_run_table_asks_again_only_while_a_run_is_open(admin_client: Client) -> None:
    run = MaintenanceRunFactory(running=True)
    assert POLLS in page(admin_client, headers=HX)
    MaintenanceRun.objects.filter(pk=run.pk).update(status=RunStatus.SUCCEEDED, finished_at=timezone.now())
    html = page(admin_client, headers=HX)
    assert POLLS not in html
    assert 'data-status="succeeded"' in html


def test_the_run_table_asks_seldom_while_all_that_is_open_waits_for_later(admin_client: Client) -> None:
    MaintenanceRunFactory(not_before=timezone.now() + timedelta(hours=20))
    assert 'hx-trigger="every 60s"' in page(admin_client)


def test_a_job_that_cannot_be_deleted_can_be_switched_off_instead(admin_client: Client) -> None:
    url = f"{URL}retention_cleanup_nightly/"
    text = admin_client.get(f"{url}delete/").content.decode()
    assert "cannot be deleted. Switch its schedule off instead." in text
    assert "It never runs again" not in text
    assert "Delete the job" not in text
    assert f'action="{url}toggle/"' in text
    assert "Switch off</button>" in text
    answer = admin_client.post(f"{url}toggle/", {"enabled": "0"}, follow=True)
    assert answer.status_code == 200
    assert "Switch off</button>" not in admin_client.get(f"{url}delete/").content.decode()


def test_htmx_gets_the_run_table_and_not_the_jobs(admin_client: Client) -> None:
    response = admin_client.get(URL, headers=HX)
    assert "HX-Request" in response["Vary"]
    assert "<html" not in response.content.decode()
    assert response.content.decode().count('id="runs"') == 1


def test_with_no_run_yet_the_page_says_what_comes_next(admin_client: Client) -> None:
    assert "No maintenance has run yet" in page(admin_client)
    assert "No run matches these filters" in page(admin_client, "?status=failed")


def test_a_waiting_run_without_a_scheduler_keeps_a_notice_on_the_page(admin_client: Client) -> None:
    MaintenanceRunFactory()
    assert "Waiting: the scheduler is not running." in page(admin_client)
    now = timezone.now()
    SchedulerState.objects.create(
        pk=1, host="h", hostname="here", pid=1, started_at=now, seen_at=now - timedelta(seconds=40)
    )
    assert "Waiting: the scheduler is not running." in page(admin_client)
    SchedulerState.objects.update(seen_at=now)
    assert "Waiting: the scheduler is not running." not in page(admin_client)


def test_run_now_records_a_run_and_the_page_shows_it_waiting(admin_client: Client, admin_user: User) -> None:
    job = MaintenanceJobFactory()
    response = admin_client.post(f"{URL}{job.key}/run/", follow=True)
    assert response.redirect_chain == [(URL, 302)]
    run = MaintenanceRun.objects.get()
    assert (run.status, run.trigger, run.requested_by) == (RunStatus.QUEUED, RunTrigger.MANUAL, admin_user.username)
    assert f'id="run-{run.pk}"' in response.content.decode()


def test_pressing_run_now_twice_leaves_one_waiting_run(admin_client: Client) -> None:
    job = MaintenanceJobFactory()
    for _ in range(2):
        admin_client.post(f"{URL}{job.key}/run/")
    assert MaintenanceRun.objects.count() == 1


def test_a_job_is_switched_off_and_on(admin_client: Client) -> None:
    job = MaintenanceJobFactory()
    for pressed, enabled in (("0", False), ("0", False), ("1", True)):
        admin_client.post(f"{URL}{job.key}/toggle/", {"enabled": pressed})
        job.refresh_from_db()
        assert job.enabled is enabled
    assert "Switched off" not in page(admin_client)
    admin_client.post(f"{URL}{job.key}/toggle/")
    assert "Switched off" in page(admin_client)


def test_editing_a_job_changes_name_schedule_and_zone(admin_client: Client) -> None:
    job = MaintenanceJobFactory()
    values = {"name": "Weekly cleanup", "schedule_cron": "0 4 * * 0", "timezone": "America/New_York", "enabled": "on"}
    response = admin_client.post(f"{URL}{job.key}/edit/", values, follow=True)
    assert response.redirect_chain == [(URL, 302)]
    assert "Weekly cleanup is saved" in response.content.decode()
    job.refresh_from_db()
    assert (job.name, job.schedule_cron, job.timezone) == ("Weekly cleanup", "0 4 * * 0", "America/New_York")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("schedule_cron", "every night", "has 2 fields"),
        ("schedule_cron", "0 25 * * *", "the hour “25”"),
        ("schedule_cron", "0 0 31 2 *", "not a valid schedule"),
        ("timezone", "Mars/Olympus", "not a time zone"),
        ("timezone", "../../etc/passwd", "not a time zone"),
        ("name", "", "required"),
        ("name", "a\u0007b", "cannot be shown"),
    ],
)
def test_a_refused_value_is_explained_at_its_field_and_changes_nothing(
    field: str, value: str, words: str, admin_client: Client
) -> None:
    job = MaintenanceJobFactory(name="Before")
    values = {"name": "After", "schedule_cron": "0 3 * * *", "timezone": "", "enabled": "on", field: value}
    response = admin_client.post(f"{URL}{job.key}/edit/", values)
    assert response.status_code == 422
    assert words in response.context["form"].errors[field][0]
    job.refresh_from_db()
    assert job.name == "Before"


@pytest.mark.parametrize("action", ["run", "toggle"])
def test_actions_are_posts(action: str, admin_client: Client) -> None:
    job = MaintenanceJobFactory()
    assert admin_client.get(f"{URL}{job.key}/{action}/").status_code == 405


@pytest.mark.parametrize("action", ["run", "toggle", "edit"])
def test_an_action_on_a_job_that_is_gone_is_not_found(action: str, admin_client: Client) -> None:
    assert admin_client.post(f"{URL}gone/{action}/").status_code == 404


def test_a_viewer_sees_the_page_without_the_buttons_that_would_be_refused(client: Client) -> None:
    MaintenanceJobFactory()
    html = page(signed_in_as(client, "viewer"))
    assert "Run now" not in html
    assert "Switch off" not in html
    assert "/edit/" not in html


def test_the_page_needs_the_same_few_queries_for_many_jobs_and_runs(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    for _ in range(25):
        MaintenanceRunFactory(succeeded=True)
    with django_assert_max_num_queries(10):
        page(admin_client)
