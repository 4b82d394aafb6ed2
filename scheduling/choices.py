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
# The transitions there are; the database refuses every other one (`scheduling.triggers`).
TRANSITIONS: dict[RunStatus, tuple[RunStatus, ...]] = {
    RunStatus.QUEUED: (RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.SKIPPED),
    RunStatus.RUNNING: (
        RunStatus.CANCELLING,
        RunStatus.SUCCEEDED,
        RunStatus.FAILED,
        RunStatus.CANCELLED,
        RunStatus.LOST,
    ),
    RunStatus.CANCELLING: (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.LOST),
}
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
    RETRY = "retry", "Retry"
    AFTER = "after", "After another job"


# What starts without a person: held back by pauses, windows and blackout dates.
BY_ITSELF = (RunTrigger.SCHEDULE, RunTrigger.RETRY, RunTrigger.AFTER)


class Overlap(TextChoices):
    """What a scheduled time does while the run before is still going."""

    QUEUE = "queue", "Wait, and run when it has ended"
    SKIP = "skip", "Skip this time"


class LogLevel(TextChoices):
    INFO = "info", "Info"
    WARNING = "warning", "Warning"
    ERROR = "error", "Error"


class ProcessRole(TextChoices):
    """What a process at work on the database is there for."""

    SCHEDULER = "scheduler", "Active scheduler"
    STANDBY = "standby", "Standby scheduler"
    WORKER = "worker", "Worker"
    COMMAND = "command", "Command"
