"""The schedules of backup jobs, for whoever looks for a time that is free."""

from __future__ import annotations

from django.db.models import Case, Count, IntegerField, Min, Value, When

from backups.models import BackupJob, Options
from scheduling.registry import SharedSchedule


def shared_schedules(besides: int | None, storage: int | None, limit: int) -> list[SharedSchedule]:
    """The schedules in force, those of a storage first and then the commonest. Three queries, however many jobs.

    `besides` is a job that is left out.
    """
    groups = (
        BackupJob.objects.filter(enabled=True)
        .exclude(schedule="")
        .exclude(pk=besides or 0)
        .order_by()
        .values("schedule", "timezone", "storage_id")
        .annotate(
            count=Count("pk"),
            first=Min("pk"),
            near=Case(When(storage_id=storage or 0, then=Value(0)), default=Value(1), output_field=IntegerField()),
        )
        .order_by("near", "-count", "first")[:limit]
    )
    found = list(groups)
    names = dict(BackupJob.objects.filter(pk__in=[group["first"] for group in found]).values_list("pk", "name"))
    zone = Options.load().timezone
    return [
        SharedSchedule(
            kind=BackupJob.KIND,
            schedule=group["schedule"],
            zone=group["timezone"] or zone,
            count=group["count"],
            first=group["first"],
            name=names.get(group["first"], ""),
            storage=group["storage_id"],
            copies=True,
        )
        for group in found
    ]
