from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from backups.models import BackupRun
from maintenance.models import MaintenanceRun
from scheduling.choices import RunOutcome, RunStatus
from scheduling.models import SchedulerState
from scheduling.paging import Cursor, run_page
from tests.factories import BackupJobFactory, BackupRunFactory, MaintenanceRunFactory

pytestmark = pytest.mark.django_db

HX = {"HX-Request": "true"}
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
POLLS = 'hx-trigger="every'


def listed(html: str) -> list[str]:
    """The runs of the table as `backup 3`, in their order."""
    return [f"{kind} {pk}" for kind, pk in re.findall(r'id="run-(backup|maintenance)-(\d+)"', html)]


def page(client: Client, query: str = "", **headers: Any) -> str:
    response = client.get(f"/runs/{query}", **headers)
    assert response.status_code == 200
    return response.content.decode()


def alive() -> None:
    now = timezone.now()
    SchedulerState.objects.create(pk=1, host="h", hostname="here", pid=1, started_at=now, seen_at=now)


# --- The list -----------------------------------------------------------------------------------------------------


def test_both_kinds_are_in_one_table_newest_first(admin_client: Client) -> None:
    old = BackupRunFactory(succeeded=True, queued_at=NOON)
    new = BackupRunFactory(succeeded=True, queued_at=NOON + timedelta(hours=2))
    between = MaintenanceRunFactory(succeeded=True, queued_at=NOON + timedelta(hours=1))
    assert listed(page(admin_client)) == [f"backup {new.pk}", f"maintenance {between.pk}", f"backup {old.pk}"]


def test_a_row_says_what_happened_by_whom_and_how_long_it_took(admin_client: Client) -> None:
    BackupRunFactory(
        failed=True,
        started_at=NOON,
        finished_at=NOON + timedelta(seconds=72),
        requested_by="<ann>",
        message="<b>no</b>",
    )
    html = page(admin_client)
    for part in ("By hand", "&lt;ann&gt;", "&lt;b&gt;no&lt;/b&gt;", "1\u00a0min 12\u00a0s", 'data-status="failed"'):
        assert part in html


@pytest.mark.parametrize(
    ("status", "names"), [("active", {"queued", "running"}), ("failed", {"failed"}), ("lost", set())]
)
def test_a_job_and_a_state_together_leave_the_jobs_own_runs(admin_client: Client, status: str, names: set[str]) -> None:
    job, other = BackupJobFactory(), BackupJobFactory()
    runs = {
        "queued": BackupRunFactory(job=job),
        "running": BackupRunFactory(job=job, running=True),
        "failed": BackupRunFactory(job=job, failed=True),
    }
    for values in ({}, {"running": True}, {"failed": True}):
        BackupRunFactory(job=other, **values)
    html = page(admin_client, f"?kind=backup&job={job.pk}&status={status}")
    assert set(listed(html)) == {f"backup {runs[name].pk}" for name in names}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?kind=backup", {"ok", "bad", "warned", "waiting"}),
        ("?kind=maintenance", {"clean"}),
        ("?status=failed", {"bad"}),
        ("?status=warning", {"warned"}),
        ("?status=succeeded", {"ok", "warned", "clean"}),
        ("?status=active", {"waiting"}),
        ("?status=queued", {"waiting"}),
        ("?status=lost", set()),
        ("?kind=backup&status=succeeded", {"ok", "warned"}),
    ],
)
def test_filters_are_in_the_address(query: str, names: set[str], admin_client: Client) -> None:
    BackupRunFactory(succeeded=True, job_name="ok")
    BackupRunFactory(failed=True, job_name="bad")
    BackupRunFactory(succeeded=True, outcome=RunOutcome.WARNING, job_name="warned")
    BackupRunFactory(job_name="waiting")
    MaintenanceRunFactory(succeeded=True, job_name="clean")
    html = page(admin_client, query)
    assert set(re.findall(r'id="run-[a-z]+-\d+" href="[^"]+">([a-z]+)<', html)) == names


def test_the_job_filter_is_a_job_of_the_chosen_kind(admin_client: Client) -> None:
    mine, _other = BackupRunFactory(succeeded=True), BackupRunFactory(succeeded=True)
    assert listed(page(admin_client, f"?kind=backup&job={mine.job_id}")) == [f"backup {mine.pk}"]
    assert listed(page(admin_client, f"?kind=maintenance&job={mine.job_id}")) == []


@pytest.mark.parametrize(
    "query",
    [
        "?kind=rocket&status=maybe&job=x",
        "?kind=backup&job=99999999999999999999999",
        "?kind=backup&job=²",
        "?before=yesterday",
        "?before=9999999999999999.backup.1",
        "?before=1.backup.999999999999999999",
        "?after=0.zebra.1",
        "?after=1.backup.99999999999999999999&before=",
        "?page=-1&%00=%00",
    ],
)
def test_an_address_that_makes_no_sense_is_still_a_page(query: str, admin_client: Client) -> None:
    BackupRunFactory(succeeded=True)
    page(admin_client, query)


def test_paging_visits_every_run_once_in_both_directions_even_when_times_are_equal() -> None:
    job = BackupJobFactory()
    for number in range(14):
        at = NOON + timedelta(minutes=number // 5)
        BackupRunFactory(succeeded=True, job=job, queued_at=at)
        MaintenanceRunFactory(succeeded=True, queued_at=at)

    def step(**cursor: str) -> Any:
        return run_page(
            {"backup": BackupRun.objects.all(), "maintenance": MaintenanceRun.objects.all()}, size=5, **cursor
        )

    pages = [step()]
    while pages[-1].older:
        pages.append(step(before=pages[-1].older))
    seen = [(run.kind, run.pk) for here in pages for run in here.runs]
    assert len(seen) == len(set(seen)) == 28
    assert [len(here.runs) for here in pages] == [5, 5, 5, 5, 5, 3]
    back = pages[-1]
    for expected in reversed(pages[:-1]):
        back = step(after=back.newer)
        assert [str(run) for run in back.runs] == [str(run) for run in expected.runs]
    assert back.newer == ""


def test_a_cursor_survives_its_address() -> None:
    run = BackupRunFactory(succeeded=True, queued_at=NOON + timedelta(microseconds=123457))
    assert Cursor.parse(str(Cursor.of(run))) == Cursor.of(run)


def test_the_pager_keeps_the_filters(admin_client: Client) -> None:
    job = BackupJobFactory()
    for number in range(51):
        BackupRunFactory(failed=True, job=job, queued_at=NOON + timedelta(minutes=number))
    BackupRunFactory(succeeded=True, job=job)
    first = page(admin_client, "?status=failed")
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    assert len(listed(first)) == 50
    second = admin_client.get(unescape(older[1])).content.decode()
    assert len(listed(second)) == 1
    assert 'rel="prev"' in second


def test_a_user_sees_only_the_kinds_they_may_look_at(client: Client) -> None:
    backup, cleanup = BackupRunFactory(succeeded=True), MaintenanceRunFactory(succeeded=True)
    user = User.objects.create_user("ann")
    codenames = ("view_schedulerstate", "view_maintenancerun")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    assert listed(page(client)) == [f"maintenance {cleanup.pk}"]
    assert listed(page(client, "?kind=backup")) == [f"maintenance {cleanup.pk}"]
    assert client.get(f"/runs/backup/{backup.pk}/").status_code == 403
    assert client.get(f"/runs/maintenance/{cleanup.pk}/").status_code == 200


def test_the_list_asks_again_only_while_something_is_open(admin_client: Client) -> None:
    run = BackupRunFactory(running=True)
    assert POLLS in page(admin_client)
    type(run).objects.update(status=RunStatus.SUCCEEDED, finished_at=timezone.now())
    assert POLLS not in page(admin_client)


def test_the_list_asks_seldom_while_all_that_is_open_waits_for_later(admin_client: Client) -> None:
    later = BackupRunFactory(not_before=timezone.now() + timedelta(hours=20))
    assert 'hx-trigger="every 60s"' in page(admin_client)
    type(later).objects.update(not_before=timezone.now() + timedelta(seconds=40))
    assert 'hx-trigger="every 3s"' in page(admin_client)
    type(later).objects.update(not_before=timezone.now() + timedelta(hours=20))
    BackupRunFactory()
    assert 'hx-trigger="every 3s"' in page(admin_client)


def test_a_queued_run_says_until_when_it_waits(admin_client: Client) -> None:
    BackupRunFactory(not_before=timezone.now() + timedelta(hours=50))
    text = page(admin_client).replace("\u00a0", " ")
    assert re.search(r'data-label="Summary">Waits until \w{3} \d+ \w{3}, \d\d:\d\d \(in 2 d', text)


def test_many_queued_runs_need_no_more_queries_than_a_few(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        BackupRunFactory(queue="far")
        BackupRunFactory(not_before=timezone.now() + timedelta(hours=number + 2))
    with django_assert_max_num_queries(8):
        text = page(admin_client)
    assert text.count("Waits until") == 12


def test_htmx_gets_only_the_region_and_caches_are_told(admin_client: Client) -> None:
    BackupRunFactory(succeeded=True)
    response = admin_client.get("/runs/", headers=HX)
    html = response.content.decode()
    assert "HX-Request" in response["Vary"]
    assert "<html" not in html
    assert html.count('id="runs"') == 1
    assert 'id="runs-answer" hx-swap-oob="true"' in html


def test_a_waiting_run_without_a_scheduler_says_how_to_start_one(admin_client: Client) -> None:
    BackupRunFactory()
    assert "make run" in page(admin_client)
    alive()
    assert "make run" not in page(admin_client)


def test_an_empty_list_says_what_would_be_here_and_a_filtered_one_how_to_get_back(admin_client: Client) -> None:
    assert "Nothing has run yet" in page(admin_client)
    assert "No run matches these filters" in page(admin_client, "?status=failed")


def test_the_list_needs_the_same_few_queries_for_many_rows(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    for _ in range(25):
        BackupRunFactory(succeeded=True)
        MaintenanceRunFactory(succeeded=True)
    with django_assert_max_num_queries(8):
        assert len(listed(page(admin_client))) == 50
