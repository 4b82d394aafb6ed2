from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q

from backups.models.backup import Backup
from backups.models.job import BackupJob
from backups.models.storage import Storage
from backups.models.target import Target


class HoldQuerySet(models.QuerySet["Hold"]):
    def in_force(self, now: datetime) -> HoldQuerySet:
        return self.filter(Q(until__isnull=True) | Q(until__gt=now))

    def over(self, *, job_id: int | None, target_id: int | None) -> HoldQuerySet:
        """Those that cover a pair, on whichever storage its copies are."""
        return self.filter(Q(job__isnull=True) | Q(job=job_id), Q(target__isnull=True) | Q(target=target_id))


class Hold(models.Model):
    """A stop on deleting, placed by a person: of everything, or of one target, job or storage, or what they share.

    While it stands no cleanup deletes and no purge removes what it covers; `until` null holds until it is released.
    """

    job = models.ForeignKey(BackupJob, null=True, blank=True, on_delete=models.PROTECT, related_name="holds")
    target = models.ForeignKey(Target, null=True, blank=True, on_delete=models.PROTECT, related_name="holds")
    storage = models.ForeignKey(Storage, null=True, blank=True, on_delete=models.PROTECT, related_name="holds")
    note = models.CharField(max_length=200)
    placed_by = models.CharField(max_length=150)
    placed_at = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True)

    objects = HoldQuerySet.as_manager()

    class Meta:
        ordering = ("-placed_at", "-pk")
        constraints = [models.CheckConstraint(condition=~Q(note=""), name="hold_has_a_note")]

    def __str__(self) -> str:
        return f"Hold on {self.scope}: {self.note}"

    @property
    def scope(self) -> str:
        """What it covers, in words."""
        parts = [
            f"{word} {row.name}"
            for word, row in (("job", self.job), ("target", self.target), ("storage", self.storage))
            if row is not None
        ]
        return ", ".join(parts) or "everything"


class LeasePurpose(models.TextChoices):
    RESTORE = "restore", "being restored"
    VERIFY = "verify", "being verified"
    DOWNLOAD = "download", "being downloaded"


class Lease(models.Model):
    """A copy in use: as long as its holder's process lives, no cleanup takes the bytes away."""

    backup = models.ForeignKey(Backup, on_delete=models.CASCADE, related_name="leases")
    purpose = models.CharField(max_length=16, choices=LeasePurpose)
    holder = models.CharField(max_length=64, help_text="Lock of the process that uses it.")
    taken_at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=~Q(holder=""), name="lease_has_a_holder")]

    def __str__(self) -> str:
        return f"{self.backup_id} {self.purpose} since {self.taken_at:%Y-%m-%d %H:%M}"
