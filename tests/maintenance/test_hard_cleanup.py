"""Cleanups whose ground moves under them: what changed since the plan, bad rows, strangers' files, disks that go."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.choices import BackupState
from backups.models import Backup, BackupJob
from backups.services.moved import BATCH
from backups.services.options import options_update
from backups.services.recovery import backups_recover
from backups.storage import ArtifactName, OpenStorage, StorageError
from maintenance.models import CleanupPlan, MaintenanceJob, MaintenanceRun
from scheduling.choices import RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from tests.factories import MaintenanceJobFactory
from tests.support import (
    add_backup,
    artifact_path,
    assert_catalogue_matches_storage,
    files_in,
    make_job,
    move_to_trash,
    now,
    purge,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_blast_radius")]


@pytest.fixture
def cleanup() -> MaintenanceJob:
    return MaintenanceJobFactory(key="by_hand", name="By hand")


@pytest.fixture
def emptying() -> MaintenanceJob:
    return MaintenanceJobFactory(key="emptying", name="Emptying", job_type="purge_trash")


def clean_up(job: MaintenanceJob, **request: Any) -> MaintenanceRun:
    run = scheduled_dispatch("maintenance", job.pk, inline=True, trigger=RunTrigger.COMMAND, **request)
    assert isinstance(run, MaintenanceRun)
    return run


def ten_days(job: BackupJob, **values: Any) -> list[Backup]:
    """Ten daily backups, oldest first."""
    return [add_backup(job, now() - timedelta(days=days), **values) for days in range(10, 0, -1)]


def hourly(job: BackupJob, count: int) -> list[Backup]:
    """Backups of the last hours, oldest first."""
    return [add_backup(job, now() - timedelta(hours=hours)) for hours in range(count, 0, -1)]


def test_a_cleanup_that_is_stopped_midway_is_cancelled_and_says_what_it_did(
    tmp_path: Path, cleanup: MaintenanceJob
) -> None:
    job = make_job(tmp_path)
    hourly(job, 120)
    options_update(retention={"keep_last": 3})
    stop = threading.Event()

    def at_the_second_batch(_level: str, _text: str) -> None:
        if Backup.objects.trashed().count() == 2 * BATCH:
            stop.set()

    run = clean_up(cleanup, stop=stop, echo=at_the_second_batch)
    assert run.status == RunStatus.CANCELLED
    assert run.result_json["deleted_count"] == Backup.objects.trashed().count() == 2 * BATCH
    assert run.result_json["pairs"][0]["deleted"] == 2 * BATCH
    assert not run.plans.get().pairs.get().carried_out
    assert_catalogue_matches_storage(job.storage)


def test_a_copy_that_became_the_newest_verified_one_since_the_plan_stays(tmp_path: Path) -> None:
    """R5, in the deleting transaction: the newer verified copy was quarantined meanwhile."""
    backups = ten_days(make_job(tmp_path))
    stale = backups[0]
    Backup.objects.filter(pk=stale.pk).update(verified_at=now())
    assert "newest verified" in move_to_trash(stale).left[0][1]
    assert artifact_path(stale).exists()
    Backup.objects.filter(pk=backups[5].pk).update(verified_at=now())
    move_to_trash(stale)
    assert Backup.objects.get(pk=stale.pk).state == BackupState.TRASHED


def test_a_copy_from_the_future_does_not_stand_in_for_the_last_good_one(tmp_path: Path) -> None:
    """R3 and R6, in the deleting transaction."""
    job = make_job(tmp_path)
    last = add_backup(job, now() - timedelta(days=1))
    add_backup(job, now() + timedelta(days=30), verified_at=now())
    assert "fewer than 1" in move_to_trash(last).left[0][1]
    assert Backup.objects.get(pk=last.pk).state == BackupState.AVAILABLE


def test_what_another_cleanup_took_first_is_not_a_failure(
    tmp_path: Path, cleanup: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    backups = ten_days(job)
    options_update(retention={"keep_last": 3})
    real, first = OpenStorage.verify, []

    def other_is_quicker(self: OpenStorage) -> None:
        real(self)
        if CleanupPlan.objects.exists() and not first:
            first.append(self)
            move_to_trash(backups[2])

    monkeypatch.setattr(OpenStorage, "verify", other_is_quicker)
    run = clean_up(cleanup)
    assert run.status == RunStatus.SUCCEEDED
    assert (run.result_json["deleted_count"], run.result_json["left_alone_count"]) == (6, 1)
    assert Backup.objects.trashed().count() == 7


def test_a_strangers_file_with_a_name_that_is_no_text_is_reported(tmp_path: Path, cleanup: MaintenanceJob) -> None:
    job = make_job(tmp_path)
    ten_days(job)
    stranger = os.fsencode(job.storage.path) + b"/caf\xe9\x1b[31m.jpg"
    with open(stranger, "wb") as file:  # noqa: PTH123 (a name that is bytes)
        file.write(b"jpg")
    run = clean_up(cleanup)
    assert run.status == RunStatus.SUCCEEDED
    assert run.result_json["unknown_count"] == 1
    run.result_json["unknown_files"][0].encode()
    assert run.result_json["unknown_files"][0].isprintable()


def test_a_row_in_the_trash_that_names_no_file_does_not_keep_the_others_from_being_purged(
    tmp_path: Path, emptying: MaintenanceJob
) -> None:
    backups = ten_days(make_job(tmp_path))
    options_update(trash_hours=1)
    for backup in backups[:3]:
        move_to_trash(backup, now=now() - timedelta(hours=20))
    Backup.objects.filter(trashed_at__isnull=False).update(trashed_at=now() - timedelta(days=2))
    Backup.objects.filter(pk=backups[0].pk).update(folder="../elsewhere")
    run = clean_up(emptying)
    assert run.status == RunStatus.FAILED
    assert run.result_json["purged_count"] == 2
    assert Backup.objects.get(pk=backups[0].pk).state == BackupState.TRASHED


@pytest.mark.parametrize("options", [{"retention": [1]}, {"retention": {"keep_last": "many"}}], ids=["list", "text"])
def test_a_policy_that_cannot_be_read_deletes_nothing(
    tmp_path: Path, cleanup: MaintenanceJob, options: dict[str, Any]
) -> None:
    job = make_job(tmp_path)
    ten_days(job)
    options_update(trash_hours=1)
    type(job).objects.update(retention=options["retention"])
    run = clean_up(cleanup)
    assert run.status == RunStatus.FAILED
    assert job.backups.available().count() == 10


def test_a_disk_that_goes_between_two_deletions_keeps_what_is_left(tmp_path: Path, cleanup: MaintenanceJob) -> None:
    job = make_job(tmp_path)
    hourly(job, 70)
    options_update(retention={"keep_last": 3})
    place, away = Path(job.storage.path), tmp_path / "away"

    def unmount_after_the_first(_level: str, _text: str) -> None:
        if Backup.objects.trashed().exists() and not away.exists():
            place.rename(away)
            place.mkdir()

    run = clean_up(cleanup, echo=unmount_after_the_first)
    assert run.status == RunStatus.FAILED
    assert "Check the mount" in run.message
    assert (Backup.objects.trashed().count(), Backup.objects.available().count()) == (BATCH, 20)
    assert list(place.iterdir()) == []
    place.rmdir()
    away.rename(place)
    assert_catalogue_matches_storage(job.storage)


def test_what_came_to_the_trash_since_the_plan_is_not_purged(tmp_path: Path) -> None:
    """R15, in the purging statement: brought back and trashed again, its hours begin anew."""
    job = make_job(tmp_path)
    backup = add_backup(job, now() - timedelta(days=2), state=BackupState.TRASHED, trashed_at=now())
    assert "no longer due" in purge(backup, trashed_before=now() - timedelta(hours=72)).left[0][1]
    backup.refresh_from_db()
    assert backup.state == BackupState.TRASHED


def test_a_disk_that_goes_just_before_the_move_leaves_no_row_that_says_missing(
    tmp_path: Path, cleanup: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R9 and R10: the sentinel is looked at once more before a copy is called missing."""
    job = make_job(tmp_path)
    ten_days(job)
    options_update(retention={"keep_last": 3})
    root, away = Path(job.storage.path), tmp_path / "away"
    real = OpenStorage.move_all_to_trash

    def unplugged(self: OpenStorage, names: Sequence[ArtifactName]) -> dict[ArtifactName, StorageError]:
        if not away.exists():
            away.mkdir()
            for entry in list(root.iterdir()):
                entry.rename(away / entry.name)
        return real(self, names)

    monkeypatch.setattr(OpenStorage, "move_all_to_trash", unplugged)
    run = clean_up(cleanup)
    monkeypatch.undo()
    assert run.status == RunStatus.FAILED
    assert "sentinel" in run.message
    assert not Backup.objects.filter(state=BackupState.MISSING).exists()
    for entry in list(root.iterdir()):  # the trash that the mount point itself was given
        entry.rmdir()
    for entry in away.iterdir():
        entry.rename(root / entry.name)
    Backup.objects.filter(holder__gt="").update(holder="0" * 24)
    backups_recover()
    assert Backup.objects.available().count() == 10
    assert_catalogue_matches_storage(job.storage)


def test_deletions_that_failed_are_not_counted_as_done(
    tmp_path: Path, cleanup: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    ten_days(job)
    options_update(retention={"keep_last": 3})
    real = OpenStorage.move_all_to_trash

    def mostly_read_only(self: OpenStorage, names: Sequence[ArtifactName]) -> dict[ArtifactName, StorageError]:
        refused = {name: StorageError("Storage nas is mounted read-only.") for name in names[2:]}
        return {**real(self, names[:2]), **refused}

    monkeypatch.setattr(OpenStorage, "move_all_to_trash", mostly_read_only)
    figures = clean_up(cleanup).result_json
    assert (figures["deleted_count"], figures["failed_count"], figures["pairs"][0]["deleted"]) == (2, 5, 2)
    assert figures["targets_processed"] == 1


def test_four_hundred_nights_without_a_backup_keep_what_the_first_night_kept(
    tmp_path: Path, cleanup: MaintenanceJob, emptying: MaintenanceJob
) -> None:
    job = make_job(tmp_path)
    start = now().replace(hour=2, minute=0, second=0, microsecond=0) - timedelta(days=500)
    for day in range(60):
        add_backup(job, start + timedelta(days=day))
    options_update(retention={"keep_last": 3, "keep_daily": 7, "keep_weekly": 4, "keep_monthly": 12}, trash_hours=72)
    kept: set[str] = set()
    for night in range(400):
        moment = start + timedelta(days=60 + night, hours=1)
        run = clean_up(cleanup, now=lambda at=moment: at)
        assert run.status == RunStatus.SUCCEEDED
        assert clean_up(emptying, now=lambda at=moment: at).status == RunStatus.SUCCEEDED
        left = set(Backup.objects.available().values_list("uid", flat=True))
        kept = kept or left
        assert left == kept
    assert 9 <= len(kept) <= 14
    assert Backup.objects.filter(state=BackupState.DELETED).count() == 60 - len(kept)
    assert len(files_in(job.storage)) == 2 * len(kept)
