"""The audit trail: who did what to which copy, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from backups.models import AuditAction, AuditEntry, Backup


@dataclass(frozen=True, kw_only=True)
class Authority:
    """On whose account copies are deleted: the actor, the run (such as `maintenance:12`), and what it goes by."""

    actor: str
    run: str = ""
    plan_digest: str = ""
    policy_hash: str = ""
    approved_by: str = ""


def audit(
    *, action: AuditAction, actor: str, reason: str = "", run: str = "", now: datetime | None = None, **about: str
) -> AuditEntry:
    """Record something that is not about one copy; `about` are the names of what it is about."""
    return AuditEntry.objects.create(
        at=now or timezone.now(), action=action, actor=actor, reason=reason, run=run, **about
    )


def audit_backup(
    *, backup: Backup, action: AuditAction, actor: str, reason: str = "", now: datetime | None = None
) -> AuditEntry:
    """Record what a person did to one copy."""
    entry = _entry(backup, action, Authority(actor=actor), reason, now or timezone.now())
    entry.save()
    return entry


def audit_backups(
    *, entries: Iterable[tuple[Backup, str]], action: AuditAction, authority: Authority, now: datetime
) -> None:
    """Record an action on many copies, each with its reason, in one statement."""
    AuditEntry.objects.bulk_create(
        [_entry(backup, action, authority, reason, now) for backup, reason in entries], batch_size=200
    )


def _entry(backup: Backup, action: AuditAction, authority: Authority, reason: str, now: datetime) -> AuditEntry:
    return AuditEntry(
        at=now,
        action=action,
        actor=authority.actor,
        backup_uid=backup.uid,
        job_name=backup.job_name,
        target_name=backup.target_name,
        storage_name=backup.storage.name,
        artifact=backup.shown_path,
        size=backup.size,
        sha256=backup.sha256,
        run=authority.run,
        plan_digest=authority.plan_digest,
        policy_hash=authority.policy_hash,
        approved_by=authority.approved_by,
        reason=reason,
    )
