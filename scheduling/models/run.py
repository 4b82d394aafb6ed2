from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from scheduling.choices import ACTIVE, LogLevel, RunOutcome, RunStatus, RunTrigger
from scheduling.querysets import RunQuerySet

# The columns by which the run tables are indexed, each in the order of time.
RUN_INDEXES: dict[str, tuple[str, ...]] = {
    "newest": (),
    "status": ("status",),
    "job": ("job",),
    "outcome": ("outcome",),
    "job_status": ("job", "status"),
    "job_outcome": ("job", "outcome"),
}


class Run(models.Model):
    """One execution of a job: immutable history once it is terminal. Each kind has its own table.

    queued -> running -> succeeded | failed | lost
       |         `-> cancelling -> cancelled | succeeded | failed | lost
       `-> cancelled | skipped

    Transitions are made in `scheduling.ledger` only: conditional updates that name the state and the fence they
    expect. A concrete class adds a nullable `job` and the constraints of `run_constraints`.
    """

    KIND: ClassVar[str]

    status = models.CharField(max_length=16, choices=RunStatus, default=RunStatus.QUEUED)
    outcome = models.CharField(max_length=16, choices=RunOutcome, blank=True)
    trigger = models.CharField(max_length=16, choices=RunTrigger, default=RunTrigger.SCHEDULE)
    requested_by = models.CharField(max_length=150, blank=True, help_text="The user who asked for the run, if one did.")
    job_name = models.CharField(
        max_length=120, help_text="The job's name when the run was recorded; it outlives the job."
    )
    slot = models.DateTimeField(null=True, blank=True, help_text="The scheduled instant this run is for.")
    params = models.JSONField(default=dict, blank=True)
    queued_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    message = models.TextField(blank=True, help_text="One sentence: what happened, to what, and what to do next.")
    result_json = models.JSONField(default=dict, blank=True)
    fence = models.PositiveIntegerField(
        default=0, help_text="Counts claims; a holder with an older fence can change nothing."
    )
    host = models.CharField(max_length=64, blank=True, help_text="Id of the data folder whose process runs it.")
    holder = models.CharField(
        max_length=64, blank=True, help_text="Name of the file lock its process holds while it runs."
    )
    queue = models.CharField(
        max_length=32, blank=True, help_text="Whose workers may run it; blank: those of the default queue."
    )
    parent: models.ForeignKey[Run | None, Run | None] = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries"
    )
    cause = models.CharField(
        max_length=40, blank=True, help_text="The run whose end led to this one, such as “backup:12”."
    )
    attempt = models.PositiveSmallIntegerField(
        default=1, help_text="1 for the first try; an automatic retry counts on."
    )
    not_before = models.DateTimeField(null=True, blank=True, help_text="A queued run is not started before this.")
    lease_until = models.DateTimeField(
        null=True, blank=True, help_text="By the database's clock: until when its holder has a right to it."
    )
    cancelled_by = models.CharField(max_length=150, blank=True, help_text="The user who asked to stop it.")
    progress = models.JSONField(default=dict, blank=True, help_text="What `scheduling.progress` last said of it.")

    objects = RunQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ("-queued_at", "-pk")

    def __str__(self) -> str:
        return f"{self.job_name} {self.queued_at:%Y-%m-%d %H:%M} ({self.status})"

    @property
    def kind(self) -> str:
        return self.KIND

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def is_open(self) -> bool:
        return self.is_active or self.status == RunStatus.QUEUED

    @property
    def badge(self) -> str:
        """The word a badge shows: the outcome when a succeeded run has more to say, else the status."""
        if self.status == RunStatus.SUCCEEDED and self.outcome not in ("", RunOutcome.OK):
            return str(self.outcome)
        return str(self.status)

    @property
    def lateness(self) -> timedelta | None:
        """How long after its scheduled instant it was recorded: what downtime, or a busy machine, cost."""
        return None if self.slot is None else max(self.queued_at - self.slot, timedelta())

    @property
    def duration(self) -> timedelta | None:
        """Time from start to finish, or to now while it runs; None before it started."""
        if self.started_at is None:
            return None
        return (self.finished_at or timezone.now()) - self.started_at

    def result(self, key: str, default: Any = None) -> Any:
        return self.result_json.get(key, default) if isinstance(self.result_json, dict) else default


def run_constraints(kind: str) -> list[models.BaseConstraint]:
    """The constraints every run table carries; `kind` makes their names unique."""
    return [
        models.UniqueConstraint(
            fields=["job", "slot"], condition=Q(slot__isnull=False), name=f"{kind}_run_one_per_slot"
        ),
        models.UniqueConstraint(fields=["job"], condition=Q(status__in=ACTIVE), name=f"{kind}_run_one_active_per_job"),
        models.UniqueConstraint(
            fields=["job"], condition=Q(status=RunStatus.QUEUED), name=f"{kind}_run_one_queued_per_job"
        ),
        models.CheckConstraint(condition=Q(status__in=RunStatus.values), name=f"{kind}_run_status_known"),
        models.CheckConstraint(condition=Q(outcome__in=["", *RunOutcome.values]), name=f"{kind}_run_outcome_known"),
        models.CheckConstraint(
            condition=Q(status__in=[RunStatus.QUEUED, *ACTIVE]) | Q(finished_at__isnull=False),
            name=f"{kind}_run_terminal_has_finished_at",
        ),
        models.CheckConstraint(
            condition=~Q(status__in=ACTIVE) | Q(started_at__isnull=False), name=f"{kind}_run_active_has_started_at"
        ),
    ]


def run_indexes(kind: str) -> list[models.Index]:
    """The indexes every run table carries: newest first, alone and per status, job, outcome, and job with either.

    Each ends in the whole order of a list, id included: SQLite else prefers the first one, which has it, to those that
    find a rare status. Other filters have an index of their own (`scheduling.search_index`).
    """
    newest_first = [
        models.Index(fields=[*columns, "-queued_at", "-id"], name=f"{kind}_run_{name}")
        for name, columns in RUN_INDEXES.items()
    ]
    return [*newest_first, models.Index(fields=["cause"], condition=~Q(cause=""), name=f"{kind}_run_cause")]


class LogLine(models.Model):
    """One line of a run's log. A concrete class adds `run`."""

    seq = models.PositiveIntegerField()
    at = models.DateTimeField()
    level = models.CharField(max_length=8, choices=LogLevel, default=LogLevel.INFO)
    text = models.TextField()

    class Meta:
        abstract = True
        ordering = ("seq",)

    def __str__(self) -> str:
        return f"{self.level}: {self.text}"
