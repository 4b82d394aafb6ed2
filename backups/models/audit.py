from __future__ import annotations

from typing import Any, Never

from django.db import models
from django.db.models import Q


class AuditAction(models.TextChoices):
    TRASH = "trash", "Moved to the trash"
    PURGE = "purge", "Removed for good"
    UNTRASH = "untrash", "Brought back from the trash"
    PIN = "pin", "Pinned"
    UNPIN = "unpin", "Pin taken off"
    HOLD = "hold", "Hold placed"
    RELEASE = "release", "Hold released"
    ACCEPT = "accept", "Accepted as good"
    APPROVE = "approve", "Cleanup approved"
    REJECT = "reject", "Cleanup rejected"
    CLOCK = "clock", "Clock confirmed"
    RECONCILE = "reconcile", "Catalogue reconciled with a storage"
    POLICY = "policy", "Retention policy changed"


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    def update(self, **_: Any) -> Never:
        raise TypeError("An audit entry is never changed.")

    def delete(self) -> Never:
        raise TypeError("An audit entry is never deleted.")


class AuditEntry(models.Model):
    """Who did what to which copy, and why: written before anything is done, in the transaction that decides it.

    It names everything by value, so that it can be read when all it speaks of is gone. `size` in bytes. Entries are
    only ever added.
    """

    at = models.DateTimeField()
    action = models.CharField(max_length=16, choices=AuditAction)
    actor = models.CharField(max_length=150, help_text="A user's name, or the run that did it.")
    backup_uid = models.CharField(max_length=16, blank=True)
    job_name = models.CharField(max_length=80, blank=True)
    target_name = models.CharField(max_length=80, blank=True)
    storage_name = models.CharField(max_length=80, blank=True)
    artifact = models.CharField(max_length=200, blank=True)
    size = models.BigIntegerField(null=True, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    run = models.CharField(max_length=40, blank=True, help_text="The run, such as maintenance:12.")
    plan_digest = models.CharField(max_length=64, blank=True)
    policy_hash = models.CharField(max_length=64, blank=True)
    approved_by = models.CharField(max_length=150, blank=True)
    reason = models.TextField(blank=True)

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        verbose_name_plural = "audit entries"
        constraints = [
            models.CheckConstraint(condition=Q(action__in=AuditAction.values), name="audit_action_known"),
            models.CheckConstraint(condition=~Q(actor=""), name="audit_has_an_actor"),
        ]
        indexes = [
            models.Index(fields=["backup_uid", "-id"], name="audit_of_backup"),
            models.Index(fields=["action", "-id"], name="audit_of_action"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.actor}: {self.get_action_display()} {self.artifact}".rstrip()

    def delete(self, *_: Any, **__: Any) -> Never:
        raise TypeError("An audit entry is never deleted.")
