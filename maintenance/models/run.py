from __future__ import annotations

from django.db import models
from django.urls import reverse

from maintenance.choices import JobType
from maintenance.models.job import MaintenanceJob
from scheduling.models import LogLine, Run, RunText, run_constraints, run_indexes


class MaintenanceRun(Run):
    """One execution of a maintenance job; `scheduling.models.Run` draws the states.

    `params` may name one pair (`job_id`, `target_id`).
    """

    KIND = "maintenance"

    job = models.ForeignKey(MaintenanceJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs")
    job_key = models.CharField(max_length=64)
    job_type = models.CharField(max_length=32, choices=JobType)

    class Meta(Run.Meta):
        abstract = False
        constraints = run_constraints("maintenance")
        indexes = run_indexes("maintenance")

    def get_absolute_url(self) -> str:
        return reverse("scheduling:run_detail", kwargs={"kind": self.KIND, "pk": self.pk})


class MaintenanceRunLogLine(LogLine):
    """One line of a maintenance run's log."""

    run = models.ForeignKey(MaintenanceRun, on_delete=models.CASCADE, related_name="log_lines")

    class Meta(LogLine.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="maintenance_log_line_once")]


class MaintenanceRunText(RunText):
    """What an ended maintenance run is found by."""

    run = models.OneToOneField(MaintenanceRun, on_delete=models.CASCADE, related_name="text")

    class Meta(RunText.Meta):
        abstract = False
