from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from backups.models import AuditAction, AuditEntry, Backup, BackupJob
from backups.services.options import options_update
from backups.services.storages import storage_backend
from maintenance.choices import PlanStatus
from maintenance.models import CleanupPlan, MaintenanceJob, MaintenanceRun
from scheduling import holders
from scheduling.choices import RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from tests.commands.conftest import Run
from tests.factories import MaintenanceJobFactory, MaintenanceRunFactory
from tests.support import add_backup, default_jobs


@pytest.fixture
def copies(nightly: BackupJob) -> list[Backup]:
    """Five copies, oldest first; the policy keeps the newest alone, which is more than the guards let go."""
    default_jobs()
    options_update(retention={"keep_last": 1})
    return [add_backup(nightly, datetime(2026, 3, day, 2, 30, tzinfo=UTC)) for day in range(1, 6)]


@pytest.fixture
def stopped(copies: list[Backup]) -> MaintenanceRun:
    """A cleanup that a guard stopped."""
    job = MaintenanceJob.objects.get(key="retention_cleanup_nightly")
    run = scheduled_dispatch("maintenance", job.pk, inline=True, trigger=RunTrigger.COMMAND)
    assert isinstance(run, MaintenanceRun)
    assert run.plans.get().status == PlanStatus.WAITING
    return run


@pytest.mark.parametrize("by_plan", [False, True], ids=["run", "plan"])
def test_what_waits_is_shown_approved_and_carried_out_here(run: Run, stopped: MaintenanceRun, by_plan: bool) -> None:
    plan = stopped.plans.get()
    ended = run("approve_cleanup", plan.uid if by_plan else str(stopped.pk), "--yes", "--by", "anna")
    assert ended.status == 0, ended.err
    assert "This would delete 4 of 5 good copies" in ended.out
    assert "nightly / docs: 4 backups (256 B) to the trash, 1 stay" in ended.out
    assert "4 moved to the trash" in ended.out
    assert Backup.objects.trashed().count() == 4
    plan.refresh_from_db()
    assert (plan.status, plan.decided_by) == (PlanStatus.APPROVED, "anna")
    assert AuditEntry.objects.filter(action=AuditAction.TRASH, approved_by="anna").count() == 4


def test_rejecting_leaves_everything(run: Run, stopped: MaintenanceRun) -> None:
    ended = run("approve_cleanup", str(stopped.pk), "--reject", "--yes", "--json")
    assert (ended.status, ended.value["status"]) == (0, "rejected")
    assert Backup.objects.available().count() == 5
    assert MaintenanceRun.objects.count() == 1


@pytest.mark.parametrize(
    ("answer", "status", "moved"),
    [("y\n", 0, 4), ("yes\n", 0, 4), ("\n", 3, 0), ("n\n", 3, 0), ("", 2, 0)],
    ids=["y", "yes", "nothing", "no", "nobody there"],
)
def test_it_asks_first(
    run: Run, stopped: MaintenanceRun, monkeypatch: pytest.MonkeyPatch, answer: str, status: int, moved: int
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert run("approve_cleanup", str(stopped.pk)).status == status
    assert Backup.objects.trashed().count() == moved


def test_with_json_it_does_not_ask(run: Run, stopped: MaintenanceRun) -> None:
    ended = run("approve_cleanup", str(stopped.pk), "--json")
    assert (ended.status, ended.out) == (2, "")
    done = run("approve_cleanup", str(stopped.pk), "--json", "--yes")
    assert done.value["result"]["deleted_count"] == 4


@pytest.mark.parametrize("name", ["4711", "0" * 16, "x", "", "9" * 30, "-1"])
def test_what_does_not_exist_is_bad_input(run: Run, copies: list[Backup], name: str) -> None:
    assert run("approve_cleanup", "--yes", "--", name).status == 2


def test_a_run_without_a_plan_is_bad_input(run: Run, copies: list[Backup]) -> None:
    bare = MaintenanceRunFactory(succeeded=True)
    assert "made no plan" in run("approve_cleanup", str(bare.pk), "--yes").err


def test_a_plan_is_decided_once(run: Run, stopped: MaintenanceRun) -> None:
    run("approve_cleanup", str(stopped.pk), "--reject", "--yes", "--by", "anna")
    ended = run("approve_cleanup", str(stopped.pk), "--yes")
    assert ended.status == 3
    assert "it is rejected by anna" in ended.err
    assert Backup.objects.available().count() == 5


def test_a_plan_that_has_changed_stops_again(run: Run, stopped: MaintenanceRun, nightly: BackupJob) -> None:
    add_backup(nightly, timezone.now() - timedelta(hours=1))
    ended = run("approve_cleanup", str(stopped.pk), "--yes")
    assert ended.status == 3
    assert "not what was shown and confirmed" in ended.out
    assert Backup.objects.available().count() == 6


def test_no_approval_lets_a_storage_ahead_of_the_database_be_cleaned_up(
    run: Run, copies: list[Backup], nightly: BackupJob
) -> None:
    with storage_backend(nightly.storage).open() as storage:
        storage.raise_epoch(1000)
    job = MaintenanceJob.objects.get(key="retention_cleanup_nightly")
    options_update(guard_pair_share=None, guard_storage_share=None)
    stopped = scheduled_dispatch("maintenance", job.pk, inline=True, trigger=RunTrigger.COMMAND)
    assert stopped is not None
    ended = run("approve_cleanup", str(stopped.pk), "--yes")
    assert ended.status == 3
    assert "reconcile_storage nas" in ended.err
    assert run("approve_cleanup", str(stopped.pk), "--reject", "--yes").status == 0


def test_while_a_cleanup_by_hand_runs_what_was_approved_waits(run: Run, stopped: MaintenanceRun) -> None:
    manual = MaintenanceJob.objects.get(key="retention_cleanup_manual")
    with holders.hold() as holder:
        MaintenanceRunFactory(running=True, job=manual, host=holders.host_id(), holder=holder)
        ended = run("approve_cleanup", str(stopped.pk), "--yes")
    assert ended.status == 3
    assert "is already running" in ended.err
    assert MaintenanceRun.objects.get(params__has_key="plan").status == RunStatus.QUEUED
    assert CleanupPlan.objects.get().status == PlanStatus.APPROVED


def test_without_the_hidden_job_nothing_is_approved(run: Run, stopped: MaintenanceRun) -> None:
    MaintenanceJob.objects.filter(key="retention_cleanup_manual").delete()
    MaintenanceJobFactory(key="other")
    assert run("approve_cleanup", str(stopped.pk), "--yes").status == 2
    assert CleanupPlan.objects.get().status == PlanStatus.WAITING
