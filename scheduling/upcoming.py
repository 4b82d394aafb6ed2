"""When jobs run next, worked out from their own schedules: true whether the scheduler is running or not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from scheduling.cron import ScheduleError, parse_cron

if TYPE_CHECKING:
    from scheduling.items import ScheduledItem


@dataclass(frozen=True, kw_only=True)
class Upcoming:
    """The next fire of one job; `at` is in the zone of its schedule."""

    item: ScheduledItem
    at: datetime


def next_fire(item: ScheduledItem, now: datetime) -> datetime | None:
    """The item's first fire after `now`, in its zone.

    None when it is switched off, has no schedule, or has one that cannot be used.
    """
    if not item.is_scheduled:
        return None
    try:
        return parse_cron(item.schedule).next_after(now, item.timezone)
    except ScheduleError:
        return None


def schedule_words(schedule: str) -> str:
    """A schedule in words; "By hand only" for a blank one, and what is wrong with one that cannot be read."""
    if not schedule.strip():
        return "By hand only"
    try:
        return parse_cron(schedule).words
    except ScheduleError as error:
        return str(error)
