from __future__ import annotations

from django.db.models import TextChoices


class RunStatus(TextChoices):
    """The states of a run; `docs/architecture.md` draws the transitions."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    CANCELLING = "cancelling", "Cancelling"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    LOST = "lost", "Lost"
    SKIPPED = "skipped", "Skipped"


ACTIVE = (RunStatus.RUNNING, RunStatus.CANCELLING)
OPEN = (RunStatus.QUEUED, *ACTIVE)
TERMINAL = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.LOST, RunStatus.SKIPPED)
# Ended in a way that a person should look at.
FAILING = (RunStatus.FAILED, RunStatus.LOST)


class RunOutcome(TextChoices):
    """What a succeeded run has to say beyond that."""

    OK = "ok", "OK"
    WARNING = "warning", "Warning"
    NEEDS_APPROVAL = "needs_approval", "Needs approval"


class RunTrigger(TextChoices):
    SCHEDULE = "schedule", "Schedule"
    MANUAL = "manual", "By hand"
    COMMAND = "command", "Command line"
    API = "api", "API"


class LogLevel(TextChoices):
    INFO = "info", "Info"
    WARNING = "warning", "Warning"
    ERROR = "error", "Error"
