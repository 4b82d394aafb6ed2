from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from scheduling.choices import Overlap

MAX_RETRIES = 10
MAX_RETRY_DELAY = 24 * 60
MAX_TIME_LIMIT = 7 * 24 * 60


class Job(models.Model):
    """What jobs of both kinds say about how they run, beyond their schedule; `scheduling.rules` reads it.

    A concrete class adds `name`, its schedule, `timezone`, `enabled`, `created_at` and `updated_at`, and the
    constraints of `job_constraints`.
    """

    KIND: ClassVar[str]

    overlap = models.CharField(
        max_length=8,
        choices=Overlap,
        default=Overlap.QUEUE,
        help_text="What a scheduled time does while the run before is still going.",
    )
    retry_count = models.PositiveSmallIntegerField(default=0, help_text="Automatic tries after one that failed.")
    retry_delay = models.PositiveIntegerField(default=10, help_text="Minutes between a failed run and its retry.")
    time_limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="Minutes after which a run is stopped and failed; blank: none."
    )
    window_start = models.TimeField(
        null=True, blank=True, help_text="In the job's zone; with `window_end` or not at all."
    )
    window_end = models.TimeField(null=True, blank=True, help_text="Before `window_start`: on the next day.")
    blackout_dates = models.JSONField(
        default=list, blank=True, help_text="Days without runs: “2026-12-24” or “2026-12-24..2026-12-26”."
    )
    run_after = models.CharField(
        max_length=40, blank=True, help_text="Id of the job whose success starts this one, such as “backup:3”."
    )
    paused_until = models.DateTimeField(null=True, blank=True, help_text="Nothing starts by itself before this.")
    paused_by = models.CharField(max_length=150, blank=True)
    queue = models.CharField(max_length=32, blank=True, help_text="Whose workers run it; blank: the default queue.")

    class Meta:
        abstract = True


def job_constraints(kind: str) -> list[models.BaseConstraint]:
    """The constraints every table of jobs carries; `kind` makes their names unique."""
    return [
        models.CheckConstraint(condition=Q(overlap__in=Overlap.values), name=f"{kind}_job_overlap_known"),
        models.CheckConstraint(condition=Q(retry_count__lte=MAX_RETRIES), name=f"{kind}_job_retries_bounded"),
        models.CheckConstraint(
            condition=Q(window_start__isnull=True, window_end__isnull=True)
            | Q(window_start__isnull=False, window_end__isnull=False),
            name=f"{kind}_job_window_whole",
        ),
    ]
