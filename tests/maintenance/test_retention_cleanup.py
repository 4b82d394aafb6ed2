"""The promises of a cleanup (R1 and so on are the design's numbers), on real folders."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.choices import BackupState
from backups.models import Backup, BackupJob
from backups.services.options import options_update
from backups.storage import OpenStorage, StorageError
from maintenance.models import MaintenanceJob, MaintenanceRun
from maintenance.running import execute_maintenance_job, preview_maintenance_job
from maintenance.services import CLEANUP_MANUAL, PURGE_TRASH, get_job_by_key
from scheduling.choices import RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from tests.support import (
    add_backup,
    artifact_path,
    assert_catalogue_matches_storage,
    default_jobs,
    files_in,
    make_job,
    make_storage,
    make_target,
    now,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_blast_radius")]
KEEP_THREE = {"keep_last": 3}


@pytest.fixture(autouse=True)
def manual_job(db: None) -> MaintenanceJob:
    return MaintenanceJob.objects.get_or_create(
        key=CLEANUP_MANUAL, defaults={"name": "By hand", "job_type": "retention_cleanup", "visible_in_ui": False}
    )[0]


def clean_up(**params: int) -> MaintenanceRun:
    job = get_job_by_key(CLEANUP_MANUAL)
    run = scheduled_dispatch("maintenance", job.pk, inline=True, trigger=RunTrigger.COMMAND, params=params)
    assert isinstance(run, MaintenanceRun)
    return run


def empty_trash() -> MaintenanceRun:
    job = default_jobs()[PURGE_TRASH]
    run = scheduled_dispatch("maintenance", job.pk, inline=True, trigger=RunTrigger.COMMAND)
    assert isinstance(run, MaintenanceRun)
    return run


def ten_days(job: BackupJob, **values: Any) -> list[Backup]:
    """Ten daily backups, oldest first."""
    return [add_backup(job, now() - timedelta(days=days), **values) for days in range(10, 0, -1)]


def states() -> list[str]:
    """Of every backup, oldest first."""
    return list(Backup.objects.order_by("created_at").values_list("state", flat=True))


def test_a_cleanup_moves_what_no_rule_holds_to_the_trash_and_keeps_history(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    backups = ten_days(job)
    options_update(retention=KEEP_THREE)
    run = clean_up()
    assert run.status == RunStatus.SUCCEEDED
    assert states() == ["trashed"] * 7 + ["available"] * 3
    figures = run.result_json
    assert {key: figures[key] for key in ("targets_processed", "deleted_count", "kept_count", "failed_count")} == {
        "targets_processed": 1,
        "deleted_count": 7,
        "kept_count": 3,
        "failed_count": 0,
    }
    assert sorted(figures["deleted_paths"]) == sorted(backup.artifact.relative for backup in backups[:7])
    assert_catalogue_matches_storage(job.storage)


def test_every_deletion_carries_its_reasons(tmp_path: Path) -> None:
    ten_days(make_job(tmp_path))
    options_update(retention=KEEP_THREE)
    run = clean_up()
    oldest = Backup.objects.order_by("created_at")[0]
    assert oldest.verdict is not None
    assert oldest.verdict["reasons"]
    assert oldest.removed_by == f"maintenance:{run.pk}"
    assert any(oldest.artifact.relative in line.text and "last" in line.text for line in run.log_lines.all())


def test_a_second_cleanup_changes_nothing(tmp_path: Path) -> None:
    ten_days(make_job(tmp_path))
    options_update(retention=KEEP_THREE)
    clean_up()
    before = states()
    assert clean_up().result_json["deleted_count"] == 0
    assert states() == before


def test_one_pair_alone_can_be_cleaned_up(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    other = make_job(tmp_path, name="other", targets=("www",))
    ten_days(job)
    ten_days(other)
    options_update(retention=KEEP_THREE)
    run = clean_up(job_id=job.pk, target_id=job.targets.get().pk)
    assert run.result_json["targets_processed"] == 1
    assert job.backups.trashed().count() == 7
    assert other.backups.trashed().count() == 0


def test_a_jobs_own_policy_goes_before_the_one_in_options(tmp_path: Path) -> None:
    job = make_job(tmp_path, retention={"keep_last": 5})
    ten_days(job)
    options_update(retention=KEEP_THREE)
    clean_up()
    assert job.backups.available().count() == 5


def test_nothing_is_purged_before_its_time_and_everything_after(tmp_path: Path) -> None:
    """R15: trash first, purge later."""
    job = make_job(tmp_path)
    ten_days(job)
    options_update(retention=KEEP_THREE, trash_hours=72)
    clean_up()
    Backup.objects.trashed().update(trashed_at=now() - timedelta(hours=71))
    assert empty_trash().result_json["purged_count"] == 0
    Backup.objects.trashed().update(trashed_at=now() - timedelta(hours=73))
    run = empty_trash()
    assert (run.result_json["purged_count"], run.result_json["freed_bytes"]) == (7, 7 * 64)
    assert states() == ["deleted"] * 7 + ["available"] * 3
    assert all(Backup.objects.filter(state="deleted").values_list("deleted_at", flat=True))
    assert_catalogue_matches_storage(job.storage)


def test_unknown_files_are_reported_and_left_alone(tmp_path: Path) -> None:
    """R1: only published artifacts that the catalogue lists are ever deleted."""
    job = make_job(tmp_path)
    ten_days(job)
    options_update(retention=KEEP_THREE)
    root = Path(job.storage.path)
    stranger = root / "etc" / "2020-01-01T000000Z-00112233aabbccdd.tar.zst"
    stranger.write_bytes(b"somebody's only copy")
    (root / "holiday.jpg").write_bytes(b"jpg")
    run = clean_up()
    assert stranger.read_bytes() == b"somebody's only copy"
    assert (root / "holiday.jpg").exists()
    assert run.result_json["unknown_count"] == 2
    assert run.outcome == "warning"


def test_copies_of_another_pair_in_the_same_folder_are_left_alone(tmp_path: Path) -> None:
    """R1: of its own pair."""
    storage = make_storage(tmp_path)
    job = make_job(tmp_path, storage=storage, retention=KEEP_THREE)
    other = make_job(tmp_path, name="other", targets=("ETC",), storage=storage)
    ten_days(job)
    ten_days(other)
    clean_up()
    assert job.backups.available().count() == 3
    assert other.backups.available().count() == 10


@pytest.mark.parametrize("policy", [{}, {"keep_last": 0}, {"keep_daily": 0, "keep_weekly": None, "keep_within": ""}])
def test_an_empty_policy_keeps_everything(tmp_path: Path, policy: dict[str, Any]) -> None:
    """R2."""
    ten_days(make_job(tmp_path))
    options_update(retention=policy)
    run = clean_up()
    assert states() == ["available"] * 10
    assert run.status == RunStatus.SUCCEEDED


def test_a_pair_never_falls_under_its_minimum(tmp_path: Path) -> None:
    """R3."""
    ten_days(make_job(tmp_path))
    options_update(retention={"keep_last": 1}, minimum_keep=4)
    clean_up()
    assert states() == ["trashed"] * 6 + ["available"] * 4


def test_with_no_good_copy_left_nothing_is_deleted(tmp_path: Path) -> None:
    """R3 and R4: a pair of suspects loses none."""
    ten_days(make_job(tmp_path), suspect_reason="tiny")
    options_update(retention={"keep_last": 1})
    clean_up()
    assert states() == ["available"] * 10


def test_copies_that_are_not_good_use_no_slot(tmp_path: Path) -> None:
    """R4: three good ones stay although newer suspect, missing and quarantined ones exist."""
    job = make_job(tmp_path)
    good = [add_backup(job, now() - timedelta(days=days)) for days in (9, 8, 7, 6)]
    add_backup(job, now() - timedelta(days=3), suspect_reason="tiny")
    add_backup(job, now() - timedelta(days=2), state=BackupState.MISSING)
    add_backup(job, now() - timedelta(days=1), state=BackupState.QUARANTINED)
    options_update(retention=KEEP_THREE)
    clean_up()
    assert states() == ["trashed", "available", "available", "available", "available", "missing", "quarantined"]
    assert [Backup.objects.get(pk=backup.pk).state for backup in good[1:]] == ["available"] * 3


def test_the_newest_verified_copy_stays_although_newer_unverified_ones_exist(tmp_path: Path) -> None:
    """R5."""
    backups = ten_days(make_job(tmp_path))
    Backup.objects.filter(pk__in=[backups[0].pk, backups[1].pk]).update(verified_at=now())
    options_update(retention=KEEP_THREE)
    clean_up()
    assert states() == ["trashed", "available", *["trashed"] * 5, *["available"] * 3]


def test_when_backups_stop_nothing_more_is_deleted(tmp_path: Path) -> None:
    """R6: windows are anchored at the newest copy, not at the wall clock."""
    job = make_job(tmp_path)
    newest = now() - timedelta(days=391)
    for days in range(9, -1, -1):
        add_backup(job, newest - timedelta(days=days))
    options_update(retention={"keep_within": "5d1h"})
    clean_up()
    assert states() == ["trashed"] * 4 + ["available"] * 6


def test_copies_from_the_future_are_neither_deleted_nor_counted(tmp_path: Path) -> None:
    """R6."""
    job = make_job(tmp_path)
    ten_days(job)
    future = add_backup(job, now() + timedelta(days=400))
    options_update(retention=KEEP_THREE)
    clean_up()
    assert states() == ["trashed"] * 7 + ["available"] * 4
    assert Backup.objects.get(pk=future.pk).state == BackupState.AVAILABLE


@pytest.mark.parametrize("harm", ["emptied", "unmounted", "foreign"])
def test_a_storage_that_is_not_itself_is_left_alone(tmp_path: Path, harm: str) -> None:
    """R9: unmounted is not empty."""
    job = make_job(tmp_path)
    ten_days(job)
    options_update(retention=KEEP_THREE)
    root, away = Path(job.storage.path), tmp_path / "away"
    root.rename(away)
    if harm != "unmounted":
        root.mkdir()
    if harm == "foreign":
        other = make_storage(tmp_path, "other")
        (root / ".keepwell-storage.json").write_bytes((Path(other.path) / ".keepwell-storage.json").read_bytes())
    run = clean_up()
    assert run.status == RunStatus.FAILED
    assert job.storage.name in run.message
    assert states() == ["available"] * 10
    assert len(list(away.rglob("*.tar.zst"))) == 10


def test_a_pair_whose_storage_is_away_fails_the_run_and_the_others_are_cleaned_up(tmp_path: Path) -> None:
    gone = make_job(tmp_path, name="a-gone")
    there = make_job(tmp_path, name="b-there", targets=("www",))
    ten_days(gone)
    ten_days(there)
    options_update(retention=KEEP_THREE)
    Path(gone.storage.path).rename(tmp_path / "away")
    run = clean_up()
    assert run.status == RunStatus.FAILED
    assert there.backups.trashed().count() == 7
    assert gone.backups.available().count() == 10
    assert run.result_json["failed_paths"] == ["a-gone / etc"]


def test_a_pair_that_meets_the_unexpected_fails_the_run_and_the_others_are_cleaned_up(tmp_path: Path) -> None:
    """R13: a row that names a place outside its storage is never followed there."""
    bad = make_job(tmp_path, name="a-bad")
    good = make_job(tmp_path, name="b-good", targets=("www",))
    ten_days(bad)
    ten_days(good)
    precious = tmp_path / "precious"
    precious.mkdir()
    Backup.objects.filter(job=bad).update(folder="../precious")
    for backup in Backup.objects.filter(job=bad):
        (precious / f"{backup.created_at:%Y-%m-%dT%H%M%SZ}-{backup.uid}.tar.zst").write_bytes(b"precious")
    options_update(retention=KEEP_THREE)
    run = clean_up()
    assert run.status == RunStatus.FAILED
    assert len(list(precious.iterdir())) == 10
    assert bad.backups.available().count() == 10
    assert good.backups.trashed().count() == 7


def test_a_folder_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    """R13."""
    job = make_job(tmp_path)
    ten_days(job)
    options_update(retention=KEEP_THREE)
    folder = Path(job.storage.path) / "etc"
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    run = clean_up()
    assert run.status == RunStatus.FAILED
    assert len(list(elsewhere.glob("*.tar.zst"))) == 10


def test_a_file_that_is_not_there_is_missing_not_deleted(tmp_path: Path) -> None:
    """R10."""
    job = make_job(tmp_path)
    backups = ten_days(job)
    artifact_path(backups[0]).unlink()
    options_update(retention=KEEP_THREE)
    run = clean_up()
    assert states() == ["missing", *["trashed"] * 6, *["available"] * 3]
    assert run.status == RunStatus.FAILED
    assert run.result_json["failed_paths"] == [backups[0].artifact.relative]
    assert Backup.objects.get(pk=backups[0].pk).state_reason


def test_the_catalogue_says_it_first_and_the_sidecar_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R17, watched at the storage's own calls."""
    job = make_job(tmp_path)
    ten_days(job)
    options_update(retention={"keep_last": 9}, trash_hours=0)
    seen: list[tuple[str, str]] = []
    for call in ("move_all_to_trash", "move_sidecars_to_trash", "purge_all"):
        original = getattr(OpenStorage, call)

        def watched(self: OpenStorage, names: Any, *, _call: str = call, _original: Any = original) -> Any:
            seen.extend((_call, Backup.objects.get(uid=name.uid).state) for name in names)
            return _original(self, names)

        monkeypatch.setattr(OpenStorage, call, watched)
    unlinked: list[str] = []
    real_unlink = os.unlink

    def unlink(path: Any, *args: Any, **kwargs: Any) -> None:
        unlinked.append(str(path))
        real_unlink(path, *args, **kwargs)

    monkeypatch.setattr(os, "unlink", unlink)
    clean_up()
    Backup.objects.trashed().update(trashed_at=now() - timedelta(hours=1))
    empty_trash()
    assert seen == [
        ("move_all_to_trash", "deleting"),
        ("move_sidecars_to_trash", "deleting"),
        ("purge_all", "purging"),
    ]
    removed = [name for name in unlinked if ".tar.zst" in name]
    assert removed[0].endswith(".tar.zst")
    assert removed[1].endswith(".meta.json")


def test_a_move_that_fails_leaves_the_copy_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path)
    ten_days(job)
    options_update(retention=KEEP_THREE)

    def refuse(_self: OpenStorage, _names: Any) -> None:
        raise StorageError("Storage nas is mounted read-only.")

    monkeypatch.setattr(OpenStorage, "move_all_to_trash", refuse)
    run = clean_up()
    assert run.status == RunStatus.FAILED
    assert run.result_json["failed_count"] == 7
    assert states() == ["available"] * 10
    assert_catalogue_matches_storage(job.storage)


def test_backups_of_a_deleted_job_are_left_alone_for_ever(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    ten_days(job)
    options_update(retention=KEEP_THREE)
    job.delete()
    run = clean_up()
    assert states() == ["available"] * 10
    assert run.result_json["targets_processed"] == 0


def test_sixty_days_then_four_hundred_nights_end_where_the_first_night_did(tmp_path: Path) -> None:
    """The planner is asked for each night; the catalogue is cleaned up on the first, in the middle and at the end."""
    job = make_job(tmp_path, targets=("etc",))
    for days in range(60, 0, -1):
        add_backup(job, datetime(2026, 1, 1, 23, tzinfo=UTC) + timedelta(days=60 - days))
    options_update(retention={"keep_last": 3, "keep_daily": 7, "keep_weekly": 4, "keep_monthly": 12})
    clean_up()
    first = states()
    for _ in range(5):
        clean_up()
    assert states() == first
    assert first.count("available") > 10


def test_a_preview_says_the_same_and_changes_nothing(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    ten_days(job)
    options_update(retention=KEEP_THREE)
    before = files_in(job.storage)
    preview = preview_maintenance_job(get_job_by_key(CLEANUP_MANUAL))
    assert states() == ["available"] * 10
    assert files_in(job.storage) == before
    assert not MaintenanceRun.objects.exists()
    figures = clean_up().result_json
    for key in ("targets_processed", "deleted_count", "kept_count", "failed_count", "deleted_paths"):
        assert preview.figures[key] == figures[key]


def test_a_cleanup_without_backups_succeeds_and_says_so() -> None:
    run = clean_up()
    assert run.status == RunStatus.SUCCEEDED
    assert "no backups yet" in run.message


def test_execute_maintenance_job_runs_to_the_end_and_knows_no_ghosts() -> None:
    assert execute_maintenance_job(get_job_by_key(CLEANUP_MANUAL).pk, trigger=RunTrigger.COMMAND).status == "succeeded"  # type: ignore[union-attr]
    assert execute_maintenance_job(999_999) is None


def test_two_targets_of_one_job_are_two_pairs(tmp_path: Path) -> None:
    job = make_job(tmp_path, targets=("etc", "www"))
    for target in job.targets.all():
        ten_days(job, target=target)
    options_update(retention=KEEP_THREE)
    run = clean_up()
    assert run.result_json["targets_processed"] == 2
    assert Backup.objects.available().count() == 6


def test_a_target_taken_out_of_its_job_is_still_looked_after(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    ten_days(job)
    job.targets.set([make_target(tmp_path, "www")])
    options_update(retention=KEEP_THREE)
    clean_up()
    assert Backup.objects.available().count() == 3
