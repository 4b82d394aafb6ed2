from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from backups.choices import BackupState
from backups.models import Backup, BackupRunTarget, Lease, Storage
from backups.services.storages import storage_backend
from maintenance.models import MaintenanceJob
from maintenance.services import CLEANUP_NIGHTLY
from scheduling.choices import RunStatus
from tests.crash import scenario
from tests.factories import MaintenanceRunFactory
from tests.support import artifact_path, default_jobs

pytestmark = pytest.mark.django_db


def first() -> Backup:
    return Backup.objects.available().order_by("created_at")[0]


def sidecar_of(backup: Backup) -> Path:
    path = artifact_path(backup)
    return path.with_name(f"{path.name}.meta.json")


def no_row() -> None:
    backup = first()
    artifact_path(backup).unlink()
    sidecar_of(backup).unlink()
    backup.delete()


def another_state() -> None:
    Backup.objects.filter(pk=first().pk).update(state=BackupState.MISSING)


def newest_trashed() -> None:
    backup = Backup.objects.order_by("-created_at")[0]
    Backup.objects.filter(pk=backup.pk).update(state=BackupState.TRASHED, trashed_at=backup.created_at)


def no_bytes() -> None:
    artifact_path(first()).unlink()


def other_bytes() -> None:
    os.truncate(artifact_path(first()), 1)


def no_sidecar() -> None:
    sidecar_of(first()).unlink()


def strange_file() -> None:
    (artifact_path(first()).parent / ".x.part").touch()


def strange_folder() -> None:
    (Path(Storage.objects.get().path) / "x").mkdir()


def running() -> None:
    job = MaintenanceJob.objects.get(key=CLEANUP_NIGHTLY)
    MaintenanceRunFactory(job=job, status=RunStatus.RUNNING, running=True)


def unsettled() -> None:
    scenario.publish()
    attempt = BackupRunTarget.objects.order_by("pk")[0]
    BackupRunTarget.objects.filter(pk=attempt.pk).update(unsettled=True)


def leased() -> None:
    backup = first()
    Lease.objects.create(backup=backup, purpose="restore", holder="x", taken_at=backup.created_at)


def ahead() -> None:
    storage = Storage.objects.get()
    with storage_backend(storage).open() as handle:
        handle.raise_epoch(storage.epoch + 1)


def without_audit() -> None:
    backup = first()
    with storage_backend(backup.storage).open() as storage:
        storage.move_to_trash(backup.artifact)
        storage.move_sidecar_to_trash(backup.artifact)
    Backup.objects.filter(pk=backup.pk).update(state=BackupState.TRASHED, trashed_at=backup.created_at)


@pytest.fixture
def cleanup_jobs(db: None) -> None:
    default_jobs()


@pytest.mark.parametrize("operation", scenario.OPERATIONS)
def test_an_undisturbed_operation_passes_the_audit(operation: str, cleanup_jobs: None, tmp_path: Path) -> None:
    scenario.prepare(operation, tmp_path)
    assert scenario.audit(tmp_path) == []
    scenario.OPERATIONS[operation]()
    assert scenario.audit(tmp_path) == []


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (no_row, "has no row any more"),
        (another_state, "is missing"),
        (newest_trashed, "is trashed"),
        (no_bytes, "No such file"),
        (other_bytes, "other bytes than its row says"),
        (no_sidecar, "meta.json"),
        (strange_file, "/.x.part"),
        (strange_folder, "orphan: x/"),
        (running, "is running"),
        (unsettled, "unsettled True"),
        (leased, "a lease for restore"),
        (ahead, "ahead of its database"),
        (without_audit, "without an audit entry"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_audit_sees_each_kind_of_harm(
    harm: Callable[[], None], found: str, cleanup_jobs: None, tmp_path: Path
) -> None:
    scenario.prepare("cleanup", tmp_path)
    harm()
    assert found in "\n".join(scenario.audit(tmp_path))
