from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.urls import reverse

from backups.models.options import Options
from backups.models.storage import Storage
from backups.models.target import Target
from scheduling.models import Job, job_constraints


class BackupJob(Job):
    """Which targets, to which storage, when, with which retention override (null: the policy in Options).

    A job's targets and storage cannot be deleted while it names them. Deleting the job leaves its runs and backups,
    which keep its name.
    """

    KIND = "backup"

    name = models.CharField(max_length=80, unique=True)
    targets: models.ManyToManyField[Target, BackupJobTarget] = models.ManyToManyField(
        Target, through="BackupJobTarget", related_name="jobs"
    )
    storage = models.ForeignKey(Storage, on_delete=models.PROTECT, related_name="jobs")
    schedule = models.CharField(
        max_length=120, blank=True, help_text="Five cron fields or @daily and the like; blank runs by hand only."
    )
    timezone = models.CharField(max_length=64, blank=True, help_text="IANA name; blank takes the one in Options.")
    enabled = models.BooleanField(default=True)
    retention = models.JSONField(null=True, blank=True, default=None)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    class Meta(Job.Meta):
        abstract = False
        ordering = ("name",)
        permissions = [("run_backupjob", "Can run a backup job now")]
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="backup_job_has_a_name"),
            *job_constraints("backup"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("backups:job_detail", kwargs={"pk": self.pk})

    @property
    def zone_name(self) -> str:
        """The IANA zone of the schedule."""
        return self.timezone or Options.load().timezone


class BackupJobTarget(models.Model):
    """One target of one job."""

    job = models.ForeignKey(BackupJob, on_delete=models.CASCADE, related_name="job_targets")
    target = models.ForeignKey(Target, on_delete=models.PROTECT, related_name="job_targets")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "target"], name="backup_job_target_once")]

    def __str__(self) -> str:
        return f"{self.job} / {self.target}"
