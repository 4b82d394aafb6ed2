"""What is interrupted: small worlds with real copies, the operations upon them, and what must be true afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import connections
from django.db.models import Q
from django.utils import timezone

from backups.choices import BackupState
from backups.models import AuditAction, AuditEntry, Backup, BackupJob, BackupRunTarget, Lease, Storage
from backups.services.audit import Authority, audit_backups
from backups.services.epochs import epoch_lead
from backups.services.storages import storage_backend
from backups.services.trash import backups_untrash
from backups.storage.names import SIDECAR_SUFFIX, TRASH, is_bookkeeping
from backups.storage.sidecar import parse
from maintenance.models import MaintenanceJob
from maintenance.services import CLEANUP_NIGHTLY, PURGE_TRASH
from scheduling import ledger
from scheduling.choices import RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.registry import all_kinds
from tests.support import add_backup, make_job

COPIES = 8
DELETED_OF_EACH_PAIR = 2
TRASHED = 3
TARGETS = ("etc", "home")
AVAILABLE, TRASHED_STATE, DELETED = BackupState.AVAILABLE, BackupState.TRASHED, BackupState.DELETED


class OperationError(Exception):
    """The operation ended with something else than success, and said so."""


def prepare(operation: str, place: Path) -> None:
    """Fill an empty, migrated database and `place` with what `operation` works upon."""
    stay = COPIES - DELETED_OF_EACH_PAIR if operation == "cleanup" else COPIES
    job = make_job(place, targets=TARGETS, retention={"keep_last": stay})
    now = timezone.now()
    allowed: dict[str, list[str]] = {}
    for target in job.targets.order_by("name"):
        for age in range(COPIES):
            backup = add_backup(job, now - timedelta(days=1 + age), target=target, content=f"{target} {age}".encode())
            allowed[backup.uid] = [AVAILABLE] if age < stay else [AVAILABLE, TRASHED_STATE]
    if operation in ("purge", "undo"):
        for backup in Backup.objects.order_by("created_at")[:TRASHED]:
            _trash(backup, now - timedelta(days=30 if operation == "purge" else 1))
            allowed[backup.uid] = [TRASHED_STATE, DELETED if operation == "purge" else AVAILABLE]
    (place / "allowed.json").write_text(json.dumps(allowed))


def clean_up() -> None:
    _run("maintenance", MaintenanceJob.objects.get(key=CLEANUP_NIGHTLY).pk)


def purge() -> None:
    _run("maintenance", MaintenanceJob.objects.get(key=PURGE_TRASH).pk)


def undo() -> None:
    moved = backups_untrash(backups=list(Backup.objects.trashed().select_related("storage")), by="anna")
    if moved.failed or moved.left:
        raise OperationError(f"not everything came back: {[*moved.failed, *moved.left]}")


def publish() -> None:
    _run("backup", BackupJob.objects.get().pk)


OPERATIONS: dict[str, Callable[[], None]] = {"cleanup": clean_up, "purge": purge, "undo": undo, "publish": publish}


def recover() -> None:
    ledger.runs_recover()


def finish(work: Callable[[], None]) -> None:
    """Do the work and close the database, as a process does that ends by itself."""
    try:
        work()
    finally:
        connections.close_all()


def audit(place: Path) -> list[str]:
    """Every copy lost, every file nobody answers for and everything stuck, each as a sentence; none is the only good
    answer.
    """
    allowed = json.loads((place / "allowed.json").read_text())
    backups = list(Backup.objects.select_related("storage"))
    faults = [*_stuck(), *_lost(backups, allowed), *_unrecorded()]
    for storage in Storage.objects.all():
        faults += _orphans(storage, [backup for backup in backups if backup.storage_id == storage.pk])
        with storage_backend(storage).open() as handle:
            if epoch_lead(storage=storage, handle=handle):
                faults.append("stuck: the storage is ahead of its database, so nothing may be deleted any more")
    return faults


def _stuck() -> Iterator[str]:
    for kind in all_kinds():
        model: Any = kind.run_model
        for run in model.objects.active():
            yield f"stuck: {kind.kind} run {run.pk} is {run.status}"
    for attempt in BackupRunTarget.objects.filter(Q(active=True) | Q(unsettled=True)):
        yield f"stuck: attempt at {attempt.target_name} (active {attempt.active}, unsettled {attempt.unsettled})"
    for lease in Lease.objects.all():
        yield f"stuck: a lease for {lease.purpose} keeps a copy from being deleted"


def _lost(backups: list[Backup], allowed: dict[str, list[str]]) -> Iterator[str]:
    for uid in allowed.keys() - {backup.uid for backup in backups}:
        yield f"lost: {uid} has no row any more"
    for backup in backups:
        # A copy that the operation made may be there or not; when it is, it is available.
        if backup.state not in allowed.get(backup.uid, [AVAILABLE]):
            yield f"lost: {backup.artifact.relative} is {backup.state} ({backup.state_reason or 'no reason'})"
        elif backup.state != DELETED:
            yield from _damaged(backup)
    for kind in all_kinds():
        for run in kind.run_model.objects.filter(status=RunStatus.SUCCEEDED):
            for uid in run.result_json.get("backups", []):
                if uid not in {backup.uid for backup in backups}:
                    yield f"lost: the run promised {uid}, which has no row"


def _unrecorded() -> Iterator[str]:
    for state, action in ((TRASHED_STATE, AuditAction.TRASH), (DELETED, AuditAction.PURGE)):
        recorded = set(AuditEntry.objects.filter(action=action).values_list("backup_uid", flat=True))
        for backup in Backup.objects.filter(state=state):
            if backup.uid not in recorded:
                yield f"unrecorded: {backup.artifact.relative} is {state} without an audit entry"


def _damaged(backup: Backup) -> Iterator[str]:
    name = backup.artifact
    root = Path(backup.storage.path)
    artifact = root / (name.trash_relative if backup.state == TRASHED_STATE else name.relative)
    try:
        content = artifact.read_bytes()
        sidecar = parse(artifact.with_name(name.sidecar_filename).read_bytes())
    except OSError as error:
        yield f"lost: {backup.state} {name.relative}: {error.strerror} ({error.filename})"
        return
    digest = hashlib.sha256(content).hexdigest()
    if (digest, len(content)) != (backup.sha256, backup.size):
        yield f"lost: {name.relative} has other bytes than its row says"
    if (sidecar.name, sidecar.sha256, sidecar.size) != (name, digest, len(content)):
        yield f"lost: the sidecar of {name.relative} is about other bytes"


def _orphans(storage: Storage, backups: list[Backup]) -> Iterator[str]:
    known = {
        backup.artifact.trash_relative if backup.state == TRASHED_STATE else backup.artifact.relative
        for backup in backups
        if backup.state != DELETED
    }
    known |= {f"{relative}{SIDECAR_SUFFIX}" for relative in known}
    root = Path(storage.path)
    for path in root.rglob("*"):
        relative = str(path.relative_to(root))
        if path.is_dir():
            if relative not in (*TARGETS, TRASH):
                yield f"orphan: {relative}/"
        elif relative not in known and not is_bookkeeping(relative):
            yield f"orphan: {relative}"


def _run(kind: str, job_id: int) -> None:
    run = scheduled_dispatch(kind, job_id, inline=True, trigger=RunTrigger.MANUAL)
    if run is None or run.status != RunStatus.SUCCEEDED or run.outcome == "needs_approval":
        raise OperationError("not recorded" if run is None else f"{run.status} {run.outcome}: {run.message}")


def _trash(backup: Backup, when: datetime) -> None:
    with storage_backend(backup.storage).open() as storage:
        storage.move_to_trash(backup.artifact)
        storage.move_sidecar_to_trash(backup.artifact)
    audit_backups(entries=[(backup, "")], action=AuditAction.TRASH, authority=Authority(actor="anna"), now=when)
    Backup.objects.filter(pk=backup.pk).update(state=BackupState.TRASHED, trashed_at=when)
