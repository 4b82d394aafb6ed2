from __future__ import annotations

from django.db.models import TextChoices


class JobType(TextChoices):
    """The kinds of maintenance; each has its module in `maintenance.tasks`."""

    RETENTION_CLEANUP = "retention_cleanup", "Retention cleanup"
