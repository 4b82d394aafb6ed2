"""Backups and recovery while jobs, targets, storages and rows change or break under them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError

from backups.choices import AttemptStatus, BackupState
from backups.models import Backup, BackupJob, BackupRun, BackupRunTarget, Storage, Target
from backups.services.jobs import job_create
from backups.services.recovery import backups_recover
from backups.services.storages import storage_backend, storage_delete, storage_update
from backups.storage import ArtifactName, Sidecar, new_uid
from scheduling import holders
from scheduling.choices import RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from tests.factories import HostFactory
from tests.support import (
    add_backup,
    artifact_path,
    assert_catalogue_matches_storage,
    files_in,
    make_job,
    make_storage,
    now,
)

pytestmark = pytest.mark.django_db
DEAD = "0" * 24


def run_job(job: BackupJob, meanwhile: Callable[[], None] = lambda: None) -> BackupRun:
    """Run a job, with `meanwhile` called once, at its first log line."""
    calls: list[str] = []

    def echo(_level: str, text: str) -> None:
        if not calls:
            calls.append(text)
            meanwhile()

    run = scheduled_dispatch("backup", job.pk, inline=True, trigger=RunTrigger.COMMAND, echo=echo)
    assert isinstance(run, BackupRun)
    return run


def published_by_a_dead_process(job: BackupJob) -> BackupRunTarget:
    """An attempt whose copy lies complete on the storage and is not in the catalogue."""
    run = BackupRun.objects.create(job=job, job_name=job.name, status="lost", started_at=now(), finished_at=now())
    name = ArtifactName(folder="etc", created=now().replace(microsecond=0), uid=new_uid(), suffix=".tar.zst")
    with storage_backend(job.storage).open() as storage, storage.stage(name, run.pk, 1) as staged:
        staged.file.write(b"x" * 10)
        staged.publish(
            Sidecar(name=name, target="etc", kind="files", job=job.name, run="1", size=10, sha256="a" * 64).to_mapping()
        )
    return BackupRunTarget.objects.create(
        run=run,
        target=job.targets.get(),
        target_name="etc",
        storage=job.storage,
        status="lost",
        active=False,
        unsettled=True,
        uid=name.uid,
        folder=name.folder,
        suffix=name.suffix,
        stamped_at=name.created,
    )


def test_a_job_that_is_deleted_while_it_runs_leaves_its_copy_in_the_catalogue(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    run = run_job(job, lambda: BackupJob.objects.filter(pk=job.pk).delete() and None)
    assert run.status == RunStatus.SUCCEEDED
    backup = Backup.objects.get()
    assert (backup.job, backup.job_name, backup.target_name) == (None, "nightly", "etc")
    assert_catalogue_matches_storage(backup.storage)


def test_a_target_that_is_deleted_while_it_is_read_leaves_its_copy_in_the_catalogue(tmp_path: Path) -> None:
    job = make_job(tmp_path)

    def delete() -> None:
        job.targets.clear()
        Target.objects.all().delete()

    run = run_job(job, delete)
    assert run.status == RunStatus.SUCCEEDED
    backup = Backup.objects.get()
    assert (backup.target, backup.target_name) == (None, "etc")
    assert_catalogue_matches_storage(backup.storage)


def test_a_job_that_is_edited_while_it_runs_finishes_as_it_was_started(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    old, new = job.storage, make_storage(tmp_path, "new")
    run = run_job(job, lambda: BackupJob.objects.update(storage=new) and None)
    assert run.status == RunStatus.SUCCEEDED
    assert Backup.objects.get().storage == old
    assert_catalogue_matches_storage(old)
    assert files_in(new) == set()


def test_a_storage_stays_where_it_is_while_a_backup_is_written_to_it(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    refused: list[str] = []

    def move() -> None:
        for change in (
            lambda: storage_update(storage=job.storage, name="moved", path=str(tmp_path / "moved")),
            lambda: storage_delete(storage=job.storage),
        ):
            try:
                change()
            except ValidationError as error:
                refused.extend(error.messages)

    run = run_job(job, move)
    assert [message[:8] for message in refused] == ["A backup", "A backup"]
    assert run.status == RunStatus.SUCCEEDED
    storage_update(storage=job.storage, name="renamed", path=job.storage.path)
    assert_catalogue_matches_storage(job.storage)


def test_a_storage_stays_where_it_is_while_a_cleanup_moves_in_it(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    add_backup(job, now())
    with holders.hold() as holder:
        Backup.objects.update(state=BackupState.DELETING, holder=holder)
        with pytest.raises(ValidationError, match="cleanup"):
            storage_update(storage=job.storage, name="nas", path=str(tmp_path / "moved"))


def test_one_row_that_makes_no_sense_does_not_keep_the_rest_from_being_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job(tmp_path)
    bad, good = published_by_a_dead_process(job), published_by_a_dead_process(job)
    BackupRunTarget.objects.filter(pk=bad.pk).update(folder="../elsewhere")
    bad_row, good_row = add_backup(job, now()), add_backup(job, now())
    Backup.objects.filter(pk__in=[bad_row.pk, good_row.pk]).update(state=BackupState.DELETING, holder=DEAD)
    Backup.objects.filter(pk=bad_row.pk).update(folder="")
    with caplog.at_level(logging.WARNING):
        backups_recover()
        first = len(caplog.records)
        backups_recover()
    assert Backup.objects.filter(uid=good.uid).exists()
    assert Backup.objects.get(pk=good_row.pk).state == BackupState.AVAILABLE
    assert sum("cannot be mended" in record.message for record in caplog.records[:first]) == 2
    assert not caplog.records[first:]  # said once, not every five seconds


def test_a_copy_that_is_in_the_catalogue_already_settles_its_attempt(tmp_path: Path) -> None:
    """Entered by an import of the storage, before recovery came to it."""
    job = make_job(tmp_path)
    attempt = published_by_a_dead_process(job)
    Backup.objects.create(
        uid=attempt.uid,
        job_name="nightly",
        target_name="etc",
        storage=job.storage,
        folder=attempt.folder,
        suffix=attempt.suffix,
        created_at=attempt.stamped_at,
        size=10,
        sha256="a" * 64,
    )
    backups_recover()
    attempt.refresh_from_db()
    assert not attempt.unsettled
    assert Backup.objects.count() == 1


def test_a_move_that_was_cut_short_between_its_link_and_its_unlink_is_completed(tmp_path: Path) -> None:
    """How a move looks on a file system that cannot rename without overwriting."""
    job = make_job(tmp_path)
    backup = add_backup(job, now())
    trash = Path(job.storage.path) / ".keepwell-trash"
    trash.mkdir(exist_ok=True)
    os.link(artifact_path(backup), trash / backup.artifact.filename)
    Backup.objects.update(state=BackupState.DELETING, holder=DEAD)
    backups_recover()
    assert Backup.objects.get().state == BackupState.TRASHED
    assert_catalogue_matches_storage(job.storage)


@pytest.mark.parametrize(("others", "state"), [(True, BackupState.DELETING), (False, BackupState.AVAILABLE)])
def test_a_backup_that_another_hosts_process_may_be_moving_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: bool, state: BackupState
) -> None:
    monkeypatch.setattr(holders, "other_hosts_possible", lambda: others)
    HostFactory(host="f" * 16)
    job = make_job(tmp_path)
    add_backup(job, now())
    Backup.objects.update(state=BackupState.DELETING, holder=f"{'f' * 16}.{DEAD}")
    backups_recover()
    assert Backup.objects.get().state == state


@pytest.mark.parametrize("change", [{"source": "files", "config": {}}, {"config": {"paths": 7}}], ids=["empty", "odd"])
def test_a_target_whose_row_makes_no_sense_does_not_keep_the_others_from_being_backed_up(
    tmp_path: Path, change: dict[str, object]
) -> None:
    job = make_job(tmp_path, targets=("a-bad", "b-good"))
    Target.objects.filter(name="a-bad").update(**change)
    run = run_job(job)
    assert run.status == RunStatus.FAILED
    assert [attempt.status for attempt in run.attempts.all()] == [AttemptStatus.FAILED, AttemptStatus.SUCCEEDED]
    assert "a-bad was not backed up" in run.message


def test_two_storages_of_one_run_after_another_stay_apart(tmp_path: Path) -> None:
    """A copy belongs to the storage it was written to, also when the job has another one by now."""
    job = make_job(tmp_path)
    run_job(job)
    other = make_storage(tmp_path, "other")
    second = job_create(name="second", targets=job.targets.all(), storage=other)
    run_job(second)
    for storage in Storage.objects.all():
        assert_catalogue_matches_storage(storage)
