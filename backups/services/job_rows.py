"""What the scheduler reads of the tables of jobs, of both kinds."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from django.db.models import Count, Max

from backups.models import Options


def jobs_in_zones(job_model: Any, *fields: str) -> Iterator[Any]:
    """Every job with these fields alone, and the zone of Options where it has none of its own."""
    zone = Options.load().timezone
    for job in job_model.objects.only("timezone", "enabled", *fields).order_by().iterator():
        job.timezone = job.timezone or zone
        yield job


def jobs_revision(job_model: Any) -> Hashable:
    """Changes whenever a job's row does, or the zone that it may depend on."""
    jobs = job_model.objects.aggregate(count=Count("pk"), newest=Max("updated_at"))
    return (jobs["count"], jobs["newest"], Options.objects.values_list("timezone", flat=True).first())
