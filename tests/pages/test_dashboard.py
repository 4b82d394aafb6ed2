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
from backups.models import Backup, BackupJob, Hold, Options
from backups.services.storages import storage_backend
from backups.storage.names import EPOCH
from maintenance.choices import JobType, PlanStatus
from maintenance.models import CleanupPlan, CleanupPlanPair, MaintenanceJob, MaintenanceRun
from scheduling import wall_clock
from scheduling.choices import RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.models import ClockAnchor, SchedulerState
from tests.factories import (
    BackupFactory,
    BackupRunFactory,
    MaintenanceJobFactory,
    MaintenanceRunFactory,
    TargetFactory,
)
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


def _stop_a_cleanup(job: BackupJob) -> None:
    """A real cleanup that its guard stopped."""
    for day in range(1, 6):
        add_backup(job, timezone.now() - timedelta(days=day))
    Options.objects.update(retention={"keep_last": 1})
    run_cleanup()


def _jump_the_clock(_job: BackupJob) -> None:
    machine = wall_clock.read_machine()
    wall_clock.anchor_confirm(machine, by="test")
    ClockAnchor.objects.update(wall=machine.wall - timedelta(days=40))


def _restore_an_old_database(job: BackupJob) -> None:
    with storage_backend(job.storage).open() as handle:
        handle.raise_epoch(9)


def _damage_the_epoch(job: BackupJob) -> None:
    (Path(job.storage.path) / EPOCH).write_text("{")


def _miss_cleanups(_job: BackupJob) -> None:
    MaintenanceJob.objects.update(updated_at=timezone.now() - timedelta(days=9))
    MaintenanceRunFactory(
        succeeded=True, job=nightly_cleanup(), queued_at=timezone.now() - timedelta(days=2, minutes=1)
    )


def _switch_the_cleanup_off(_job: BackupJob) -> None:
    MaintenanceJob.objects.filter(job_type=JobType.RETENTION_CLEANUP).update(enabled=False)


def _move_nothing(job: BackupJob) -> None:
    """A cleanup that was to delete and could not: the run's record says so."""
    add_backup(job, timezone.now() - timedelta(days=1))
    Options.objects.update(retention={"keep_last": 1})
    run_cleanup()
    CleanupPlanPair.objects.update(moved=0, moved_bytes=0)


def _leave_the_trash(job: BackupJob) -> None:
    BackupFactory(trashed=True, job=job, target=job.targets.get(), size=3 * 2**30)
    Backup.objects.trashed().update(trashed_at=timezone.now() - timedelta(hours=72 + 25))


def nightly_cleanup() -> MaintenanceJob:
    return MaintenanceJob.objects.get(key="retention_cleanup_nightly")


def run_cleanup() -> MaintenanceRun:
    run = scheduled_dispatch("maintenance", nightly_cleanup().pk, inline=True, trigger=RunTrigger.COMMAND)
    assert isinstance(run, MaintenanceRun)
    return run


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
        (_stop_a_cleanup, "5 deletions wait for a decision"),
        (_jump_the_clock, "The clock jumped, so nothing is deleted"),
        (_restore_an_old_database, "The storage nightly-storage is ahead of the database"),
        (_damage_the_epoch, "The storage nightly-storage cannot be cleaned up"),
        (_miss_cleanups, "Nightly cleanup did not run"),
        (_switch_the_cleanup_off, "No cleanup is scheduled"),
        (_move_nothing, "The last cleanup freed nothing"),
        (_leave_the_trash, "1 copy is overdue in the trash"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_trouble_is_the_answer(trouble: Any, words: str, admin_client: Client, well: BackupJob) -> None:
    trouble(well)
    assert answer(admin_client) == words


def test_what_waits_for_a_decision_leads_to_the_plan(admin_client: Client, well: BackupJob) -> None:
    _stop_a_cleanup(well)
    html = page(admin_client)
    plan = CleanupPlan.objects.get()
    assert f"/maintenance-jobs/plans/{plan.uid}/" in html
    assert "5 of 6 good copies" in html
    CleanupPlan.objects.update(status=PlanStatus.REJECTED, decided_by="anna", decided_at=timezone.now())
    assert "wait for a decision" not in page(admin_client)


@pytest.mark.parametrize(
    ("trouble", "address"),
    [(_jump_the_clock, "/clock/"), (_restore_an_old_database, "/storages/{storage}/reconcile/")],
    ids=["clock", "old database"],
)
def test_nobody_is_sent_to_put_right_what_they_may_not(well: BackupJob, trouble: Any, address: str) -> None:
    trouble(well)
    address = address.format(storage=well.storage.pk)
    assert address in page(sign_in("administrator"))
    assert address not in page(sign_in("operator"))


def test_a_cleanup_that_ran_in_time_or_was_just_rescheduled_has_not_been_missed(
    admin_client: Client, well: BackupJob
) -> None:
    _miss_cleanups(well)
    MaintenanceRunFactory(failed=True, job=nightly_cleanup(), queued_at=timezone.now() - timedelta(hours=20))
    assert "did not run" not in page(admin_client)
    MaintenanceRun.objects.all().delete()
    assert "did not run" in page(admin_client)
    nightly_cleanup().save()
    assert "did not run" not in page(admin_client)
    MaintenanceRunFactory(succeeded=True, job=nightly_cleanup(), queued_at=timezone.now() - timedelta(days=9))
    assert "did not run" not in page(admin_client)


@pytest.mark.parametrize("status", [RunStatus.SKIPPED, RunStatus.CANCELLED])
def test_a_skipped_or_cancelled_cleanup_is_no_cleanup(status: str, admin_client: Client, well: BackupJob) -> None:
    _miss_cleanups(well)
    MaintenanceRunFactory(job=nightly_cleanup(), status=status, finished_at=timezone.now())
    assert answer(admin_client) == "Nightly cleanup did not run"


def test_a_cleanup_of_ones_own_schedule_is_enough(admin_client: Client, well: BackupJob) -> None:
    _switch_the_cleanup_off(well)
    MaintenanceJobFactory(key="weekly", schedule_cron="0 4 * * 0")
    assert answer(admin_client) == "The one target is protected"


def test_rules_of_one_job_alone_need_a_cleanup_as_well(admin_client: Client, well: BackupJob) -> None:
    _switch_the_cleanup_off(well)
    Options.objects.update(retention={"timezone": "UTC"})
    BackupJob.objects.update(retention={"keep_last": 0})
    assert "No cleanup is scheduled" not in page(admin_client)
    BackupJob.objects.update(retention={"keep_last": 2})
    assert answer(admin_client) == "No cleanup is scheduled"


def test_a_cleanup_that_moved_something_later_makes_good_for_one_that_freed_nothing(
    admin_client: Client, well: BackupJob
) -> None:
    _move_nothing(well)
    add_backup(well, timezone.now() - timedelta(minutes=5))
    run_cleanup()
    assert "freed nothing" not in page(admin_client)


@pytest.mark.parametrize("protection", ["pin", "hold", "time"])
def test_what_stays_in_the_trash_for_a_reason_is_not_overdue(
    protection: str, admin_client: Client, well: BackupJob
) -> None:
    _leave_the_trash(well)
    if protection == "pin":
        Backup.objects.trashed().update(pinned_at=timezone.now(), pinned_by="anna")
    elif protection == "hold":
        Hold.objects.create(job=well, note="lawsuit", placed_by="anna", placed_at=timezone.now())
    else:
        Backup.objects.trashed().update(trashed_at=timezone.now() - timedelta(hours=72 + 23))
    assert answer(admin_client) == "The one target is protected"


def test_what_is_overdue_in_the_trash_says_why_it_is_there(admin_client: Client, well: BackupJob) -> None:
    _leave_the_trash(well)
    assert "did not remove them: look at its last run" in page(admin_client)
    MaintenanceJob.objects.filter(key="purge_trash").update(enabled=False)
    assert "is switched off" in page(admin_client)
    assert "3.0 GiB" in page(admin_client)


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
    names = re.findall(r'id="next-\d"[^>]*>([^<]+)<', html)
    assert len(names) == 3
    assert set(names) == {"nightly", "Nightly cleanup", "Empty the trash"}
    times = re.findall(r'data-label="When"><time datetime="([^"]+)"', html)[:3]
    assert times == sorted(times)
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
    _stop_a_cleanup(well)
    for _ in range(25):
        BackupRunFactory(failed=True)
        MaintenanceRunFactory(failed=True)
        CleanupPlan.objects.create(status=PlanStatus.WAITING, digest="0" * 64, created_at=timezone.now())
        BackupFactory(trashed=True)
    with django_assert_max_num_queries(27):
        page(admin_client)
