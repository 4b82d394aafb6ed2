"""The schedules of maintenance jobs, for whoever looks for a time that is free."""

from __future__ import annotations

from django.db.models import Count, Min

from backups.models import Options
from maintenance.choices import JobType
from maintenance.models import MaintenanceJob
from scheduling.registry import SharedSchedule


def shared_schedules(besides: int | None, _storage: int | None, limit: int) -> list[SharedSchedule]:
    """The schedules in force, the commonest first: maintenance works on every storage. Three queries.

    `besides` is a job that is left out.
    """
    groups = (
        MaintenanceJob.objects.filter(enabled=True)
        .exclude(schedule_cron="")
        .exclude(pk=besides or 0)
        .order_by()
        .values("schedule_cron", "timezone", "job_type")
        .annotate(count=Count("pk"), first=Min("pk"))
        .order_by("-count", "first")[:limit]
    )
    found = list(groups)
    names = dict(MaintenanceJob.objects.filter(pk__in=[group["first"] for group in found]).values_list("pk", "name"))
    zone = Options.load().timezone
    return [
        SharedSchedule(
            kind=MaintenanceJob.KIND,
            schedule=group["schedule_cron"],
            zone=group["timezone"] or zone,
            count=group["count"],
            first=group["first"],
            name=names.get(group["first"], ""),
            storage=None,
            deletes=is_cleanup(group["job_type"]),
        )
        for group in found
    ]


def is_cleanup(job_type: str) -> bool:
    """Whether jobs of this type decide which copies go."""
    return job_type == JobType.RETENTION_CLEANUP
