"""When pairs are cleaned up, for the forecasts of `backups`."""

from __future__ import annotations

from datetime import datetime

from backups.models import Options
from backups.services.forecast import CLEANUP_STEP, cron_fires, register_cleanup_times, register_last_cleaned
from maintenance.choices import JobType
from maintenance.models import MaintenanceJob
from maintenance.retention_plans import last_cleaned
from scheduling.cron import ScheduleError, parse_cron


def scheduled_cleanups(start: datetime, end: datetime) -> list[datetime]:
    """When scheduled cleanups run in (start, end], ascending, in UTC; of each job at most one an hour is listed."""
    zone = Options.load().timezone
    jobs = MaintenanceJob.objects.filter(job_type=JobType.RETENTION_CLEANUP, enabled=True)
    fires: set[datetime] = set()
    for schedule, of_job in jobs.exclude(schedule_cron="").values_list("schedule_cron", "timezone"):
        try:
            fires.update(cron_fires(parse_cron(schedule), of_job or zone, start, end, step=CLEANUP_STEP))
        except ScheduleError:
            # One that cannot be read never fires; its own page says so.
            continue
    return sorted(fires)


def pair_last_cleaned(job_id: int, target_id: int) -> datetime | None:
    """When a pair was last cleaned up to the end."""
    return last_cleaned().get((job_id, target_id))


def register() -> None:
    """Let forecasts know when cleanups run and ran."""
    register_cleanup_times(scheduled_cleanups)
    register_last_cleaned(pair_last_cleaned)
