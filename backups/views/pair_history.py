"""What happened to one pair and what is expected of it, day by day: the catalogue and the forecast as a calendar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta, tzinfo

from django.db.models import F, Min
from django.db.models.functions import Coalesce

from backups.choices import ON_STORAGE, AttemptStatus, BackupState
from backups.heatmap import DELETED, FAILED, FLAWED, KEPT, LEAVING, MISSED, TRASHED, AheadDay, PastDay
from backups.models import Backup, BackupRun, BackupRunTarget, Target
from backups.services.forecast import Forecast
from backups.services.retention import Pair
from scheduling.choices import FAILING, RunStatus

# A run that is due is recorded within seconds of its time, once the scheduler lives.
GRACE = timedelta(minutes=10)
FAILED_ATTEMPT = (AttemptStatus.FAILED, AttemptStatus.LOST)
IN_TRASH = (BackupState.DELETING, BackupState.TRASHED)


def leaving_uids(forecast: Forecast) -> set[str]:
    """The copies that the next cleanup moves to the trash; without one, what a cleanup now would move."""
    if forecast.next_cleanup is None:
        return {verdict.uid for verdict in forecast.plan.delete}
    fates = forecast.timeline.fates.values()
    return {fate.uid for fate in fates if fate.deleted_at == forecast.next_cleanup}


def past_days(*, forecast: Forecast, target: Target, first: date, now: datetime) -> dict[date, PastDay]:
    """What each day from `first` to today holds, in the zone of the policy; days without anything are left out."""
    zone, pair = forecast.timeline.zone, forecast.pair
    begin = day_start(first, zone)
    days: dict[date, PastDay] = {}
    leaving = leaving_uids(forecast)
    for verdict in forecast.plan.verdicts:
        copy = verdict.candidate
        if begin <= copy.created <= now:
            kind = FLAWED if copy.flaw else LEAVING if copy.uid in leaving else KEPT
            _day(days, copy.created, zone).add(kind, protected=bool(copy.protections_at(now)))
    gone = Backup.objects.of_pair(*pair.key).filter(created_at__gte=begin).exclude(state__in=ON_STORAGE)
    for created, state, pinned, until in gone.order_by().values_list("created_at", "state", "pinned_at", "pin_until"):
        is_pinned = pinned is not None and (until is None or now < until)
        kind = TRASHED if state in IN_TRASH else DELETED
        _day(days, created, zone).add(kind, protected=is_pinned and kind == TRASHED)
    ran = {moment.astimezone(zone).date() for moment in _add_runs(days, pair, begin, zone)}
    for day in list(_missed(forecast, target, days, ran, first, now)):
        days.setdefault(day, PastDay()).add(MISSED)
    return days


def days_ahead(*, forecast: Forecast) -> dict[date, AheadDay]:
    """What the forecast expects of each of its days, today included; days without anything are left out."""
    timeline = forecast.timeline
    zone, last = timeline.zone, timeline.days[-1].day
    due: dict[date, int] = {}
    staying: dict[date, int] = {}
    going: dict[date, int] = {}
    for copy, _, gone in timeline.lives:
        if copy.expected:
            day = copy.created.astimezone(zone).date()
            due[day] = due.get(day, 0) + 1
            staying[day] = staying.get(day, 0) + (gone is None)
    for fate in timeline.fates.values():
        if fate.deleted_at is not None:
            day = fate.deleted_at.astimezone(zone).date()
            going[day] = going.get(day, 0) + 1
    asking = {moment.astimezone(zone).date() for moment in timeline.approvals}
    return {
        day: AheadDay(
            due=due.get(day, 0), staying=staying.get(day, 0), going=going.get(day, 0), asks=day in asking, last=last
        )
        for day in sorted({*due, *going, *asking})
    }


def day_start(day: date, zone: tzinfo) -> datetime:
    """The moment at which a date begins in a zone."""
    return datetime.combine(day, time(), tzinfo=zone)


def _day(days: dict[date, PastDay], moment: datetime, zone: tzinfo) -> PastDay:
    return days.setdefault(moment.astimezone(zone).date(), PastDay())


def _add_runs(days: dict[date, PastDay], pair: Pair, begin: datetime, zone: tzinfo) -> Iterable[datetime]:
    """Count the runs that failed for the pair, and return when any run of the job took place."""
    attempts = dict(
        BackupRunTarget.objects.filter(run__job=pair.job, run__queued_at__gte=begin, target=pair.target_id)
        .order_by()
        .values_list("run_id", "status")
    )
    runs = BackupRun.objects.filter(job=pair.job, queued_at__gte=begin).order_by()
    took_place = []
    for pk, at, status in runs.annotate(at=Coalesce(F("slot"), F("queued_at"))).values_list("pk", "at", "status"):
        if status == RunStatus.SKIPPED:
            continue
        took_place.append(at)
        attempt = attempts.get(pk)
        if attempt in FAILED_ATTEMPT or (attempt is None and status in FAILING):
            _day(days, at, zone).add(FAILED)
    return took_place


def _missed(
    forecast: Forecast, target: Target, days: dict[date, PastDay], ran: set[date], since: date, now: datetime
) -> Iterator[date]:
    """The days on which the job's schedule, as it is today, had a backup and no run took place."""
    job, cron, zone = forecast.pair.job, forecast.cron, forecast.timeline.zone
    if cron is None:
        return
    begin = max(job.created_at, target.created_at)
    # The rows of a database that was rebuilt from its storage are younger than the copies.
    oldest = Backup.objects.of_pair(*forecast.pair.key).aggregate(oldest=Min("created_at"))["oldest"]
    first = min((begin, *filter(None, [oldest]))).astimezone(zone).date()
    day, today, of_job = max(first, since), now.astimezone(zone).date(), job.zone_name
    while day <= today:
        start, end = day_start(day, zone), day_start(day + timedelta(days=1), zone)
        if day not in days and day not in ran:
            after = (max(start, begin) if day == first else start) - datetime.resolution
            if cron.next_after(after, of_job) < min(end, now - GRACE):
                yield day
        day += timedelta(days=1)
