"""APScheduler as a clock: it knows when, the job rows say what, and what fires only records a run."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from django.db import connections
from django_apscheduler.jobstores import DjangoJobStore

from scheduling.cron import ScheduleError, load_zone, parse_cron
from scheduling.registry import all_kinds

if TYPE_CHECKING:
    from collections.abc import Hashable

    from scheduling.items import ScheduledItem

logger = logging.getLogger(__name__)

FIRE = "scheduling.dispatch:fire"


class CronsimTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler carries no types
    """An APScheduler trigger with crontab's meaning. Pickled into the job store as its two strings."""

    def __init__(self, expression: str, zone: str) -> None:
        parse_cron(expression)
        load_zone(zone)
        self.expression = expression
        self.zone = zone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The fire after the previous one, or after `now` for a new schedule.

        Of fires that have passed since the previous one only the newest is named, so that a long downtime costs no
        more than a short one.
        """
        cron = parse_cron(self.expression)
        fire = cron.next_after(previous_fire_time or now, self.zone)
        if fire >= now:
            return fire
        return max(fire, cron.last_at_or_before(now, self.zone))

    def __getstate__(self) -> dict[str, str]:
        return {"expression": self.expression, "zone": self.zone}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.expression = state["expression"]
        self.zone = state["zone"]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CronsimTrigger) and self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        return hash((self.expression, self.zone))

    def __str__(self) -> str:
        return f"cron[{self.expression} {self.zone}]"


class ScheduleStore(DjangoJobStore):  # type: ignore[misc]
    """django-apscheduler's store of schedules, without its table of executions: the run ledger records those, and
    truthfully.
    """

    def register_event_listeners(self) -> None:
        """Listen to nothing."""


class ClockThread(BackgroundScheduler):  # type: ignore[misc]
    """APScheduler's thread, which gives its database connections back when it ends."""

    def _main_loop(self) -> None:
        try:
            super()._main_loop()
        finally:
            connections.close_all()


class Clock:
    """The schedules as they are applied to APScheduler."""

    def __init__(self) -> None:
        self.scheduler: Any = ClockThread(
            jobstores={"default": ScheduleStore()},
            executors={"default": ThreadPoolExecutor(4)},
            # After downtime a schedule fires once, however many of its times have passed and however long ago.
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
            timezone=UTC,
        )
        self._applied: dict[str, tuple[CronsimTrigger, str]] = {}
        self._revision: Hashable = None

    def start(self) -> Self:
        """Start the clock with what its store holds, then apply the rows to it."""
        self.scheduler.start(paused=True)
        self._applied = {job.id: (job.trigger, job.name) for job in self.scheduler.get_jobs()}
        self.reconcile()
        self.scheduler.resume()
        return self

    def stop(self) -> None:
        """Stop firing; a fire that is being recorded is finished first."""
        self.scheduler.shutdown(wait=True)

    def reconcile_if_changed(self) -> None:
        """Reconcile when a job row has changed since the last time."""
        if _revision() != self._revision:
            self.reconcile()

    def reconcile(self) -> int:
        """Make APScheduler's jobs what the rows say, touching only what differs; returns how many were added, changed
        or removed.
        """
        revision = _revision()
        wanted = _wanted()
        changes = 0
        for job_id in self._applied.keys() - wanted.keys():
            self._remove(job_id)
            changes += 1
        for job_id, (item, trigger) in wanted.items():
            if self._applied.get(job_id) != (trigger, item.name):
                self._apply(item, trigger)
                changes += 1
        self._revision = revision
        if changes:
            logger.info("schedules reconciled: %d changed, %d in force", changes, len(self._applied))
        return changes

    def _apply(self, item: ScheduledItem, trigger: CronsimTrigger) -> None:
        known = self._applied.get(item.id)
        if known is not None and known[0] == trigger:
            self.scheduler.modify_job(item.id, name=item.name)
        else:
            if known is not None:
                self._remove(item.id)
            self.scheduler.add_job(
                FIRE, trigger=trigger, id=item.id, name=item.name, args=[item.kind, str(item.job_id)]
            )
        self._applied[item.id] = (trigger, item.name)

    def _remove(self, job_id: str) -> None:
        try:
            self.scheduler.remove_job(job_id)
        except JobLookupError:
            logger.warning("schedule %s was already gone from the store", job_id)
        self._applied.pop(job_id, None)


def schedule_jobs_on_startup() -> Clock:
    """Start the clock with every enabled schedule of both kinds, under the ids `backup:{id}` and `maintenance:{id}`.

    What the store remembers of unchanged schedules stays, so a time that passed while nothing ran is caught up on once.
    """
    return Clock().start()


def scheduled_items() -> list[ScheduledItem]:
    """Every job of every kind, enabled or not."""
    return [item for kind in all_kinds() for item in kind.items()]


def _revision() -> Hashable:
    return tuple(kind.revision() for kind in all_kinds())


def _wanted() -> dict[str, tuple[ScheduledItem, CronsimTrigger]]:
    wanted = {}
    for item in scheduled_items():
        if not item.is_scheduled:
            continue
        try:
            wanted[item.id] = (item, CronsimTrigger(item.schedule, item.timezone))
        except ScheduleError as error:
            logger.warning("%s (%s) is not scheduled: %s", item.id, item.name, error)
    return wanted
