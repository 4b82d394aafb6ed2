from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone
from django_apscheduler.models import DjangoJob

from backups.choices import BackupState
from backups.models import BackupJob, Options
from maintenance.models import MaintenanceJob
from scheduling.choices import RunStatus
from scheduling.models import SchedulerState
from tests.factories import BackupFactory, BackupRunFactory, MaintenanceRunFactory, TargetFactory
from tests.pages.people import sign_in
from tests.support import add_backup, default_jobs, make_job

pytestmark = pytest.mark.django_db

POLLS = 'hx-trigger="every'


def page(client: Client) -> str:
    response = client.get("/")
    assert response.status_code == 200
    return response.content.decode()


def answer(client: Client) -> str:
    found = re.search(r"<h1>(.*?)</h1>", page(client))
    assert found is not None
    return found[1]


def beat() -> None:
    now = timezone.now()
    SchedulerState.objects.create(pk=1, host="h", hostname="here", pid=1, started_at=now, seen_at=now)


@pytest.fixture
def well(tmp_path: Path) -> BackupJob:
    """One target with a copy, a rule and a living scheduler: nothing to complain about."""
    beat()
    default_jobs()
    Options.objects.update_or_create(pk=1, defaults={"retention": {"keep_last": 3}})
    job = make_job(tmp_path)
    add_backup(job, timezone.now() - timedelta(hours=3))
    BackupRunFactory(succeeded=True, job=job)
    return job


def test_a_new_installation_says_the_one_next_step(admin_client: Client) -> None:
    html = page(admin_client)
    assert "Nothing is protected yet" in html
    assert 'href="/protect/"' in html
    assert "Needs you" not in html


def test_someone_who_may_not_add_a_target_is_not_sent_to_do_it(client: Client) -> None:
    viewer = User.objects.create_user("ann")
    viewer.groups.add(Group.objects.get(name="viewer"))
    client.force_login(viewer)
    assert 'href="/protect/"' not in page(client)


def test_when_all_is_well_the_page_says_so(admin_client: Client, well: BackupJob) -> None:
    assert answer(admin_client) == "The one target is protected"
    assert "Last backup" in page(admin_client)


def _fail_last(job: BackupJob) -> None:
    BackupRunFactory(failed=True, job=job)


def _lose_last(job: BackupJob) -> None:
    BackupRunFactory(job=job, status=RunStatus.LOST, started_at=timezone.now(), finished_at=timezone.now())


def _fail_maintenance(_job: BackupJob) -> None:
    MaintenanceRunFactory(failed=True, job=MaintenanceJob.objects.get(key="retention_cleanup_nightly"))


def _stop_scheduler(_job: BackupJob) -> None:
    SchedulerState.objects.update(seen_at=timezone.now() - timedelta(minutes=2))


def _add_bare_target(_job: BackupJob) -> None:
    TargetFactory(name="wiki")


def _unmount(job: BackupJob) -> None:
    (Path(job.storage.path) / ".keepwell-storage.json").unlink()


def _lose_a_file(job: BackupJob) -> None:
    BackupFactory(job=job, state=BackupState.MISSING)


def _quarantine(job: BackupJob) -> None:
    BackupFactory(job=job, state=BackupState.QUARANTINED)


def _suspect(job: BackupJob) -> None:
    BackupFactory(job=job, suspect=True)


def _drop_rules(_job: BackupJob) -> None:
    Options.objects.update(retention={})


@pytest.mark.parametrize(("role", "link"), [("administrator", "Set rules in Options"), ("viewer", "See Options")])
def test_nobody_is_told_to_set_rules_that_they_may_not_set(well: BackupJob, role: str, link: str) -> None:
    _drop_rules(well)
    assert link in page(sign_in(role))


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (_fail_last, "nightly failed"),
        (_lose_last, "nightly was lost"),
        (_fail_maintenance, "Nightly cleanup failed"),
        (_stop_scheduler, "The scheduler is not running"),
        (_add_bare_target, "wiki is in no backup job"),
        (_unmount, "The storage nightly-storage cannot be used"),
        (_lose_a_file, "1 copy is not where the catalogue says"),
        (_quarantine, "1 copy is no longer what was written"),
        (_suspect, "1 copy is suspiciously small"),
        (_drop_rules, "No retention rule is set"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_trouble_is_the_answer(trouble: Any, words: str, admin_client: Client, well: BackupJob) -> None:
    trouble(well)
    assert answer(admin_client) == words


def test_several_troubles_are_counted_and_each_is_named(admin_client: Client, well: BackupJob) -> None:
    _fail_last(well)
    _add_bare_target(well)
    _stop_scheduler(well)
    html = page(admin_client)
    assert "3 things need you" in html
    for words in ("nightly failed", "wiki is in no backup job", "The scheduler is not running"):
        assert words in html


def test_a_failure_that_was_made_good_needs_nobody_but_is_remembered(admin_client: Client, well: BackupJob) -> None:
    BackupRunFactory(failed=True, job=well, queued_at=timezone.now() - timedelta(days=1))
    html = page(admin_client)
    assert "The one target is protected" in html
    assert "Check the disk, then run again." in html


@pytest.mark.parametrize("status", [RunStatus.SKIPPED, RunStatus.CANCELLED])
def test_a_skipped_or_cancelled_run_does_not_hide_a_failure(status: str, admin_client: Client, well: BackupJob) -> None:
    _fail_last(well)
    BackupRunFactory(job=well, status=status, finished_at=timezone.now())
    assert answer(admin_client) == "nightly failed"


def test_a_target_without_a_copy_whose_job_exists_has_never_been_backed_up(
    admin_client: Client, tmp_path: Path
) -> None:
    beat()
    Options.objects.update_or_create(pk=1, defaults={"retention": {"keep_last": 3}})
    make_job(tmp_path)
    assert answer(admin_client) == "etc has never been backed up"


def test_more_bare_targets_than_are_listed_are_still_counted(admin_client: Client, well: BackupJob) -> None:
    for _ in range(30):
        TargetFactory()
    html = page(admin_client)
    assert "30 things need you" in html
    assert "the first 20 of 30" in html


def test_the_next_runs_come_soonest_first_and_disabled_jobs_never(admin_client: Client, well: BackupJob) -> None:
    html = page(admin_client)
    nightly, cleanup = html.index('id="next-1"'), html.index('id="next-2"')
    assert nightly < cleanup
    assert 'id="next-3"' not in html
    BackupJob.objects.update(enabled=False)
    MaintenanceJob.objects.update(enabled=False)
    assert "No job has a schedule that is switched on." in page(admin_client)


def test_the_page_asks_again_only_while_something_runs(admin_client: Client, well: BackupJob) -> None:
    assert POLLS not in page(admin_client)
    BackupRunFactory(running=True, job=well)
    html = page(admin_client)
    assert POLLS in html
    region = admin_client.get("/", headers={"HX-Request": "true"}).content.decode()
    assert region.strip().startswith('<div id="dashboard"')
    assert "<html" not in region


def test_names_are_escaped(admin_client: Client, well: BackupJob) -> None:
    TargetFactory(name="<script>alert(1)</script>")
    html = page(admin_client)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_the_foot_names_the_next_run(admin_client: Client, well: BackupJob) -> None:
    DjangoJob.objects.create(
        id=f"backup:{well.pk}", next_run_time=timezone.now() + timedelta(hours=3, minutes=12, seconds=30), job_state=b""
    )
    DjangoJob.objects.create(id="rocket:1", next_run_time=timezone.now() + timedelta(days=1), job_state=b"")
    foot = re.search(r'<p class="foot">(.*?)</p>', admin_client.get("/runs/").content.decode(), re.DOTALL)
    assert foot is not None
    text = re.sub(r"<[^>]+>", "", foot[1])
    assert "Scheduler alive, next: nightly in 3\u00a0h 12\u00a0min" in text
    DjangoJob.objects.filter(id__startswith="backup").delete()
    assert "next: rocket:1" in admin_client.get("/runs/").content.decode()


def test_the_page_needs_the_same_few_queries_for_many_rows(
    admin_client: Client, well: BackupJob, django_assert_max_num_queries: Any
) -> None:
    for _ in range(25):
        BackupRunFactory(failed=True)
        MaintenanceRunFactory(failed=True)
    with django_assert_max_num_queries(22):
        page(admin_client)
