from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.urls import reverse

from backups.choices import AttemptStatus
from backups.models.job import BackupJob
from backups.models.storage import Storage
from backups.models.target import Target
from scheduling.models import LogLine, Run, RunText, run_constraints, run_indexes


class BackupRun(Run):
    """One execution of a backup job; `scheduling.models.Run` draws the states.

    Its attempts say what happened to each target.
    """

    KIND = "backup"

    job = models.ForeignKey(BackupJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs")

    class Meta(Run.Meta):
        abstract = False
        constraints = run_constraints("backup")
        indexes = run_indexes("backup")

    def get_absolute_url(self) -> str:
        return reverse("scheduling:run_detail", kwargs={"kind": self.KIND, "pk": self.pk})


class BackupRunTarget(models.Model):
    """The attempt of one run at one target.

    pending -> running -> succeeded | warning | failed | cancelled | lost

    `uid`, `folder` and `stamped_at` name the artifact before any byte is published, and `unsettled` stays true until
    either the catalogue row exists or nothing of it is left on the storage, so that a crash in between can be mended.
    """

    run = models.ForeignKey(BackupRun, on_delete=models.CASCADE, related_name="attempts")
    target = models.ForeignKey(Target, null=True, blank=True, on_delete=models.SET_NULL, related_name="attempts")
    target_name = models.CharField(max_length=80)
    storage = models.ForeignKey(Storage, null=True, blank=True, on_delete=models.SET_NULL, related_name="attempts")
    status = models.CharField(max_length=16, choices=AttemptStatus, default=AttemptStatus.PENDING)
    active = models.BooleanField(
        default=True, help_text="True from claim to the end of the run: one active attempt per target."
    )
    message = models.TextField(blank=True)
    summary = models.JSONField(default=dict, blank=True)
    uid = models.CharField(max_length=16, blank=True)
    folder = models.CharField(max_length=64, blank=True)
    suffix = models.CharField(max_length=16, blank=True)
    stamped_at = models.DateTimeField(null=True, blank=True)
    unsettled = models.BooleanField(default=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.UniqueConstraint(
                fields=["target"], condition=Q(active=True), name="backup_one_active_attempt_per_target"
            ),
            models.UniqueConstraint(fields=["run", "target"], name="backup_one_attempt_per_run_and_target"),
            models.CheckConstraint(condition=Q(status__in=AttemptStatus.values), name="backup_attempt_status_known"),
        ]
        indexes = [models.Index(fields=["id"], condition=Q(unsettled=True), name="backup_attempt_unsettled")]

    def __str__(self) -> str:
        return f"{self.target_name} in run {self.run_id}: {self.status}"


class BackupRunLogLine(LogLine):
    """One line of a backup run's log."""

    run = models.ForeignKey(BackupRun, on_delete=models.CASCADE, related_name="log_lines")

    class Meta(LogLine.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="backup_log_line_once")]


class BackupRunText(RunText):
    """What an ended backup run is found by."""

    run = models.OneToOneField(BackupRun, on_delete=models.CASCADE, related_name="text")

    class Meta(RunText.Meta):
        abstract = False
