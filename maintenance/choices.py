from __future__ import annotations

from django.db.models import TextChoices


class JobType(TextChoices):
    """The kinds of maintenance; each has its module in `maintenance.tasks`."""

    RETENTION_CLEANUP = "retention_cleanup", "Retention cleanup"
    PURGE_TRASH = "purge_trash", "Empty the trash"


class PlanStatus(TextChoices):
    """The states of a stored plan; `maintenance.models.CleanupPlan` draws the transitions."""

    PREVIEWED = "previewed", "Previewed"
    EXECUTED = "executed", "Executed"
    WAITING = "waiting", "Waiting for approval"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"
    SUPERSEDED = "superseded", "Superseded"
