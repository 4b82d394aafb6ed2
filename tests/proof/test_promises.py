"""What the mutants of the promises need in order to be noticed, beside the tests that were there already."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.choices import AttemptStatus, BackupState
from backups.models import AuditAction, AuditEntry, Backup, BackupJob, Storage
from backups.services.catalogue import backup_quarantine
from backups.services.epochs import OldDatabaseError
from backups.services.options import options_update
from backups.services.protections import backup_pin
from backups.services.recovery import backups_recover
from backups.services.trash import backups_untrash
from backups.storage import ArtifactName, OpenStorage, StorageError
from maintenance.approvals import plan_approve
from maintenance.models import CleanupPlanPair, MaintenanceRun
from maintenance.plans import policy_hash
from maintenance.retention_plans import retention_plans
from scheduling.choices import RunOutcome, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.executing import execute_run
from tests.factories import BackupRunFactory, BackupRunTargetFactory
from tests.support import (
    add_backup,
    artifact_path,
    assert_catalogue_matches_storage,
    default_jobs,
    make_job,
    move_to_trash,
    now,
    purge,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_blast_radius")]


def hourly(job: BackupJob, count: int) -> list[Backup]:
    """Copies of the last hours, oldest first."""
    return [add_backup(job, now() - timedelta(hours=hours)) for hours in range(count, 0, -1)]


def clean_up(**request: Any) -> MaintenanceRun:
    job = default_jobs()["retention_cleanup_nightly"]
    run = scheduled_dispatch("maintenance", job.pk, inline=True, trigger=RunTrigger.COMMAND, **request)
    assert isinstance(run, MaintenanceRun)
    return run


def test_a_copy_that_is_no_longer_good_is_left_by_a_cleanup_that_planned_to_delete_it(tmp_path: Path) -> None:
    """R4, in the deleting transaction: what is suspect now is no reason for a good copy's going, nor goes itself."""
    backups = hourly(make_job(tmp_path), 4)
    Backup.objects.filter(pk=backups[0].pk).update(suspect_reason="tiny")
    backup_quarantine(backup=backups[1], reason="Its file's sha256 is another.")
    result = move_to_trash(*backups[:3])
    assert {backup.uid for backup in result.done} == {backups[2].uid}
    assert all("changed since the plan" in why for _, why in result.left)
    assert artifact_path(backups[0]).is_file()
    assert artifact_path(backups[1]).is_file()


def test_a_disk_that_goes_before_recovery_looks_takes_nothing_out_of_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R10: the sentinel is looked at once more before recovery calls a copy missing."""
    job = make_job(tmp_path)
    backup, _ = hourly(job, 2)
    Backup.objects.filter(pk=backup.pk).update(state=BackupState.DELETING, holder="0" * 24)
    root, away = Path(job.storage.path), tmp_path / "away"
    away.mkdir()
    real = OpenStorage.stat

    def unplugged(self: OpenStorage, name: ArtifactName) -> int | None:
        for entry in list(root.iterdir()):
            entry.rename(away / entry.name)
        return real(self, name)

    monkeypatch.setattr(OpenStorage, "stat", unplugged)
    backups_recover()
    monkeypatch.undo()
    assert Backup.objects.get(pk=backup.pk).state == BackupState.DELETING
    for entry in away.iterdir():
        entry.rename(root / entry.name)
    backups_recover()
    assert Backup.objects.get(pk=backup.pk).state == BackupState.AVAILABLE
    assert_catalogue_matches_storage(job.storage)


def test_a_database_from_before_a_backup_deletes_nothing(tmp_path: Path) -> None:
    """R11: a copy that the database does not know is a change as well."""
    job = make_job(tmp_path)
    backups = hourly(job, 3)
    before = Storage.objects.get(pk=job.storage_id).epoch
    run = scheduled_dispatch("backup", job.pk, inline=True, trigger=RunTrigger.COMMAND)
    assert run is not None
    assert run.status == "succeeded"
    Backup.objects.filter(run=run.pk).delete()
    Storage.objects.update(epoch=before)
    with pytest.raises(OldDatabaseError):
        move_to_trash(backups[0])
    assert artifact_path(backups[0]).is_file()


def test_a_plan_says_what_keeps_a_protected_copy(tmp_path: Path) -> None:
    """R19: the plan keeps it already; the deleting transaction is the second look, not the first."""
    backups = hourly(make_job(tmp_path), 4)
    backup_pin(backup=backups[0], by="anna", note="tax records")
    options_update(retention={"keep_last": 1})
    (planned,) = retention_plans().plans
    assert {verdict.uid for verdict in planned.plan.delete} == {backups[1].uid, backups[2].uid}
    (pinned,) = [verdict for verdict in planned.plan.keep if verdict.uid == backups[0].uid]
    assert "pinned for ever by anna: tax records" in pinned.text


def test_a_purge_is_in_the_audit_before_the_bytes_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R21."""
    backup, _ = hourly(make_job(tmp_path), 2)
    move_to_trash(backup, verdict={"keep": False, "reasons": [{"kind": "replaced", "text": "daily: one is newer"}]})
    seen: list[AuditEntry] = []
    real = OpenStorage.purge_all

    def look_first(self: OpenStorage, names: Sequence[ArtifactName]) -> dict[ArtifactName, StorageError]:
        assert all(self.in_trash(name) for name in names)
        seen.extend(AuditEntry.objects.filter(action=AuditAction.PURGE))
        return real(self, names)

    monkeypatch.setattr(OpenStorage, "purge_all", look_first)
    assert purge(backup).done
    (entry,) = seen
    assert (entry.backup_uid, entry.artifact) == (backup.uid, backup.artifact.relative)
    assert (entry.actor, entry.run) == ("test", "maintenance:2")
    assert (entry.size, entry.sha256, entry.reason) == (backup.size, backup.sha256, "daily: one is newer")


def test_the_audit_names_the_plan_the_policy_and_the_reason_of_every_deletion(tmp_path: Path) -> None:
    """R21."""
    backups = hourly(make_job(tmp_path), 4)
    options_update(retention={"keep_last": 2})
    run = clean_up()
    (pair,) = run.plans.get().pairs.all()
    entries = AuditEntry.objects.filter(action=AuditAction.TRASH)
    assert {entry.backup_uid for entry in entries} == {backup.uid for backup in backups[:2]}
    for entry in entries:
        assert (entry.run, entry.plan_digest) == (f"maintenance:{run.pk}", pair.digest)
        assert entry.policy_hash == pair.policy_hash == policy_hash(retention_plans().plans[0].plan.policy)
        assert "last" in entry.reason


def test_a_backup_that_begins_during_a_cleanup_stops_it(tmp_path: Path) -> None:
    """R22: of the next batch nothing goes before the new copy is published and checked."""
    job = make_job(tmp_path)
    hourly(job, 60)
    options_update(retention={"keep_last": 2})

    def begins(_level: str, text: str) -> None:
        if "moved to the trash" in text and not job.runs.exists():
            BackupRunTargetFactory(
                run=BackupRunFactory(job=job, running=True),
                target=job.targets.get(),
                status=AttemptStatus.RUNNING,
                active=True,
            )

    run = clean_up(echo=begins)
    assert (run.outcome, Backup.objects.available().count()) == (RunOutcome.WARNING, 10)
    assert "A new copy is being made" in run.message
    assert not run.plans.get().pairs.get().carried_out


def test_copies_that_come_in_while_a_plan_waits_do_not_make_it_small_enough(tmp_path: Path) -> None:
    """R7: 3 of 8 wait; 4 more come in, and 3 of 12 would be a quarter."""
    job = make_job(tmp_path)
    for days in range(20, 12, -1):
        add_backup(job, now() - timedelta(days=days))
    options_update(guard_pair_share=25)
    assert clean_up().outcome == RunOutcome.OK
    options_update(retention={"keep_last": 5})
    assert clean_up().outcome == RunOutcome.NEEDS_APPROVAL
    CleanupPlanPair.objects.update(planned_at=now() - timedelta(days=12, hours=12))
    for days in range(12, 8, -1):
        add_backup(job, now() - timedelta(days=days))
    assert clean_up().outcome == RunOutcome.NEEDS_APPROVAL
    assert Backup.objects.available().count() == 12


def test_a_plan_of_as_many_other_copies_is_another_plan(tmp_path: Path) -> None:
    """R14: approved for six copies, and by now six others would go."""
    job = make_job(tmp_path)
    backups = hourly(job, 20)
    options_update(guard_pair_share=25, retention={"keep_last": 14})
    plan = clean_up().plans.get()
    approved = plan_approve(plan=plan, digest=plan.digest, by="anna", trigger=RunTrigger.MANUAL)
    assert move_to_trash(backups[0]).done
    add_backup(job, now())
    run = execute_run("maintenance", approved.pk)
    assert run is not None
    assert run.outcome == RunOutcome.NEEDS_APPROVAL
    assert "changed" in {stop["kind"] for stop in run.result_json["stops"]}
    assert Backup.objects.available().count() == 20


def test_a_copy_that_is_brought_back_is_pinned_although_an_earlier_pin_has_ended(tmp_path: Path) -> None:
    backup, _ = hourly(make_job(tmp_path), 2)
    backup_pin(backup=backup, by="bert", until=now() + timedelta(days=1))
    Backup.objects.filter(pk=backup.pk).update(pin_until=now() - timedelta(minutes=1))
    move_to_trash(backup)
    (back,) = backups_untrash(backups=[backup], by="anna").done
    assert (back.pinned_by, back.is_pinned(now() + timedelta(days=29))) == ("anna", True)
