from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from backups.choices import AttemptStatus, BackupState
from backups.models import AuditAction, Backup, BackupRunTarget
from backups.retention.suspicion import LOOK_BACK, suspect_reason
from backups.services.audit import audit_backup
from scheduling.fencing import NO_FENCE, Fence


def backup_register(
    *,
    attempt: BackupRunTarget,
    size: int,
    sha256: str,
    summary: dict[str, Any],
    message: str,
    status: AttemptStatus,
    now: datetime | None = None,
    fence: Fence = NO_FENCE,
) -> Backup:
    """Enter a published artifact into the catalogue and settle its attempt, in one transaction.

    `size` in bytes, `summary` the source's figures; `now` is when the attempt ended. A copy much smaller than the
    good ones before it is entered as suspect. Raises what `fence` does: the copy is then recovery's to enter.
    """
    with transaction.atomic():
        fence.hold()
        # Of several that settle the same attempt one enters it. What the job and the target are by now is read afresh.
        mine = BackupRunTarget.objects.filter(pk=attempt.pk, unsettled=True).update(unsettled=False)
        attempt.refresh_from_db()
        if attempt.storage is None or attempt.stamped_at is None:
            raise ValueError(f"attempt {attempt.pk} names no artifact, so there is nothing to register")
        entered = Backup.objects.filter(uid=attempt.uid).first()
        if entered is not None:
            return entered
        if not mine:
            raise ValueError(f"attempt {attempt.pk} was settled without a copy, so there is nothing to register")
        run = attempt.run
        suspicion = suspect_reason(
            size=size, entries=int(summary.get("files", 0)), previous_sizes=_previous_sizes(attempt)
        )
        backup = Backup.objects.create(
            uid=attempt.uid,
            job=run.job,
            job_name=run.job_name,
            target=attempt.target,
            target_name=attempt.target_name,
            storage=attempt.storage,
            run=run,
            folder=attempt.folder,
            suffix=attempt.suffix,
            created_at=attempt.stamped_at,
            size=size,
            sha256=sha256,
            entries=int(summary.get("files", 0)),
            source_bytes=int(summary.get("bytes", 0)),
            suspect_reason=suspicion,
        )
        if suspicion:
            message = (
                f"{message} This copy is suspect: {suspicion}. It does not count as good until someone accepts it."
            )
            status = AttemptStatus.WARNING
        BackupRunTarget.objects.filter(pk=attempt.pk).update(
            status=status, message=message, summary=summary, finished_at=now or timezone.now()
        )
        attempt.refresh_from_db()
    return backup


def backup_accept(*, backup: Backup, by: str, now: datetime | None = None) -> Backup:
    """Count a suspect copy as good from now on. Raises ValidationError when it is not suspect."""
    now = now or timezone.now()
    with transaction.atomic():
        accepted = (
            Backup.objects.filter(pk=backup.pk, state=BackupState.AVAILABLE, accepted_at__isnull=True)
            .exclude(suspect_reason="")
            .update(accepted_at=now)
        )
        if not accepted:
            raise ValidationError(f"The backup {backup.uid} is not a suspect copy, so there is nothing to accept.")
        audit_backup(backup=backup, action=AuditAction.ACCEPT, actor=by, reason=backup.suspect_reason, now=now)
    return Backup.objects.get(pk=backup.pk)


def backup_mark_verified(*, backup: Backup) -> None:
    """Record that the artifact's bytes were re-read and match."""
    Backup.objects.filter(pk=backup.pk, state=BackupState.AVAILABLE).update(verified_at=timezone.now())


def backup_quarantine(*, backup: Backup, reason: str) -> None:
    """Take a copy whose bytes are not what they were out of the good ones. Nothing is removed."""
    Backup.objects.filter(pk=backup.pk, state=BackupState.AVAILABLE).update(
        state=BackupState.QUARANTINED, state_reason=reason, verified_at=None
    )


def backup_mark_missing(*, backup: Backup, reason: str) -> None:
    """Record that the artifact is not where it should be: a fault to show, never a deletion."""
    Backup.objects.filter(pk=backup.pk, state__in=(BackupState.AVAILABLE, BackupState.DELETING)).update(
        state=BackupState.MISSING, state_reason=reason, holder=""
    )


def _previous_sizes(attempt: BackupRunTarget) -> list[int]:
    run = attempt.run
    if run.job_id is None or attempt.target_id is None:
        return []
    good = Backup.objects.of_pair(run.job_id, attempt.target_id).good().filter(created_at__lt=attempt.stamped_at)
    return list(good.order_by("-created_at").values_list("size", flat=True)[:LOOK_BACK])
