from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from backups.models import BackupJob, BackupRun, BackupRunLogLine, Options, Target
from scheduling.choices import RunStatus
from scheduling.models import SchedulerState
from tests.factories import (
    BackupJobFactory,
    BackupRunFactory,
    BackupRunTargetFactory,
    HostFactory,
    MaintenanceJobFactory,
    MaintenanceRunFactory,
    StorageFactory,
)

pytestmark = pytest.mark.django_db

HX = {"HX-Request": "true"}
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def listed(html: str) -> list[str]:
    return [f"{kind} {pk}" for kind, pk in re.findall(r'id="run-(backup|maintenance)-(\d+)"', html)]


def page(client: Client, query: str = "") -> str:
    """The page that the address leads to in the end."""
    response = client.get(f"/runs/{query}", follow=True)
    assert response.status_code == 200
    return unescape(response.content.decode())


def at(moment: datetime, **values: Any) -> str:
    run = BackupRunFactory(succeeded=True, queued_at=moment, **values)
    return f"backup {run.pk}"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?from=2026-11-24", {"evening", "next"}),
        ("?to=2026-11-23", {"before"}),
        ("?from=2026-11-24&to=2026-11-24", {"evening"}),
        ("?from=2026-11-24T23:00&to=2026-11-25T00:00", {"evening", "next"}),
        ("?from=2026-11-25&to=2026-11-23", {"before", "evening", "next"}),
    ],
)
def test_days_are_those_of_the_viewers_zone_and_the_last_belongs_to_them(
    query: str, expected: set[str], admin_client: Client
) -> None:
    Options.objects.update(timezone="Asia/Kolkata")
    runs = {
        "before": at(datetime(2026, 11, 23, 18, 29, 59, tzinfo=UTC)),
        "evening": at(datetime(2026, 11, 24, 18, 29, 59, tzinfo=UTC)),
        "next": at(datetime(2026, 11, 24, 18, 30, tzinfo=UTC)),
    }
    assert set(listed(page(admin_client, query))) == {runs[name] for name in expected}


def test_dates_the_wrong_way_round_are_put_in_order_and_said(admin_client: Client) -> None:
    here = at(NOON)
    html = page(admin_client, "?from=2026-11-30&to=2026-11-20")
    assert listed(html) == [here]
    assert "the wrong way round" in html


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?from=yesterday", "“yesterday” is not a date"),
        ("?to=2026-02-31", "“2026-02-31” is not a date"),
        ("?from=0001-01-01", "is not a date"),
        ("?to=9999-12-31", "is not a date"),
        ("?trigger=magic", "There is no trigger “magic”"),
        ("?outcome=fine", "There is no outcome “fine”"),
        ("?status=maybe", "There is no status “maybe”"),
        ("?job=nothing+like+it", "No job has a name with “nothing like it” in it."),
        ("?target=nothing", "No target has a name with “nothing” in it."),
    ],
)
def test_what_makes_no_sense_is_said_and_left_out(query: str, words: str, admin_client: Client) -> None:
    at(NOON)
    assert words in page(admin_client, query)


@pytest.mark.parametrize(
    "query",
    [
        "?q=%00&job=%00&target=%00&host=%00&from=%00",
        "?q=%ED%A0%80&host=%ED%A0%80",
        "?q=" + "a" * 5000,
        "?q=%22+OR+%22*&job=%25&target=_",
        "?target=99999999999999999999&job=backup:99999999999999999999",
        "?kind=backup&job=9223372036854775807",
        "?target=999999999999999999&q=x&host=y",
        "?job=rocket:1&kind=backup",
        "?from=2026-11-24T25:00&to=2026-13-01",
        "?after=1.backup.5&q=x",
        "?before=9223372036854775807.backup.1&q=x",
        "?before=253000000000000.backup.999999999999999999&q=x",
        "?all=1&all=2&q=x&q=y",
    ],
)
def test_no_address_is_an_error(query: str, admin_client: Client) -> None:
    at(NOON)
    page(admin_client, query)
    for form in ("csv", "json", "%00"):
        answer = admin_client.get(f"/runs/export/{query}&format={form}")
        # A filter that makes no sense is said on the page; there is no file without it.
        assert answer.status_code in (200, 400)
        assert b"".join(answer)


def test_blank_fields_of_the_form_leave_the_address(admin_client: Client) -> None:
    response = admin_client.get("/runs/?kind=&q=+&job=&status=failed&from=")
    assert response.status_code == 302
    assert response["Location"] == "/runs/?status=failed"


def test_a_job_is_found_by_its_name_and_the_address_then_names_its_id(admin_client: Client) -> None:
    job = BackupJobFactory(name="nightly")
    BackupJobFactory(name="nightly too")
    mine = f"backup {BackupRunFactory(job=job, succeeded=True).pk}"
    at(NOON)
    response = admin_client.get("/runs/?job=NIGHTLY&status=succeeded")
    assert response["Location"] == f"/runs/?job={job.pk}&status=succeeded&kind=backup"
    html = page(admin_client, "?job=NIGHTLY")
    assert listed(html) == [mine]
    assert "Job: nightly" in html
    assert listed(page(admin_client, f"?job=backup:{job.pk}")) == [mine]


def test_a_name_that_fits_several_jobs_offers_them_and_shows_nothing_else(admin_client: Client) -> None:
    one, other = BackupJobFactory(name="night one"), MaintenanceJobFactory(name="night two")
    BackupRunFactory(job=one, succeeded=True)
    html = page(admin_client, "?job=night&status=succeeded")
    assert listed(html) == []
    assert "fits several jobs" in html
    for address in (f"kind=backup&job={one.pk}", f"kind=maintenance&job={other.pk}"):
        assert f"/runs/?status=succeeded&{address}" in html


def test_a_run_is_found_by_a_target_that_it_worked_on(admin_client: Client) -> None:
    run = BackupRunFactory(running=True)
    attempt = BackupRunTargetFactory(run=run, active=False)
    BackupRun.objects.update(status=RunStatus.SUCCEEDED, outcome="ok", finished_at=NOON)
    at(NOON)
    MaintenanceRunFactory(succeeded=True)
    html = page(admin_client, f"?target={attempt.target.name}")
    assert listed(html) == [f"backup {run.pk}"]
    assert f"Target: {attempt.target.name}" in html


def test_a_host_is_found_by_its_name_or_its_id(admin_client: Client) -> None:
    HostFactory(host="a" * 16, hostname="attic")
    mine = at(NOON, host="a" * 16)
    at(NOON, host="b" * 16)
    for asked in ("attic", "a" * 16):
        html = page(admin_client, f"?host={asked}")
        assert listed(html) == [mine]
        assert "Host: attic" in html
        assert "on attic" in html


def test_each_filter_that_is_on_can_be_taken_away_alone(admin_client: Client) -> None:
    job = BackupJobFactory(name="nightly")
    BackupRunFactory(job=job, succeeded=True, message="thunder")
    html = page(admin_client, f"?kind=backup&job={job.pk}&trigger=manual&q=thunder&status=succeeded")
    chips = dict(re.findall(r'href="([^"]+)"[^>]*><span>([^<]+)</span>', html))
    assert chips == {
        "/runs/?kind=backup&trigger=manual&q=thunder&status=succeeded": "Job: nightly",
        f"/runs/?kind=backup&job={job.pk}&q=thunder&status=succeeded": "Trigger: By hand",
        f"/runs/?kind=backup&job={job.pk}&trigger=manual&status=succeeded": "Text: thunder",
    }
    assert 'class="chip-clear" href="/runs/"' in html


def test_a_search_shows_where_in_the_log_the_word_stands(admin_client: Client) -> None:
    run = BackupRunFactory(running=True)
    BackupRunLogLine.objects.create(run=run, seq=1, at=NOON, level="error", text="tar: <b>Permission</b> denied")
    BackupRun.objects.update(status=RunStatus.FAILED, finished_at=NOON, message="etc was not backed up.")
    response = admin_client.get("/runs/?q=permission")
    assert b"In the log: tar: &lt;b&gt;Permission&lt;/b&gt; denied" in response.content


def test_names_to_choose_from_are_those_with_what_was_typed_and_few(admin_client: Client) -> None:
    storage = StorageFactory()
    BackupJob.objects.bulk_create(BackupJob(name=f"job {number}", storage=storage) for number in range(300))
    Target.objects.bulk_create(Target(name=f"target <{number}>", config={}) for number in range(30))
    HostFactory(hostname="attic")
    HostFactory(hostname="attic")

    def options(query: str) -> list[str]:
        answer = admin_client.get(f"/runs/choices/?{query}")
        assert answer.status_code == 200
        return re.findall(r'<option value="([^"]*)">', unescape(answer.content.decode()))

    assert options("of=job&job=job+29") == ["job 29", *(f"job 29{number}" for number in range(10))]
    assert len(options("of=job&job=")) == 20
    assert options("of=target&target=<7>") == ["target <7>"]
    assert options("of=host&host=ATT") == ["attic"]
    assert options("of=password&password=x") == options("") == options("of=job&job=%00zzz") == []


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?q=thunder",
        "?target={target}",
        "?trigger=manual",
        "?host={host}",
        "?kind=backup&job={job}",
        "?target={target}&host={host}&q=thunder&from=2026-11-01",
        "?status=active&host={host}",
    ],
)
def test_no_filter_costs_more_than_eight_queries_however_many_rows(
    query: str, client: Client, django_assert_max_num_queries: Any
) -> None:
    now = timezone.now()
    SchedulerState.objects.create(pk=1, host="h", hostname="here", pid=1, started_at=now, seen_at=now)
    user = User.objects.create_user("olga")
    user.groups.add(Group.objects.get(name="operator"))
    client.force_login(user)
    HostFactory(host="a" * 16, hostname="attic")
    job = BackupJobFactory()
    target = job.targets.get()
    for number in range(30):
        run = BackupRunFactory(job=job, running=True, host="a" * 16, message="thunder", queued_at=NOON)
        BackupRunTargetFactory(run=run, target=target, active=False)
        end = RunStatus.SUCCEEDED if number < 29 else RunStatus.RUNNING
        BackupRun.objects.filter(pk=run.pk).update(status=end, finished_at=NOON)
        MaintenanceRunFactory(succeeded=True, message="thunder", host="a" * 16)
    query = query.format(target=target.pk, host="a" * 16, job=job.pk)
    with django_assert_max_num_queries(8):
        response = client.get(f"/runs/{query}")
    assert response.status_code == 200
    assert listed(response.content.decode())


def test_older_and_newer_pages_keep_a_search(admin_client: Client) -> None:
    job = BackupJobFactory()
    for number in range(60):
        BackupRunFactory(job=job, succeeded=True, message="thunder", queued_at=NOON + timedelta(minutes=number))
    first = page(admin_client, "?q=thunder")
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older and "q=thunder" in older[1]
    second = page(admin_client, older[1].removeprefix("/runs/"))
    assert [len(listed(html)) for html in (first, second)] == [50, 10]
    newer = re.search(r'rel="prev" href="([^"]+)"', second)
    assert newer and listed(page(admin_client, newer[1].removeprefix("/runs/"))) == listed(first)


def test_a_running_run_says_how_far_it_is(admin_client: Client) -> None:
    figures = {"step": "Reading etc", "bytes": 512 * 1024**2, "bytes_total": 1024**3, "seconds_left": 240}
    BackupRunFactory(running=True, progress=figures)
    html = page(admin_client)
    for part in ("Reading etc: 50 percent", "4\u00a0min left"):
        assert part in html
