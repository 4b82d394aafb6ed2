"""What becomes of the copies of one pair: its schedule ahead, and the simulation over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from backups.models import Backup, BackupJobTarget, Options
from backups.retention import Plan, Schedule, Timeline, plan, simulate
from backups.services.options import effective_policy
from backups.services.retention import DECIDING_COLUMNS, Pair, candidates_of, pair_guards
from scheduling.cron import Cron, ScheduleError, load_zone, parse_cron

type CleanupTimes = Callable[[datetime, datetime], Sequence[datetime]]
type LastCleaned = Callable[[int, int], datetime | None]

MAX_BACKUPS = 5000
"""The most copies that a forecast expects: one of a denser schedule ends sooner."""
CLEANUP_STEP = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What becomes of a pair: its plan as of now, its rows on storage by uid, and its timeline.

    The rows have the columns that the decision is made from; the others are read one row at a time when asked for.
    `cron` is the schedule by which its job backs it up, `next_cleanup` the first one before the timeline ends; None
    when there is none.
    """

    pair: Pair
    plan: Plan
    backups: Mapping[str, Backup]
    timeline: Timeline
    cron: Cron | None
    next_cleanup: datetime | None


@dataclass(kw_only=True)
class _Cleanups:
    """What only the app that runs cleanups can say; each app above this one registers it when it is ready."""

    times: CleanupTimes | None = None
    last: LastCleaned | None = None


_cleanups = _Cleanups()


def register_cleanup_times(provider: CleanupTimes) -> None:
    """Say when cleanups will run: `provider` is called with a start and an end, and gives the moments in (start, end],
    ascending. The last one registered counts.
    """
    _cleanups.times = provider


def register_last_cleaned(provider: LastCleaned) -> None:
    """Say when a pair was last cleaned up: `provider` is called with the ids of its job and target."""
    _cleanups.last = provider


def cleanup_times(start: datetime, end: datetime) -> Sequence[datetime]:
    """The cleanups in (start, end], ascending; none as long as no provider is registered."""
    return _cleanups.times(start, end) if _cleanups.times else ()


def pair_schedule(*, pair: Pair, now: datetime, until: datetime) -> Schedule:
    """The backups (as `pair_cron` says) and the cleanups of a pair in (now, until]."""
    return Schedule(backups=list(_backups(pair, now, until)), cleanups=cleanup_times(now, until))


def forecast_until(*, pair: Pair, now: datetime, until: datetime) -> datetime:
    """`until`, or sooner: no later than the `MAX_BACKUPS`-th backup of the job, so that a forecast stays quick."""
    for number, fire in enumerate(_backups(pair, now, until), start=1):
        if number == MAX_BACKUPS:
            return fire
    return until


def forecast_pair(
    *, pair: Pair, options: Options, now: datetime, until: datetime, policy: Mapping[str, Any] | None = None
) -> Forecast:
    """Plan a pair at `now` and simulate it to `until`.

    `policy` is another retention to try on this pair, in place of whatever is in force there. Raises `PolicyError`.
    """
    if policy is not None:
        pair = replace(pair, job=copy(pair.job))
        # On a job in memory that is never saved.
        pair.job.retention = dict(policy)
    rows = _rows(pair)
    candidates = candidates_of(rows, now=now)
    effective = effective_policy(override=pair.job.retention, options=options)
    cleaned = _cleanups.last(*pair.key) if _cleanups.last else None
    guards = pair_guards(options=options, rows=rows, now=now, last_cleaned=cleaned)
    schedule = pair_schedule(pair=pair, now=now, until=until)
    return Forecast(
        pair=pair,
        plan=plan(candidates, effective, now, guards),
        backups={row.uid: row for row in rows},
        timeline=simulate(candidates, effective, schedule, now, until, guards, trash_hours=options.trash_hours),
        cron=pair_cron(pair),
        next_cleanup=next(iter(schedule.cleanups), None),
    )


def pair_cron(pair: Pair) -> Cron | None:
    """The schedule by which a pair is backed up.

    None when its job is switched off, runs by hand only or names the target no longer, or when its schedule or zone
    cannot be used.
    """
    job = pair.job
    if not (job.enabled and job.schedule.strip()):
        return None
    if not BackupJobTarget.objects.filter(job=job, target=pair.target_id).exists():
        return None
    try:
        load_zone(job.zone_name)
        return parse_cron(job.schedule)
    except ScheduleError:
        return None


def cron_fires(
    cron: Cron, zone: str, start: datetime, end: datetime, *, step: timedelta = datetime.resolution
) -> Iterator[datetime]:
    """The fires of a schedule in (start, end], in UTC; of those closer together than `step`, one a step."""
    fire = cron.next_after(start, zone).astimezone(UTC)
    while fire <= end:
        yield fire
        # The next one is looked for strictly after this moment, and one that is a step away counts.
        fire = cron.next_after(fire + step - datetime.resolution, zone).astimezone(UTC)


def _rows(pair: Pair) -> list[Backup]:
    """The copies that retention looks at, newest first, with what a decision and its page need of each."""
    rows = Backup.objects.of_pair(*pair.key).on_storage().only(*DECIDING_COLUMNS).order_by("-created_at", "-pk")
    return list(rows)


def _backups(pair: Pair, now: datetime, until: datetime) -> Iterator[datetime]:
    if (cron := pair_cron(pair)) is not None:
        yield from cron_fires(cron, pair.job.zone_name, now, until)
