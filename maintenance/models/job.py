from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.urls import reverse

from backups.models import Options
from maintenance.choices import JobType
from scheduling.models import Job, job_constraints


class MaintenanceJob(Job):
    """A scheduled maintenance task. Looked up by `key`, never by number.

    A job with a blank schedule never fires by itself; a hidden one stands behind a button or an API call. Deleting a
    job leaves its runs, which keep its name.
    """

    KIND = "maintenance"

    key = models.SlugField(max_length=64, unique=True)
    name = models.CharField(max_length=120)
    job_type = models.CharField(max_length=32, choices=JobType)
    schedule_cron = models.CharField(
        max_length=120, blank=True, help_text="Five cron fields or @daily and the like; blank runs by hand only."
    )
    timezone = models.CharField(max_length=64, blank=True, help_text="IANA name; blank takes the one in Options.")
    enabled = models.BooleanField(default=True)
    visible_in_ui = models.BooleanField(default=True)
    options = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    class Meta(Job.Meta):
        abstract = False
        ordering = ("key",)
        permissions = [("run_maintenancejob", "Can run a maintenance job now")]
        constraints = [
            models.CheckConstraint(condition=~Q(key=""), name="maintenance_job_has_a_key"),
            models.CheckConstraint(condition=Q(job_type__in=JobType.values), name="maintenance_job_type_known"),
            *job_constraints("maintenance"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("maintenance:job_detail", kwargs={"key": self.key})

    @property
    def zone_name(self) -> str:
        """The IANA zone of the schedule."""
        return self.timezone or Options.load().timezone
