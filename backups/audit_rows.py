"""Entries of the audit trail as pages show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backups.models import AuditAction, AuditEntry, Backup
from backups.references import RunReference, run_reference

SHAPES: dict[str, str] = {
    AuditAction.TRASH: "trash-2",
    AuditAction.PURGE: "x",
    AuditAction.UNTRASH: "undo-2",
    AuditAction.PIN: "pin",
    AuditAction.UNPIN: "pin-off",
    AuditAction.HOLD: "hand",
    AuditAction.RELEASE: "hand",
    AuditAction.ACCEPT: "check",
    AuditAction.APPROVE: "check",
    AuditAction.REJECT: "x",
    AuditAction.CLOCK: "clock",
    AuditAction.RECONCILE: "refresh-cw",
    AuditAction.POLICY: "sliders-horizontal",
}
"""The icon beside each action's word."""


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """An entry, the run it names, and the copy it is about while the catalogue has that."""

    entry: AuditEntry
    run: RunReference | None
    backup: Backup | None

    @property
    def shape(self) -> str:
        return SHAPES.get(self.entry.action, "minus")

    @property
    def actor(self) -> str:
        """Who did it: a person, or a run by its name."""
        found = run_reference(self.entry.actor)
        return found.label if found else self.entry.actor

    @property
    def reason(self) -> str:
        """Why; of a deletion the first reason, whose others are in `more_reasons`."""
        reason = self._reasons[0] if self._reasons else self.entry.reason
        return reason[:1].upper() + reason[1:]

    @property
    def more_reasons(self) -> list[str]:
        return self._reasons[1:]

    @property
    def _reasons(self) -> list[str]:
        is_deletion = self.entry.action in (AuditAction.TRASH, AuditAction.PURGE)
        return self.entry.reason.split("; ") if is_deletion and self.entry.reason else []


def audit_rows(entries: Iterable[AuditEntry]) -> list[AuditRow]:
    """The entries in their order; one query more, however many."""
    found = list(entries)
    uids = {entry.backup_uid for entry in found if entry.backup_uid}
    backups = {backup.uid: backup for backup in Backup.objects.filter(uid__in=uids).only("uid", "state")}
    return [
        AuditRow(entry=entry, run=run_reference(entry.run or entry.actor), backup=backups.get(entry.backup_uid))
        for entry in found
    ]
