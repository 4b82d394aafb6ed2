from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from config import __version__
from scheduling.models import Host, SchedulerState
from tests.factories import BackupJobFactory, BackupRunFactory, HostFactory, MaintenanceRunFactory

pytestmark = pytest.mark.django_db
POLLS = 'hx-trigger="every'


def page(client: Client) -> str:
    response = client.get("/hosts/")
    assert response.status_code == 200
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def host(name: str, *queues: str, **values: Any) -> Host:
    return HostFactory(hostname=name, queues=list(queues), **{"role": "worker", "version": __version__, **values})


def test_a_host_says_that_it_is_alive_and_what_it_works(admin_client: Client) -> None:
    host("cellar", "default", "tapes")
    text = page(admin_client)
    assert "cellar" in text
    assert "Alive seen just now Worker default, tapes" in text


def test_a_host_that_says_nothing_for_half_a_minute_is_silent_and_leaves_after_two_days(admin_client: Client) -> None:
    host("cellar", "default", seen_at=timezone.now() - timedelta(seconds=40))
    host("attic", "default", seen_at=timezone.now() - timedelta(days=3))
    text = page(admin_client)
    assert "1 of 1 host silent" in text
    assert "Silent seen 40" in text
    assert "attic" not in text


def test_processes_of_one_data_folder_are_one_host_with_the_queues_of_both(admin_client: Client) -> None:
    host("cellar", "default", host="a" * 16, role="scheduler", pid=7)
    host("cellar", "tapes", host="a" * 16, pid=8)
    SchedulerState.objects.create(
        pk=1, host="a" * 16, hostname="cellar", pid=7, started_at=timezone.now(), seen_at=timezone.now()
    )
    text = page(admin_client)
    assert "One host, alive" in text
    assert "Active scheduler 2 processes default, tapes" in text


def test_only_the_scheduler_that_beats_as_the_active_one_is_shown_as_it(admin_client: Client) -> None:
    """One that was stopped says so of itself until it is heard again."""
    host("cellar", role="scheduler", pid=7, host="a" * 16)
    host("attic", role="scheduler", pid=9, host="b" * 16)
    SchedulerState.objects.create(
        pk=1, host="b" * 16, hostname="attic", pid=9, started_at=timezone.now(), seen_at=timezone.now()
    )
    text = page(admin_client)
    assert text.count("Active scheduler") == 1
    assert text.index("attic") < text.index("Active scheduler") < text.index("cellar") < text.index("Standby scheduler")


def test_another_version_is_marked(admin_client: Client) -> None:
    host("cellar", "default", version="0.0.1")
    assert f"0.0.1 these pages: {__version__}" in page(admin_client)


def test_what_runs_on_a_host_is_linked_and_what_waits_for_it_is_counted(admin_client: Client) -> None:
    host("cellar", "tapes", host="a" * 16)
    run = BackupRunFactory(status="running", started_at=timezone.now(), finished_at=None, host="a" * 16)
    BackupRunFactory(status="queued", queue="tapes", finished_at=None)
    BackupRunFactory(status="queued", queue="tapes", finished_at=None, not_before=timezone.now() + timedelta(hours=1))
    response = admin_client.get("/hosts/").content.decode()
    assert f'<a href="{run.get_absolute_url()}">{run.job_name}</a>' in response
    assert '<td class="num" data-label="Waiting">1</td>' in response
    assert POLLS in response


def test_a_page_on_which_nothing_happens_does_not_poll(admin_client: Client) -> None:
    host("cellar", "default")
    assert POLLS not in admin_client.get("/hosts/").content.decode()


def test_a_queue_that_nobody_works_is_a_warning_with_the_command_to_run(admin_client: Client) -> None:
    host("cellar", "default")
    host("nas", "nas1", seen_at=timezone.now() - timedelta(minutes=5))
    for _ in range(2):
        MaintenanceRunFactory(
            status="queued", queue="nas1", finished_at=None, queued_at=timezone.now() - timedelta(minutes=2)
        )
    text = page(admin_client)
    assert "No worker works the queue nas1" in text
    assert "2 runs wait for a worker of the queue nas1" in text
    assert "python manage.py run_worker --queue nas1" in text
    BackupJobFactory()
    dashboard = admin_client.get("/").content.decode()
    assert "No worker works the queue nas1" in dashboard
    assert "/hosts/" in dashboard
    Host.objects.filter(hostname="nas").update(seen_at=timezone.now())
    assert "wait for a worker" not in page(admin_client)


def test_a_run_that_has_only_just_been_queued_or_may_not_start_yet_is_no_reason_to_worry(admin_client: Client) -> None:
    host("cellar", "default")
    MaintenanceRunFactory(status="queued", queue="nas1", finished_at=None)
    MaintenanceRunFactory(
        status="queued",
        queue="nas2",
        finished_at=None,
        queued_at=timezone.now() - timedelta(hours=1),
        not_before=timezone.now() + timedelta(hours=1),
    )
    assert "a worker of the queue" not in page(admin_client)


def test_without_any_host_the_page_says_how_to_start_one(admin_client: Client) -> None:
    text = page(admin_client)
    assert "No host is at work" in text
    assert "make run" in text
    assert "run_worker" in text


def test_runs_that_a_user_may_not_see_are_not_named(client: Client, django_user_model: Any) -> None:
    host("cellar", "default", host="a" * 16)
    run = BackupRunFactory(status="running", started_at=timezone.now(), finished_at=None, host="a" * 16)
    user = django_user_model.objects.create_user("ann")
    user.user_permissions.add(Permission.objects.get(codename="view_host"))
    client.force_login(user)
    assert run.job_name not in client.get("/hosts/").content.decode()


def test_a_row_that_another_version_wrote_does_no_harm(admin_client: Client) -> None:
    Host.objects.create(
        host="a" * 16,
        hostname="cellar",
        queues="default",
        pid=1,
        started_at=timezone.now(),
        seen_at=timezone.now(),
    )
    assert "cellar" in page(admin_client)


def test_the_page_needs_the_same_few_queries_for_many_hosts(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(20):
        host(f"nas{number}", f"nas{number}", host=f"{number:016x}")
        BackupRunFactory(status="running", started_at=timezone.now(), finished_at=None, host=f"{number:016x}")
        BackupRunFactory(job=BackupJobFactory(), status="queued", queue=f"nas{number}", finished_at=None)
    with django_assert_max_num_queries(12):
        page(admin_client)


def test_the_api_says_the_same(admin_client: Client) -> None:
    host("cellar", "tapes", host="a" * 16)
    run = BackupRunFactory(status="running", started_at=timezone.now(), finished_at=None, host="a" * 16)
    MaintenanceRunFactory(
        status="queued", queue="nas1", finished_at=None, queued_at=timezone.now() - timedelta(minutes=2)
    )
    found = admin_client.get("/api/v1/hosts").json()
    assert [(row["name"], row["alive"], row["role"], row["queues"]) for row in found["hosts"]] == [
        ("cellar", True, "worker", ["tapes"])
    ]
    assert [(entry["kind"], entry["id"]) for entry in found["hosts"][0]["running"]] == [("backup", run.pk)]
    assert found["unserved_queues"][0]["command"] == "python manage.py run_worker --queue nas1"
