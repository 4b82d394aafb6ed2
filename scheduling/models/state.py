from __future__ import annotations

import secrets

from django.db import models
from django.db.models import Q

from scheduling.choices import ProcessRole


def new_process_id() -> str:
    """A name for one process, unlike a number of the system's never used again."""
    return secrets.token_hex(12)


class SchedulerState(models.Model):
    """The scheduler's heartbeat: one row (pk 1), written by the one scheduler process every few seconds."""

    host = models.CharField(max_length=64)
    hostname = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="scheduler_state_one_row")]

    def __str__(self) -> str:
        return f"scheduler on {self.hostname}, seen {self.seen_at:%Y-%m-%d %H:%M:%S}"


class Host(models.Model):
    """A process at work on this database, and its last sign of life. The data folder it works on is its host.

    A host has as many rows as it has had processes lately: each says for itself which queues it serves.
    """

    host = models.CharField(max_length=64, db_index=True, help_text="Id of the data folder.")
    process = models.CharField(
        max_length=32, unique=True, default=new_process_id, help_text="Made up by the process at its start."
    )
    role = models.CharField(max_length=16, choices=ProcessRole, default=ProcessRole.WORKER)
    hostname = models.CharField(max_length=255)
    version = models.CharField(max_length=32, blank=True)
    queues = models.JSONField(default=list, blank=True, help_text="Queues its workers serve; none: it runs commands.")
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="By the database's clock.")

    class Meta:
        ordering = ("hostname", "pk")
        constraints = [
            models.CheckConstraint(condition=Q(role__in=ProcessRole.values), name="scheduler_host_role_known")
        ]

    def __str__(self) -> str:
        return f"{self.hostname} ({self.host}), process {self.pid}"


class Pause(models.Model):
    """While this row (pk 1) is in force, nothing starts by itself: no schedule, no retry, no run after another."""

    until = models.DateTimeField()
    by = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    since = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="scheduler_pause_one_row")]

    def __str__(self) -> str:
        return f"everything paused until {self.until:%Y-%m-%d %H:%M}"


class ClockAnchor(models.Model):
    """The last moment at which a data folder's machine had a wall clock that could be right: what
    `scheduling.wall_clock` compares with.
    """

    host = models.CharField(max_length=64, unique=True, help_text="Id of the data folder.")
    boot_id = models.CharField(max_length=64, blank=True, help_text="The kernel's id of the machine's boot.")
    uptime = models.FloatField(help_text="Seconds since the machine was started.")
    wall = models.DateTimeField()
    noticed_at = models.DateTimeField(
        null=True, blank=True, help_text="When a jump of the clock was first noticed, by that clock."
    )
    confirmed_by = models.CharField(max_length=150, blank=True, help_text="Who last said that the time is right.")
    confirmed_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        state = "jumped since" if self.noticed_at else "right at"
        return f"clock of {self.host}, {state} {self.wall:%Y-%m-%d %H:%M:%S}"
