"""The loop of the scheduler process: it keeps the clock true to the rows and runs what is queued."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from os import getpid
from typing import Any

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection, connections
from django.db.models import Q
from django.utils import timezone

from scheduling import holders
from scheduling.choices import BY_ITSELF
from scheduling.clock import Clock, schedule_jobs_on_startup
from scheduling.executing import execute_run
from scheduling.hosts import host_beat
from scheduling.job_rules import pause_in_force
from scheduling.keeper import Keeper
from scheduling.ledger import runs_mark_lost, runs_mend
from scheduling.models import SchedulerState
from scheduling.registry import all_kinds
from scheduling.stopping import RENEW_SECONDS
from scheduling.wall_clock import clock_jump

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.1
POLL_RUNS_SECONDS = 0.5
POLL_JOBS_SECONDS = 2.0
RECOVER_SECONDS = 5.0
HEARTBEAT_SECONDS = 5.0
RECONCILE_SECONDS = 30.0
STOP_GRACE_SECONDS = 20.0
MENDER_GRACE_SECONDS = 2.0
PAUSE_SECONDS = 5.0
# The queue of jobs that name none.
DEFAULT_QUEUE = "default"


class _Every:
    """Says yes at most once per `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + self._seconds
        return True


class Worker:
    """Claims queued runs of its `queues` and runs up to `size` of them at a time, each in a thread of its own.

    The threads are daemons: one that hangs on a dead disk must not keep the process from ending.
    """

    def __init__(self, *, size: int, queues: Sequence[str] = ()) -> None:
        self.size = size
        self.queues = list(queues) or list(settings.KEEPWELL_QUEUES)
        self.stop_runs = threading.Event()
        self._busy: dict[tuple[str, int], threading.Thread] = {}
        self._freed = threading.Event()
        self._paused_until = 0.0

    def start_queued(self) -> int:
        """Hand waiting runs to new threads, oldest first; returns how many were handed over."""
        self._freed.clear()
        self._busy = {key: thread for key, thread in self._busy.items() if thread.is_alive()}
        started = 0
        if len(self._busy) >= self.size or time.monotonic() < self._paused_until:
            return started
        for kind, run_id in self._waiting():
            if len(self._busy) >= self.size:
                break
            if (kind, run_id) not in self._busy:
                thread = threading.Thread(target=self._run, args=(kind, run_id), name=f"{kind}-{run_id}", daemon=True)
                self._busy[kind, run_id] = thread
                thread.start()
                started += 1
        return started

    @property
    def busy(self) -> int:
        return sum(thread.is_alive() for thread in self._busy.values())

    @property
    def has_room(self) -> bool:
        """Whether a run has ended since runs were last started."""
        return self._freed.is_set()

    def close(self) -> None:
        """Ask what runs to stop and wait for it; what does not stop in time is left to be found lost."""
        self.stop_runs.set()
        deadline = time.monotonic() + STOP_GRACE_SECONDS
        for thread in self._busy.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        if self.busy:
            logger.warning("%d runs did not stop within %.0f s and are given up", self.busy, STOP_GRACE_SECONDS)

    def _waiting(self) -> list[tuple[str, int]]:
        rows: list[tuple[Any, str, int]] = []
        for kind in all_kinds():
            model: Any = kind.run_model
            if not model.objects.queued().exists():  # twice a second the answer is no, and this is the cheap question
                continue
            queued = self._startable(model.objects.queued(), timezone.now())
            active_jobs = model.objects.active().filter(job__isnull=False).values("job")
            waiting = kind.ready(queued).exclude(job__in=active_jobs).order_by("queued_at", "pk")
            rows += [
                (queued_at, kind.kind, pk) for queued_at, pk in waiting.values_list("queued_at", "pk")[: self.size * 4]
            ]
        return [(kind, pk) for _, kind, pk in sorted(rows)]

    def _startable(self, queued: Any, now: datetime) -> Any:
        """Of the queued runs those of these queues that may start now."""
        names = [*self.queues, *([""] if DEFAULT_QUEUE in self.queues else [])]
        startable = queued.filter(queue__in=names).filter(Q(not_before=None) | Q(not_before__lte=now))
        if pause_in_force(now) is not None:
            return startable.exclude(trigger__in=BY_ITSELF)
        return startable.exclude(trigger__in=BY_ITSELF, job__paused_until__gt=now)

    def _run(self, kind: str, run_id: int) -> None:
        try:
            execute_run(kind, run_id, stop=self.stop_runs)
        except Exception:
            logger.exception("%s run %s could not be carried to its end", kind, run_id)
            # The data folder or the database is full or away: the next try would most likely end the same way.
            self._paused_until = time.monotonic() + PAUSE_SECONDS
        finally:
            connections.close_all()
            self._freed.set()


class Mender(threading.Thread):
    """Looks again and again for what dead processes left half done.

    A thread of its own, because it looks at storages, and one that hangs must not stop the clock.
    """

    def __init__(self, stopping: threading.Event) -> None:
        super().__init__(name="mender", daemon=True)
        self._stopping = stopping

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    close_old_connections()
                    runs_mend()
                except Exception:
                    logger.exception("what dead processes left could not be mended; trying again")
                    connections.close_all()
                self._stopping.wait(RECOVER_SECONDS)
        finally:
            connections.close_all()


class SchedulerProcess:
    """Everything `manage.py run_scheduler` does between taking its lock and giving it back."""

    def __init__(self, *, size: int | None = None) -> None:
        self.stopping = threading.Event()
        self.worker = Worker(size=size or settings.KEEPWELL_WORKERS)
        self._clock: Clock | None = None
        self._started_at = timezone.now()
        self._data_version: object = None
        self._lost = _Every(RECOVER_SECONDS)
        self._heartbeat = _Every(HEARTBEAT_SECONDS)
        self._reconcile = _Every(RECONCILE_SECONDS)
        self._reconnect = _Every(RECONCILE_SECONDS)
        self._poll_jobs = _Every(POLL_JOBS_SECONDS)
        self._poll_runs = _Every(POLL_RUNS_SECONDS)
        self._host_beat = _Every(RENEW_SECONDS)

    def run(self) -> None:
        """Recover, start the clock, and turn until `stopping` is set; then stop both cleanly."""
        mender = Mender(self.stopping)
        with Keeper():
            try:
                while not self.stopping.wait(WATCH_SECONDS):
                    self._turn()
                    if self._clock is not None and mender.ident is None:
                        mender.start()
            finally:
                self.stopping.set()
                if self._clock is not None:
                    self._clock.stop()
                self.worker.close()
        try:
            if mender.ident is not None:
                mender.join(MENDER_GRACE_SECONDS)
        finally:
            with suppress(DatabaseError):
                SchedulerState.objects.all().delete()
            logger.info("scheduler stopped")

    def _turn(self) -> None:
        """One turn of the loop. Whatever goes wrong in it must not end the process: the next turn tries again."""
        try:
            # SQLite's connection is kept for a while: whether others have written can only be asked of the same one.
            if connection.vendor != "sqlite" or self._reconnect():
                close_old_connections()
            if self._clock is None:
                self._start()
            else:
                self._work(self._clock)
        except DatabaseError:
            logger.exception("the database did not answer; trying again")
            connection.close()
            self.stopping.wait(1)
        except Exception:
            logger.exception("the scheduler's loop met something unexpected; trying again")
            self.stopping.wait(PAUSE_SECONDS)

    def _start(self) -> None:
        runs_mark_lost()
        self._clock = schedule_jobs_on_startup()
        logger.info("scheduler started: %d schedules, %d runs at a time", self._clock.schedule_count, self.worker.size)

    def _work(self, clock: Clock) -> None:
        if self._heartbeat():
            self._beat()
        if self._lost():
            runs_mark_lost()
        if self._reconcile():
            clock.reconcile()
        if self._host_beat():
            host_beat(queues=self.worker.queues, started_at=self._started_at)
        changed = self._changed()
        if changed or self._poll_jobs():
            clock.reconcile_if_changed()
        if changed or self.worker.has_room or self._poll_runs():
            self.worker.start_queued()

    def _changed(self) -> bool:
        """Whether another connection has committed since the last turn: one cheap pragma on SQLite; elsewhere the
        poll has to do.
        """
        if connection.vendor != "sqlite":
            return False
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            version = cursor.fetchone()
        changed: bool = version != self._data_version
        self._data_version = version
        return changed

    def _beat(self) -> None:
        SchedulerState.objects.update_or_create(
            pk=1,
            defaults={
                "host": holders.host_id(),
                "hostname": socket.gethostname(),
                "pid": getpid(),
                "started_at": self._started_at,
                "seen_at": timezone.now(),
            },
        )
        # Looked at here too, so that a jump is noticed, and is in the log, when it happens and not at the next cleanup.
        clock_jump()
