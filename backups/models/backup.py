from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.urls import reverse

from backups.choices import BackupState
from backups.models.job import BackupJob
from backups.models.run import BackupRun
from backups.models.storage import Storage
from backups.models.target import Target
from backups.querysets import BackupQuerySet
from backups.storage.names import ArtifactName


class Backup(models.Model):
    """One copy of one target made by one run: the catalogue's row for an artifact.

    available -> deleting -> trashed -> purging -> deleted     retention; the row stays as a tombstone
    available -> missing                                       the file is not there: a fault, not a deletion
    available -> quarantined                                   its hash did not match
    deleting -> available | missing                            recovery after a crash

    Transitions are conditional updates in `backups.services`. Deleting a job, target or run sets it to null here; the
    names stay. A storage with backups cannot be deleted. `size` is the artifact's, in bytes; `source_bytes` what it
    was made from.
    """

    uid = models.CharField(max_length=16, unique=True, editable=False)
    job = models.ForeignKey(BackupJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="backups")
    job_name = models.CharField(max_length=80)
    target = models.ForeignKey(Target, null=True, blank=True, on_delete=models.SET_NULL, related_name="backups")
    target_name = models.CharField(max_length=80)
    storage = models.ForeignKey(Storage, on_delete=models.PROTECT, related_name="backups")
    run = models.ForeignKey(BackupRun, null=True, blank=True, on_delete=models.SET_NULL, related_name="backups")
    folder = models.CharField(max_length=64)
    suffix = models.CharField(max_length=16)
    created_at = models.DateTimeField(help_text="When the copy was taken: what retention goes by.")
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    entries = models.BigIntegerField(default=0, help_text="Files and links in it, folders not counted.")
    source_bytes = models.BigIntegerField(default=0)
    state = models.CharField(max_length=16, choices=BackupState, default=BackupState.AVAILABLE)
    suspect_reason = models.CharField(max_length=300, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True, help_text="When someone accepted a suspect copy as good.")
    verified_at = models.DateTimeField(
        null=True, blank=True, help_text="When its bytes were last re-read and found whole."
    )
    state_reason = models.TextField(blank=True, help_text="Why it is in this state, in a sentence.")
    verdict = models.JSONField(null=True, blank=True, help_text="The verdict that deleted it, reasons included.")
    removed_by = models.CharField(
        max_length=40, blank=True, help_text="The run that deleted it, such as maintenance:12."
    )
    holder = models.CharField(max_length=64, blank=True, help_text="Lock of the process that is moving it.")
    trashed_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    pinned_at = models.DateTimeField(null=True, blank=True, help_text="When someone pinned it: no cleanup deletes it.")
    pinned_by = models.CharField(max_length=150, blank=True)
    pin_until = models.DateTimeField(null=True, blank=True, help_text="When the pin ends; blank pins it for ever.")
    pin_note = models.CharField(max_length=200, blank=True)

    objects = BackupQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-pk")
        permissions = [
            ("accept_backup", "Can accept a suspect backup as good"),
            ("restore_backup", "Can restore a backup"),
            ("untrash_backup", "Can bring a backup back from the trash"),
            ("pin_backup", "Can pin a backup, and take the pin off"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=BackupState.values), name="backup_state_known"),
            models.CheckConstraint(condition=Q(size__gte=0), name="backup_size_not_negative"),
            models.CheckConstraint(
                condition=~Q(state__in=[BackupState.TRASHED, BackupState.PURGING]) | Q(trashed_at__isnull=False),
                name="backup_trashed_has_trashed_at",
            ),
            models.CheckConstraint(
                condition=~Q(state=BackupState.DELETED) | Q(deleted_at__isnull=False),
                name="backup_deleted_has_deleted_at",
            ),
            models.CheckConstraint(
                condition=Q(pinned_at__isnull=False) | Q(pin_until__isnull=True), name="backup_pin_has_a_beginning"
            ),
        ]
        indexes = [
            models.Index(fields=["job", "target", "-created_at"], name="backup_pair_newest"),
            models.Index(fields=["state", "-created_at"], name="backup_state_newest"),
            models.Index(fields=["-created_at", "-id"], name="backup_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.target_name} of {self.created_at:%Y-%m-%d %H:%M} ({self.uid})"

    def get_absolute_url(self) -> str:
        return reverse("backups:backup_detail", kwargs={"uid": self.uid})

    @property
    def artifact(self) -> ArtifactName:
        """The artifact's name, built from this row's ids and validated by `ArtifactName`."""
        return ArtifactName(folder=self.folder, created=self.created_at, uid=self.uid, suffix=self.suffix)

    @property
    def shown_path(self) -> str:
        """The artifact's name for people, also of a damaged row whose values make no name."""
        try:
            return self.artifact.relative
        except ValueError:
            return f"{self.folder}/{self.uid}"

    @property
    def is_suspect(self) -> bool:
        return bool(self.suspect_reason) and self.accepted_at is None

    @property
    def flaw(self) -> str:
        """Why this copy does not count as good, or ""."""
        if self.state != BackupState.AVAILABLE:
            return str(self.state)
        return "suspect" if self.is_suspect else ""

    def is_pinned(self, now: datetime) -> bool:
        return self.pinned_at is not None and (self.pin_until is None or now < self.pin_until)

    @property
    def badge(self) -> str:
        """The word a badge shows."""
        if self.state != BackupState.AVAILABLE:
            return str(self.state)
        if self.is_suspect:
            return "suspect"
        return "verified" if self.verified_at else str(self.state)
