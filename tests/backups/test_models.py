from __future__ import annotations

from pathlib import Path

import pytest
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from backups.choices import BackupState
from backups.models import Backup, BackupRun, BackupRunTarget, Options
from backups.services.jobs import job_delete
from backups.services.storages import storage_delete
from backups.services.targets import target_delete
from tests.factories import (
    BackupFactory,
    BackupJobFactory,
    BackupRunFactory,
    BackupRunTargetFactory,
    MaintenanceJobFactory,
    MaintenanceRunFactory,
    StorageFactory,
    TargetFactory,
)
from tests.support import add_backup, artifact_path, make_job, now

pytestmark = pytest.mark.django_db


def test_deleting_a_job_keeps_its_runs_readable() -> None:
    backup_run = BackupRunFactory(succeeded=True, job__name="nightly")
    maintenance_run = MaintenanceRunFactory(succeeded=True, job__name="Cleanup")
    backup_run.job.delete()
    maintenance_run.job.delete()
    backup_run.refresh_from_db()
    maintenance_run.refresh_from_db()
    assert (backup_run.job, backup_run.job_name) == (None, "nightly")
    assert (maintenance_run.job, maintenance_run.job_name) == (None, "Cleanup")


def test_deleting_a_job_a_target_and_their_runs_leaves_backups_and_bytes(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    target = job.targets.get()
    backup = add_backup(job, now(), run=BackupRunFactory(succeeded=True, job=job))
    job_delete(job=job)
    target_delete(target=target)
    BackupRun.objects.all().delete()
    backup.refresh_from_db()
    assert (backup.state, backup.job, backup.target, backup.run) == (BackupState.AVAILABLE, None, None, None)
    assert (backup.job_name, backup.target_name) == ("nightly", "etc")
    assert artifact_path(backup).read_bytes() == b"x" * 64


def test_a_storage_with_backups_or_tombstones_cannot_be_deleted() -> None:
    for backup in (BackupFactory(job=None), BackupFactory(job=None, deleted=True)):
        with pytest.raises(ProtectedError):
            backup.storage.delete()


def test_a_storage_or_target_that_a_job_uses_is_refused_with_the_jobs_name() -> None:
    job = BackupJobFactory(name="nightly")
    with pytest.raises(Exception, match="nightly"):
        storage_delete(storage=job.storage)
    with pytest.raises(Exception, match="nightly"):
        target_delete(target=job.targets.get())


def test_deleting_a_storage_leaves_its_folder(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    storage = job.storage
    job_delete(job=job)
    storage_delete(storage=storage)
    assert (Path(storage.path) / ".keepwell-storage.json").exists()


@pytest.mark.parametrize("factory", [StorageFactory, TargetFactory, BackupJobFactory], ids=["storage", "target", "job"])
def test_names_are_unique(factory: type) -> None:
    first = factory()
    with pytest.raises(IntegrityError), transaction.atomic():
        factory(name=first.name)


def test_maintenance_keys_are_unique() -> None:
    first = MaintenanceJobFactory()
    with pytest.raises(IntegrityError), transaction.atomic():
        MaintenanceJobFactory(key=first.key)


def test_one_storage_per_folder() -> None:
    first = StorageFactory()
    with pytest.raises(IntegrityError), transaction.atomic():
        StorageFactory(path=first.path)


def test_one_row_of_options() -> None:
    Options.load()
    with pytest.raises(IntegrityError), transaction.atomic():
        Options.objects.create(pk=2)


def test_a_target_is_in_one_active_attempt_at_most() -> None:
    attempt = BackupRunTargetFactory()
    with pytest.raises(IntegrityError), transaction.atomic():
        BackupRunTargetFactory(target=attempt.target)
    BackupRunTarget.objects.update(active=False)
    BackupRunTargetFactory(target=attempt.target)


@pytest.mark.parametrize(
    "values",
    [{"state": "eaten"}, {"state": "trashed"}, {"state": "deleted"}, {"size": -1}],
    ids=["unknown state", "trashed at no time", "deleted at no time", "negative size"],
)
def test_the_database_refuses_a_backup_that_contradicts_itself(values: dict[str, object]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        BackupFactory(**values)


@pytest.mark.parametrize("folder", ["..", "/etc", "a/b", "", ".keepwell-trash", "x\0"])
def test_a_row_cannot_name_a_file_outside_its_storage(folder: str) -> None:
    backup = Backup(uid="0" * 16, folder=folder, suffix=".tar.zst", created_at=now().replace(microsecond=0))
    with pytest.raises(ValueError, match="not an artifact's name"):
        _ = backup.artifact


def test_a_suspect_copy_is_not_good_until_it_is_accepted() -> None:
    backup = BackupFactory(suspect=True)
    assert backup.flaw == "suspect"
    assert not Backup.objects.good().exists()
    backup.accepted_at = now()
    backup.save()
    assert backup.flaw == ""
    assert Backup.objects.good().get() == backup
