"""APScheduler as a clock: it knows when, the job rows say what, and what fires only records a run."""

from __future__ import annotations

import logging
import pickle
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from django.db import InterfaceError, OperationalError, close_old_connections, connections
from django.utils import timezone
from django_apscheduler.jobstores import DjangoJobStore
from django_apscheduler.models import DjangoJob

from scheduling.cron import ScheduleError, load_zone, parse_cron
from scheduling.every import Every
from scheduling.registry import all_kinds

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from scheduling.items import ScheduledItem

logger = logging.getLogger(__name__)

FIRE = "scheduling.dispatch:fire"
LONGEST_WAIT_SECONDS = 30.0
RETRY_SECONDS = 2.0
COUNT_SECONDS = 30.0
COMPARE_SECONDS = 600.0
SET_BACK_SECONDS = 60.0
# What fires within this time needs no look at start: if it was planned by a wrong clock, it is soon right again.
FAR_AHEAD = timedelta(days=1)

# Schedule, time zone and name.
type Applied = tuple[str, str, str]


class CronsimTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler carries no types
    """An APScheduler trigger with crontab's meaning. Pickled into the job store as its two strings."""

    def __init__(self, expression: str, zone: str) -> None:
        parse_cron(expression)
        load_zone(zone)
        self.expression = expression
        self.zone = zone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The fire (UTC) after the previous one, or after `now` for a new schedule.

        Of fires that have passed since the previous one only the newest is named, so that a long downtime costs no
        more than a short one.
        """
        cron = parse_cron(self.expression)
        # Two times of one zone are compared by the wall clock, which shows some of them twice.
        fire = cron.next_after(previous_fire_time or now, self.zone).astimezone(UTC)
        return fire if fire >= now else max(fire, cron.last_at_or_before(now, self.zone).astimezone(UTC))

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


class FireRecorder(BaseExecutor):  # type: ignore[misc]
    """Records a fire in the clock's own thread, before the store is told that it is no longer due.

    So a fire cannot get lost between the two, whenever the process is killed; done twice, it is one run, since a slot
    has one run. A fire that the database did not take stays due.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unrecorded: set[str] = set()

    def _do_submit_job(self, job: Any, _run_times: list[datetime]) -> None:
        try:
            job.func(*job.args)
        except (OperationalError, InterfaceError):
            self.unrecorded.add(job.id)
            logger.warning("the fire of %s could not be recorded yet; trying again", job.id, exc_info=True)
        except Exception:
            logger.exception("the fire of %s could not be recorded", job.id)
        self._run_job_success(job.id, [])


class ScheduleStore(DjangoJobStore):  # type: ignore[misc]
    """django-apscheduler's store of schedules, without its table of executions: the run ledger records those."""

    def __init__(self, recorder: FireRecorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._batch: list[DjangoJob] = []
        self._template: dict[str, Any] | None = None

    @contextmanager
    def in_bulk(self) -> Iterator[None]:
        """Write what is put during the body in a few statements at its end: ten thousand single ones take seconds."""
        yield
        batch, self._batch = self._batch, []
        DjangoJob.objects.bulk_create(
            batch,
            batch_size=200,
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=["next_run_time", "job_state"],
        )

    def put(self, item: ScheduledItem, trigger: CronsimTrigger, next_run_time: datetime) -> None:
        """Add a schedule, or put it in the place of the one with its id; written at the end of `in_bulk`.

        APScheduler's own way to add a job looks at the function's signature and at its defaults anew for each.
        """
        if self._template is None:
            scheduler = self._scheduler
            defaults = scheduler._job_defaults
            self._template = Job(
                scheduler,
                id=FIRE,
                func=FIRE,
                trigger=trigger,
                executor="default",
                args=("", ""),
                kwargs={},
                name=FIRE,
                misfire_grace_time=defaults["misfire_grace_time"],
                coalesce=defaults["coalesce"],
                max_instances=defaults["max_instances"],
                next_run_time=next_run_time,
            ).__getstate__()
        state = self._template | {
            "id": item.id,
            "trigger": trigger,
            "args": (item.kind, str(item.job_id)),
            "name": item.name,
            "next_run_time": next_run_time,
        }
        pickled = pickle.dumps(state, self.pickle_protocol)
        self._batch.append(DjangoJob(id=item.id, next_run_time=next_run_time, job_state=pickled))

    def register_event_listeners(self) -> None:
        """Listen to nothing."""

    def update_job(self, job: Any) -> None:
        """Write a schedule with its next fire, unless the fire before it is still to be recorded."""
        if job.id not in self._recorder.unrecorded:
            super().update_job(job)


class ClockThread(BackgroundScheduler):  # type: ignore[misc]
    """APScheduler's thread. Nothing that happens inside ends it, and it never waits longer than `LONGEST_WAIT_SECONDS`.

    A wait is measured by a clock that stands still while the machine sleeps and knows nothing of a wall clock that is
    set.
    """

    def __init__(self, recorder: FireRecorder, **options: Any) -> None:
        super().__init__(**options)
        self._recorder = recorder

    def _main_loop(self) -> None:
        try:
            super()._main_loop()
        finally:
            connections.close_all()

    def _process_jobs(self) -> float:
        close_old_connections()
        self._recorder.unrecorded.clear()
        try:
            wait = super()._process_jobs()
        except Exception:
            logger.exception("the clock could not look at what is due; trying again")
            connections.close_all()
            return RETRY_SECONDS
        if self._recorder.unrecorded:
            connections.close_all()
            self._recorder.unrecorded.clear()
            return RETRY_SECONDS
        return LONGEST_WAIT_SECONDS if wait is None else min(float(wait), LONGEST_WAIT_SECONDS)


class Clock:
    """The schedules as they are applied to APScheduler."""

    def __init__(self) -> None:
        recorder = FireRecorder()
        self._store = ScheduleStore(recorder)
        self.scheduler: Any = ClockThread(
            recorder,
            jobstores={"default": self._store},
            executors={"default": recorder},
            # After downtime a schedule fires once, however many of its times have passed and however long ago.
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
            timezone=UTC,
        )
        self._applied: dict[str, Applied] = {}
        self._refused: dict[str, str] = {}
        self._revision: Hashable = None
        self._count_store = Every(COUNT_SECONDS)
        self._compare_all = Every(COMPARE_SECONDS)
        self._boot_at = _boot_at()

    def start(self) -> Self:
        """Start the clock with what its store holds, then apply the rows to it."""
        self.scheduler.start(paused=True)
        try:
            stored = self.scheduler.get_jobs()
            self._applied = {job.id: _applied(job) for job in stored}
            self._bring_back(stored, beyond=timezone.now() + FAR_AHEAD)
            self.reconcile()
            self._count_store()
            self._compare_all()
        except BaseException:
            self.stop()
            raise
        self.scheduler.resume()
        return self

    @property
    def schedule_count(self) -> int:
        """How many schedules are in force."""
        return len(self._applied)

    def stop(self) -> None:
        """Stop firing; a fire that is being recorded is finished first."""
        self.scheduler.shutdown(wait=True)

    def reconcile_if_changed(self) -> None:
        """Reconcile when a job row has changed since the last time, and sometimes without: cheap when it is not due.

        The store's table is open to others. Every half minute its rows are counted; every ten minutes all are compared.
        """
        if _revision() != self._revision or self._compare_all():
            self.reconcile()
        elif self._count_store():
            self._follow_the_wall_clock()
            if DjangoJob.objects.count() != len(self._applied):
                self.reconcile()

    def reconcile(self) -> int:
        """Make APScheduler's jobs what the rows say, touching only what differs.

        Returns how many were added, changed or removed.
        """
        self._follow_the_wall_clock()
        revision = _revision()
        # A schedule that someone took out of the store is put back.
        in_store = set(DjangoJob.objects.values_list("id", flat=True))
        self._applied = {job_id: applied for job_id, applied in self._applied.items() if job_id in in_store}
        gone = set(self._applied)
        changes = 0
        with self._store.in_bulk():
            for item in scheduled_items():
                if not item.is_scheduled:
                    continue
                if self._applied.get(item.id) == (item.schedule, item.timezone, item.name):
                    gone.discard(item.id)
                elif self._apply(item):
                    gone.discard(item.id)
                    changes += 1
        for job_id in gone:
            self._remove(job_id)
            changes += 1
        if changes:
            self.scheduler.wakeup()
        self._revision = revision
        if changes:
            logger.info("schedules reconciled: %d changed, %d in force", changes, len(self._applied))
        return changes

    def _apply(self, item: ScheduledItem) -> bool:
        """Put a new or changed item into the store; False when its schedule or zone cannot be used."""
        known = self._applied.get(item.id)
        if known is not None and known[:2] == (item.schedule, item.timezone):
            self.scheduler.modify_job(item.id, name=item.name)
        else:
            trigger = self._trigger(item)
            if trigger is None:
                return False
            self._store.put(item, trigger, trigger.get_next_fire_time(None, timezone.now()))
        self._applied[item.id] = (item.schedule, item.timezone, item.name)
        return True

    def _trigger(self, item: ScheduledItem) -> CronsimTrigger | None:
        """The item's trigger; None, and said once, when its schedule or zone cannot be read."""
        try:
            trigger = CronsimTrigger(item.schedule, item.timezone)
        except ScheduleError as error:
            if self._refused.get(item.id) != str(error):
                logger.warning("%s (%s) is not scheduled: %s", item.id, item.name, error)
            self._refused[item.id] = str(error)
            return None
        self._refused.pop(item.id, None)
        return trigger

    def _remove(self, job_id: str) -> None:
        try:
            self.scheduler.remove_job(job_id)
        except JobLookupError:
            logger.warning("schedule %s was already gone from the store", job_id)
        self._applied.pop(job_id, None)

    def _follow_the_wall_clock(self) -> None:
        """After the wall clock was set back, bring back the fires that were planned while it was ahead."""
        before, self._boot_at = self._boot_at, _boot_at()
        if before - self._boot_at > SET_BACK_SECONDS:
            logger.warning("the clock was set back by %.0f s: looking at every schedule again", before - self._boot_at)
            self._bring_back(self.scheduler.get_jobs(), beyond=timezone.now())

    def _bring_back(self, jobs: list[Any], *, beyond: datetime) -> None:
        """Give each job whose next fire lies `beyond` and later than its schedule has one its true next fire."""
        now = timezone.now()
        for job in jobs:
            if job.next_run_time is not None and job.next_run_time <= beyond:
                continue
            fire = job.trigger.get_next_fire_time(None, now)
            if job.next_run_time is None or job.next_run_time > fire:
                logger.warning("%s was to fire at %s, and is due at %s", job.id, job.next_run_time, fire)
                self.scheduler.modify_job(job.id, next_run_time=fire)


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


def _applied(job: Any) -> Applied:
    trigger = job.trigger
    return (trigger.expression, trigger.zone, job.name) if isinstance(trigger, CronsimTrigger) else ("", "", job.name)


def _boot_at() -> float:
    """The wall clock's idea of when the machine was started: it moves when that clock is set."""
    return time.time() - time.monotonic()
