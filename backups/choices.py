from __future__ import annotations

from django.db.models import TextChoices


class StorageKind(TextChoices):
    LOCAL = "local", "Local folder"


class SourceKindName(TextChoices):
    FILES = "files", "Files and folders"


class BackupState(TextChoices):
    """The states of a catalogue row; `backups.models.Backup` draws the transitions."""

    AVAILABLE = "available", "Available"
    DELETING = "deleting", "Deleting"
    TRASHED = "trashed", "In trash"
    PURGING = "purging", "Purging"
    DELETED = "deleted", "Deleted"
    MISSING = "missing", "Missing"
    QUARANTINED = "quarantined", "Quarantined"


ON_STORAGE = (BackupState.AVAILABLE, BackupState.MISSING, BackupState.QUARANTINED)
IN_TRANSIT = (BackupState.DELETING, BackupState.PURGING)


class AttemptStatus(TextChoices):
    """The states of one target's attempt within a run."""

    PENDING = "pending", "Pending"
    RUNNING = "running", "Running"
    SUCCEEDED = "succeeded", "Succeeded"
    WARNING = "warning", "Warning"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    LOST = "lost", "Lost"
