from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from backups.choices import BackupState
from backups.models import Backup, BackupJob
from backups.services.jobs import job_create
from backups.services.options import options_update
from backups.services.storages import storage_backend
from backups.services.targets import target_create
from maintenance.choices import JobType
from maintenance.models import CleanupPlan, MaintenanceJob, MaintenanceRun
from scheduling import holders
from scheduling.choices import OPEN, RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.ledger import run_record
from scheduling.registry import get_kind
from tests.commands.conftest import Run
from tests.factories import MaintenanceJobFactory
from tests.support import no_blast_radius


@pytest.fixture
def cleanup(transactional_db: None) -> MaintenanceJob:
    return MaintenanceJobFactory(key="cleanup", name="Cleanup")


@pytest.fixture
def three_copies(nightly: BackupJob) -> list[Backup]:
    """Real copies of three days in a row, oldest first; the policy keeps the newest alone, and no guard minds."""
    options_update(retention={"keep_last": 1})
    no_blast_radius()
    for day in (1, 2, 3):
        instant = datetime(2026, 3, day, 2, 30, tzinfo=UTC)
        scheduled_dispatch(
            "backup",
            nightly.pk,
            inline=True,
            trigger=RunTrigger.SCHEDULE,
            slot=instant,
            now=lambda instant=instant: instant,
        )
    return list(Backup.objects.order_by("created_at"))


def test_a_cleanup_is_run_and_reported(run: Run, cleanup: MaintenanceJob, three_copies: list[Backup]) -> None:
    ended = run("run_maintenance", "cleanup")
    assert ended.status == 0, ended.err
    assert "2 moved to the trash, 1 kept" in ended.out
    assert "deleted count: 2" in ended.out
    assert three_copies[0].artifact.relative in ended.out
    states = [backup.state for backup in Backup.objects.order_by("created_at")]
    assert states == [BackupState.TRASHED, BackupState.TRASHED, BackupState.AVAILABLE]
    assert MaintenanceRun.objects.get().trigger == RunTrigger.COMMAND


def test_a_dry_run_changes_nothing_and_gives_reasons(
    run: Run, cleanup: MaintenanceJob, three_copies: list[Backup]
) -> None:
    ended = run("run_maintenance", "cleanup", "--dry-run")
    assert ended.status == 0
    assert "nightly / docs: 2 would be deleted, 1 kept" in ended.out
    assert three_copies[1].artifact.relative in ended.out
    assert "would stay with keep_last 2" in ended.out
    assert not MaintenanceRun.objects.exists()
    assert Backup.objects.available().count() == 3
    assert all((Path(b.storage.path) / b.artifact.relative).exists() for b in three_copies)


def test_a_dry_run_says_as_json_what_the_run_then_does(
    run: Run, cleanup: MaintenanceJob, three_copies: list[Backup]
) -> None:
    preview = run("run_maintenance", "cleanup", "--dry-run", "--json").value
    assert [item["uid"] for item in preview["result"]["deletions"]] == [three_copies[1].uid, three_copies[0].uid]
    assert all(item["reasons"] for item in preview["result"]["deletions"])
    real = run("run_maintenance", "cleanup", "--json").value
    assert real["result"]["deleted_paths"] == preview["result"]["deleted_paths"]


def test_a_pair_is_cleaned_up_alone(
    run: Run, cleanup: MaintenanceJob, three_copies: list[Backup], nightly: BackupJob, tree: Path
) -> None:
    other = job_create(name="weekly", targets=list(nightly.targets.all()), storage=nightly.storage)
    Backup.objects.filter(pk=three_copies[0].pk).update(job=other)
    Backup.objects.filter(pk=three_copies[1].pk).update(job=other)
    ended = run("run_maintenance", "cleanup", "--job", "weekly", "--target", "docs", "--json")
    assert ended.status == 0
    assert ended.value["result"]["targets_processed"] == 1
    assert [pair["job"] for pair in ended.value["result"]["pairs"]] == ["weekly"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "no maintenance job called “nope”. There are: cleanup."),
        (("cleanup", "--job", "nightly"), "Give both --job and --target"),
        (("cleanup", "--target", "docs"), "Give both --job and --target"),
        (("cleanup", "--job", "nigtly", "--target", "docs"), "Did you mean “nightly”?"),
        (("cleanup", "--job", "nightly", "--target", "dogs"), "Did you mean “docs”?"),
        (("cleanup", "--job", "nightly", "--target", "photos"), "does not back up photos. Its targets are: docs."),
    ],
    ids=["unknown key", "no target", "no job", "misspelt job", "misspelt target", "not a pair"],
)
def test_bad_input_is_status_2_and_runs_nothing(
    run: Run, cleanup: MaintenanceJob, nightly: BackupJob, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    target_create(name="photos", source="files", config={"paths": [str(tmp_path / "photos")], "exclude": []})
    ended = run("run_maintenance", *arguments)
    assert ended.status == 2
    assert message in ended.err
    assert not MaintenanceRun.objects.exists()


def test_exit_statuses_of_the_program(manage: Run, cleanup: MaintenanceJob) -> None:
    assert manage("run_maintenance").status == 2
    assert manage("run_maintenance", "nope").status == 2
    ended = manage("run_maintenance", "cleanup", "--json")
    assert (ended.status, ended.err) == (0, "")
    assert ended.value["status"] == "succeeded"


def test_a_storage_that_is_away_fails_the_cleanup(
    run: Run, cleanup: MaintenanceJob, three_copies: list[Backup], nightly: BackupJob, tmp_path: Path
) -> None:
    Path(nightly.storage.path).rename(tmp_path / "disk")
    assert run("run_maintenance", "cleanup", "--dry-run").status == 1
    assert run("run_maintenance", "cleanup").status == 1
    assert Backup.objects.available().count() == 3


def test_nothing_is_left_waiting_when_the_job_is_running_already(run: Run, cleanup: MaintenanceJob) -> None:
    with holders.hold() as holder:
        active = MaintenanceRun.objects.create(
            job=cleanup,
            job_name=cleanup.name,
            job_key=cleanup.key,
            job_type=cleanup.job_type,
            status=RunStatus.RUNNING,
            started_at=timezone.now(),
            host=holders.host_id(),
            holder=holder,
        )
        ended = run("run_maintenance", "cleanup")
    assert ended.status == 3
    assert f"Cleanup is already running (run {active.pk})" in ended.err
    assert list(MaintenanceRun.objects.filter(status__in=OPEN)) == [active]


def test_a_waiting_run_for_something_else_is_not_run_in_its_place(
    run: Run, cleanup: MaintenanceJob, nightly: BackupJob
) -> None:
    waiting = run_record(
        kind=get_kind("maintenance"),
        job=cleanup,
        job_name=cleanup.name,
        trigger=RunTrigger.MANUAL,
        job_key=cleanup.key,
        job_type=cleanup.job_type,
    )
    ended = run("run_maintenance", "cleanup", "--job", "nightly", "--target", "docs")
    assert ended.status == 3
    assert f"(run {waiting.pk}) and asks for something else" in ended.err
    assert MaintenanceRun.objects.get().status == RunStatus.QUEUED


def test_runs_under_another_clock_are_stamped_by_it(
    run: Run, cleanup: MaintenanceJob, three_copies: list[Backup]
) -> None:
    instant = datetime(2026, 3, 4, 3, 0, tzinfo=UTC)
    done = scheduled_dispatch("maintenance", cleanup.pk, inline=True, slot=instant, now=lambda: instant)
    assert done is not None
    assert {done.queued_at, done.started_at, done.finished_at, done.log_lines.first().at} == {instant}
    assert set(Backup.objects.trashed().values_list("trashed_at", flat=True)) == {instant}
    later = instant + timedelta(hours=73)
    purge = MaintenanceJobFactory(key="purge", job_type=JobType.PURGE_TRASH)
    scheduled_dispatch("maintenance", purge.pk, inline=True, slot=later, now=lambda: later)
    assert set(Backup.objects.filter(state=BackupState.DELETED).values_list("deleted_at", flat=True)) == {later}
    assert [backup.created_at.hour for backup in three_copies] == [2, 2, 2]


def test_a_cleanup_that_a_guard_stops_is_refused_with_how_to_go_on(
    run: Run, cleanup: MaintenanceJob, three_copies: list[Backup]
) -> None:
    options_update(guard_pair_count=1)
    ended = run("run_maintenance", "cleanup")
    stopped = MaintenanceRun.objects.get()
    assert ended.status == 3
    assert "stopped: nightly / docs: This would delete 2 of 3 good copies" in ended.out
    assert f"python manage.py approve_cleanup {stopped.pk}" in ended.err
    assert Backup.objects.available().count() == 3
    as_json = run("run_maintenance", "cleanup", "--json")
    assert (as_json.status, as_json.value["outcome"]) == (3, "needs_approval")
    assert as_json.value["result"]["stops"][0]["kind"] == "pair_count"


def test_a_stop_that_nobody_can_approve_says_what_to_put_right(
    run: Run, cleanup: MaintenanceJob, three_copies: list[Backup], nightly: BackupJob
) -> None:
    # Approval would lift this one, but not the other.
    options_update(guard_pair_count=1)
    with storage_backend(nightly.storage).open() as storage:
        storage.raise_epoch(1000)
    ended = run("run_maintenance", "cleanup")
    assert ended.status == 3
    assert "reconcile_storage nas" in ended.out
    assert "approve_cleanup" not in ended.err
    assert Backup.objects.available().count() == 3


def test_a_dry_run_names_the_guards_that_would_stop_it(
    run: Run, cleanup: MaintenanceJob, three_copies: list[Backup]
) -> None:
    options_update(guard_pair_count=1)
    ended = run("run_maintenance", "cleanup", "--dry-run")
    assert ended.status == 0
    assert "stopped: nightly / docs: This would delete 2 of 3 good copies" in ended.out
    assert not MaintenanceRun.objects.exists()
    assert not CleanupPlan.objects.exists()


def test_emptying_the_trash_is_previewed_and_run(run: Run, cleanup: MaintenanceJob, three_copies: list[Backup]) -> None:
    MaintenanceJobFactory(key="purge", job_type=JobType.PURGE_TRASH)
    run("run_maintenance", "cleanup")
    Backup.objects.trashed().update(trashed_at=timezone.now() - timedelta(days=4))
    ended = run("run_maintenance", "purge", "--dry-run")
    assert ended.status == 0, ended.err
    assert three_copies[0].artifact.relative in ended.out
    assert Backup.objects.trashed().count() == 2
    assert run("run_maintenance", "purge").status == 0
    assert Backup.objects.filter(state=BackupState.DELETED).count() == 2
