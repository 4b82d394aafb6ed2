from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.utils import timezone

from backups.models import BackupRun
from maintenance.models import MaintenanceRun
from scheduling.choices import RunStatus, RunTrigger
from tests.factories import BackupJobFactory, BackupRunFactory, MaintenanceRunFactory

pytestmark = pytest.mark.django_db


def key(run: Any) -> str:
    return f"{run.kind}:{run.pk}"


def ask(client: Client, action: str, *runs: Any, **more: str) -> str:
    response = client.post("/runs/bulk/", {"action": action, "select": [key(run) for run in runs], **more}, follow=True)
    assert response.status_code == 200
    return unescape(response.content.decode())


def confirm(client: Client, html: str) -> str:
    """Press the button of the confirmation page."""
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', html)
    data: dict[str, list[str]] = {}
    for name, value in fields:
        if name != "csrfmiddlewaretoken":
            data.setdefault(name, []).append(value)
    return unescape(client.post("/runs/bulk/", data, follow=True).content.decode())


def status(run: Any) -> str:
    run.refresh_from_db()
    return str(run.status)


def test_cancelling_many_says_what_will_happen_to_each_and_does_nothing_before_it_is_confirmed(
    admin_client: Client,
) -> None:
    waiting = BackupRunFactory(job_name="night")
    going = MaintenanceRunFactory(running=True, job_name="cleanup")
    over = BackupRunFactory(succeeded=True, job_name="old")
    html = ask(admin_client, "cancel", waiting, going, over)
    assert "Cancel 2 runs?" in html
    assert "1 waiting run will never start: night" in html
    assert "1 running run will be stopped, and what is half made removed: cleanup" in html
    assert "It has ended." in html
    assert (status(waiting), status(going), status(over)) == ("queued", "running", "succeeded")
    html = confirm(admin_client, html)
    assert "2 runs cancelled or being stopped" in html
    assert (status(waiting), status(going), status(over)) == ("cancelled", "cancelling", "succeeded")
    assert going.cancelled_by == waiting.cancelled_by == "admin"


def test_running_many_again_queues_each_job_once_with_the_run_as_parent(admin_client: Client) -> None:
    job = BackupJobFactory(name="night")
    older = BackupRunFactory(job=job, failed=True)
    newer = BackupRunFactory(job=job, failed=True)
    cleanup = MaintenanceRunFactory(failed=True)
    orphan = BackupRunFactory(job=None, failed=True, job_name="gone")
    busy = BackupRunFactory(failed=True)
    waits = BackupRunFactory(job=busy.job)
    html = ask(admin_client, "again", older, newer, cleanup, orphan, busy)
    assert "Run 2 runs again?" in html
    assert f"It is of the same job as run {newer.pk}" in html
    assert "Its job was deleted." in html
    assert f"Run {waits.pk} of this job waits to start already." in html
    html = confirm(admin_client, html)
    assert "2 runs queued again" in html
    queued = BackupRun.objects.get(parent=newer)
    assert (queued.status, queued.trigger, queued.requested_by) == (RunStatus.QUEUED, RunTrigger.MANUAL, "admin")
    assert MaintenanceRun.objects.get(parent=cleanup).status == RunStatus.QUEUED
    assert not BackupRun.objects.filter(parent__in=[older, orphan, busy]).exists()


def test_what_ended_between_question_and_answer_is_said_with_its_reason(admin_client: Client) -> None:
    one, other = BackupRunFactory(job_name="one"), BackupRunFactory(job_name="other")
    html = ask(admin_client, "cancel", one, other)
    BackupRun.objects.filter(pk=one.pk).update(status=RunStatus.SKIPPED, finished_at=timezone.now())
    html = confirm(admin_client, html)
    assert f"Nothing was done with one (run {one.pk}): it has ended." in html
    assert (status(one), status(other)) == ("skipped", "cancelled")


def test_a_kind_that_one_may_not_run_is_refused_run_by_run(client: Client) -> None:
    backup, cleanup = BackupRunFactory(), MaintenanceRunFactory()
    user = User.objects.create_user("ann")
    codenames = ("view_schedulerstate", "view_backuprun", "view_maintenancerun", "run_backupjob")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    shown = client.get("/runs/").content.decode()
    assert f'value="backup:{backup.pk}"' in shown
    assert f'value="maintenance:{cleanup.pk}"' not in shown
    html = ask(client, "cancel", backup, cleanup, confirm="1")
    assert "You may look at maintenance runs, not start or stop them." in html or "you may look at" in html
    assert (status(backup), status(cleanup)) == ("cancelled", "queued")


def test_a_viewer_sees_no_boxes_and_can_stop_nothing(client: Client) -> None:
    run = BackupRunFactory()
    user = User.objects.create_user("vera")
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(user)
    html = client.get("/runs/").content.decode()
    assert "checkbox" not in html
    assert "Cancel…" not in html
    assert "None of these runs can be cancelled" in ask(client, "cancel", run, confirm="1")
    assert status(run) == "queued"


def test_runs_of_a_kind_that_one_may_not_see_do_not_exist(client: Client) -> None:
    run = MaintenanceRunFactory(job_name="secret cleanup")
    user = User.objects.create_user("ann")
    codenames = ("view_schedulerstate", "view_backuprun", "run_maintenancejob")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    html = ask(client, "cancel", run, confirm="1")
    assert "secret cleanup" not in html
    assert "does not exist any more" in html
    assert status(run) == "queued"


@pytest.mark.parametrize(
    "select",
    [
        [],
        ["x"],
        ["backup:0"],
        ["backup:" + "9" * 30],
        ["\0"],
        ["backup:1\0"],
        ["rocket:1"],
        [f"backup:{n}" for n in range(900)],
    ],
)
def test_nothing_that_is_posted_is_an_error(select: list[str], admin_client: Client) -> None:
    for action in ("cancel", "again"):
        for more in ({}, {"confirm": "1"}):
            data = {"action": action, "select": select, "next": "\0//evil.example", **more}
            assert admin_client.post("/runs/bulk/", data, follow=True).status_code == 200


@pytest.mark.parametrize("action", ["", "delete", "\0"])
def test_an_action_that_does_not_exist_is_refused(action: str, admin_client: Client) -> None:
    assert admin_client.post("/runs/bulk/", {"action": action, "select": "backup:1"}).status_code == 400
    assert admin_client.get("/runs/bulk/").status_code == 405


@pytest.mark.parametrize(
    ("asked", "went"),
    [
        ("/runs/?status=failed", "/runs/?status=failed"),
        ("https://evil.example/runs/", "/runs/"),
        ("//evil.example/runs/", "/runs/"),
        ("/targets/", "/runs/"),
        ("", "/runs/"),
    ],
)
def test_one_comes_back_to_the_list_one_came_from(asked: str, went: str, admin_client: Client) -> None:
    run = BackupRunFactory()
    data = {"action": "cancel", "select": key(run), "confirm": "1", "next": asked}
    assert admin_client.post("/runs/bulk/", data)["Location"] == went


def test_all_the_boxes_of_a_page_are_ticked_by_a_link(admin_client: Client) -> None:
    BackupRunFactory(succeeded=True)
    MaintenanceRunFactory(succeeded=True)
    html = admin_client.get("/runs/").content.decode()
    assert 'href="/runs/?all=1"' in html
    assert " checked" not in html
    BackupRunFactory(running=True)
    ticked = admin_client.get("/runs/?all=1").content.decode()
    assert ticked.count(" checked>") == 3
    # Neither what asks again, nor the way back from the question, ticks what has come since.
    assert ticked.count("all=1") == 0
