"""Mends what a process that died left half done: artifacts without rows, and backups between two states."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.db import InterfaceError, OperationalError

from backups.choices import IN_TRANSIT, AttemptStatus, BackupState
from backups.models import Backup, BackupRunTarget
from backups.services.catalogue import backup_register
from backups.services.protections import leases_sweep
from backups.services.purge import backup_resume_purging
from backups.services.storages import storage_backend
from backups.services.trash import backup_resume_trashing
from backups.storage import ArtifactName, OpenStorage, SidecarError, StorageError
from scheduling import holders

logger = logging.getLogger(__name__)


def backups_recover() -> None:
    """Settle every attempt and every backup in transit whose process is gone.

    What lies on a storage that is away waits for it.
    """
    attempts_settle(
        BackupRunTarget.objects.filter(unsettled=True, active=False).select_related(
            "run", "run__job", "storage", "target"
        )
    )
    leases_sweep()
    for backup in Backup.objects.filter(state__in=IN_TRANSIT).select_related("storage"):
        if not holders.is_held(backup.holder):
            with _one_at_a_time(f"backup {backup.uid}"):
                _resume(backup)


def attempts_settle(attempts: Iterable[BackupRunTarget]) -> None:
    """For each attempt, either enter what it published into the catalogue or clear away what it did not."""
    for attempt in attempts:
        if attempt.storage is None or attempt.stamped_at is None:
            continue
        with _one_at_a_time(f"attempt {attempt.pk}"), storage_backend(attempt.storage).open() as storage:
            _settle(attempt, storage)


def _settle(attempt: BackupRunTarget, storage: OpenStorage) -> None:
    assert attempt.stamped_at is not None  # noqa: S101 - checked by the caller
    name = ArtifactName(folder=attempt.folder, created=attempt.stamped_at, uid=attempt.uid, suffix=attempt.suffix)
    storage.discard_unpublished(name, attempt.run_id)
    size = storage.stat(name)
    if size is not None:
        sidecar = storage.read_sidecar(name)
        if sidecar.size != size:
            raise SidecarError(
                f"{name.relative} has {size} bytes and its sidecar says {sidecar.size}. Look at it by hand."
            )
        backup_register(
            attempt=attempt,
            size=sidecar.size,
            sha256=sidecar.sha256,
            summary=dict(sidecar.summary),
            message=f"{attempt.target_name}: the copy was complete when its run broke off, and was entered afterwards.",
            status=AttemptStatus.WARNING,
        )
        logger.warning("entered %s, which was published by a run that broke off", name.relative)
        return
    BackupRunTarget.objects.filter(pk=attempt.pk).update(unsettled=False)


def _resume(backup: Backup) -> None:
    with storage_backend(backup.storage).open() as storage:
        if backup.state == BackupState.DELETING:
            backup_resume_trashing(backup=backup, storage=storage)
        else:
            backup_resume_purging(backup=backup, storage=storage)


_said: dict[str, str] = {}


@contextmanager
def _one_at_a_time(what: str) -> Iterator[None]:
    """Let what cannot be mended now wait, without keeping the rest from being mended; says why, once."""
    try:
        yield
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # one bad row or file must not stop recovery, nor the scheduler
        reason = f"{type(error).__name__}: {error}"
        if _said.get(what) != reason:
            unexpected = None if isinstance(error, StorageError) else error
            logger.warning("%s cannot be mended yet: %s", what, error, exc_info=unexpected)
        _said[what] = reason
    else:
        _said.pop(what, None)
