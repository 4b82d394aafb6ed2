"""What lists say of a job besides its name: its schedule in words, what comes next, and what holds it back."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from heapq import nsmallest
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from scheduling.cron import ScheduleError, load_zone, parse_cron
from scheduling.items import ScheduledItem
from scheduling.job_rules import pause_in_force
from scheduling.job_settings import job_names
from scheduling.rules import MAX_BLACKOUTS, Rules, rules_of
from scheduling.upcoming import Upcoming, schedule_words

if TYPE_CHECKING:
    from scheduling.models import Pause


@dataclass(frozen=True, kw_only=True)
class JobState:
    """One job as a list shows it.

    `next_at` is its next start by its schedule, in `zone`, with pauses, blackout dates and its window taken into
    account; `after` names the job that it runs after. `paused_until` is None when the job itself is not paused.
    """

    words: str
    zone: str
    after: str = ""
    enabled: bool = True
    next_at: datetime | None = None
    paused_until: datetime | None = None
    paused_by: str = ""

    @property
    def starts_by_itself(self) -> bool:
        """Whether there is anything to switch off."""
        return bool(self.after) or self.words != BY_HAND


BY_HAND = schedule_words("")


def job_states(jobs: Iterable[tuple[Any, ScheduledItem]], *, now: datetime) -> dict[str, JobState]:
    """The states of these jobs of either kind, by their item's id: at most one query a kind, and one for the pause."""
    listed = list(jobs)
    names = job_names({job.run_after for job, _ in listed if job.run_after})
    pause = pause_in_force(now)
    states = {}
    for job, item in listed:
        own_pause = job.paused_until if job.paused_until is not None and job.paused_until > now else None
        after = names.get(job.run_after, "")
        states[item.id] = JobState(
            words=f"After {after}" if after and not item.schedule.strip() else schedule_words(item.schedule),
            zone=item.timezone,
            after=after,
            enabled=item.enabled,
            next_at=next_start(item, _rules(job, item), _free_at(job, now, pause)),
            paused_until=own_pause,
            paused_by=job.paused_by if own_pause else "",
        )
    return states


def soonest_starts(
    jobs: Iterable[tuple[Any, ScheduledItem]], *, now: datetime, pause: Pause | None, count: int
) -> list[Upcoming]:
    """The next starts of up to `count` of these jobs, soonest first, with what holds each back taken into account.

    Jobs that share a schedule, and what is set about it, cost one computation.
    """
    known: dict[Hashable, datetime | None] = {}
    found = []
    for job, item in jobs:
        if not item.is_scheduled:
            continue
        rules, free_at = _rules(job, item), _free_at(job, now, pause)
        shared = (item.schedule, rules, free_at)
        if shared not in known:
            known[shared] = next_start(item, rules, free_at)
        if (at := known[shared]) is not None:
            found.append(Upcoming(item=item, at=at))
    return nsmallest(count, found, key=attrgetter("at"))


def next_start(item: ScheduledItem, rules: Rules, after: datetime) -> datetime | None:
    """When the item's schedule next starts a run after `after`, in its zone: not on a blackout date, in its window.

    None when it is switched off, has no schedule, or none that can be used.
    """
    if not item.is_scheduled:
        return None
    try:
        cron, zone = parse_cron(item.schedule), load_zone(item.timezone)
        for _ in range(MAX_BLACKOUTS + 1):
            fire = cron.next_after(after, item.timezone)
            start = rules.opens_at(fire)
            days = rules.blackout(fire) or rules.blackout(start)
            if days is None:
                return start.astimezone(zone)
            after = datetime.combine(days.last + timedelta(days=1), time.min, zone) - timedelta(seconds=1)
    except (ScheduleError, OverflowError, StopIteration):
        return None
    return None


def _rules(job: Any, item: ScheduledItem) -> Rules:
    """What the job's row says of when it may start, in its item's zone: asking the job for it may cost a query."""
    return rules_of(zone=item.timezone, start=job.window_start, end=job.window_end, blackouts=job.blackout_dates or ())


def _free_at(job: Any, now: datetime, pause: Pause | None) -> datetime:
    """When nothing pauses the job any more: `now`, unless something does."""
    ends = (job.paused_until, None if pause is None else pause.until)
    return max([now, *(end for end in ends if end is not None)])
