"""The loop of the scheduler process: it keeps the clock true to the rows and runs what is queued."""

from __future__ import annotations

import logging
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from os import getpid
from typing import Any

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection, connections
from django.utils import timezone

from scheduling import holders
from scheduling.clock import Clock, schedule_jobs_on_startup
from scheduling.ledger import execute_run, flush_live_logs, runs_recover
from scheduling.models import SchedulerState
from scheduling.registry import all_kinds

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.1
POLL_SECONDS = 0.5
RECOVER_SECONDS = 5.0
HEARTBEAT_SECONDS = 5.0
RECONCILE_SECONDS = 30.0
STOP_GRACE_SECONDS = 20.0


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
    """Claims queued runs and runs up to `size` of them at a time, each in a thread of its own."""

    def __init__(self, *, size: int) -> None:
        self.size = size
        self.stop_runs = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=size, thread_name_prefix="run")
        self._busy: dict[tuple[str, int], Future[None]] = {}

    def start_queued(self) -> int:
        """Hand waiting runs to free threads, oldest first; returns how many were handed over."""
        self._busy = {key: future for key, future in self._busy.items() if not future.done()}
        started = 0
        if len(self._busy) >= self.size:
            return started
        for kind, run_id in self._waiting():
            if len(self._busy) >= self.size:
                break
            if (kind, run_id) not in self._busy:
                self._busy[kind, run_id] = self._pool.submit(self._run, kind, run_id)
                started += 1
        return started

    @property
    def busy(self) -> int:
        return sum(not future.done() for future in self._busy.values())

    def close(self) -> None:
        """Ask what runs to stop and wait for it; what does not stop in time is left to be found lost."""
        self.stop_runs.set()
        deadline = time.monotonic() + STOP_GRACE_SECONDS
        while self.busy and time.monotonic() < deadline:
            time.sleep(WATCH_SECONDS)
        self._pool.shutdown(wait=not self.busy, cancel_futures=True)

    def _waiting(self) -> list[tuple[str, int]]:
        rows: list[tuple[Any, str, int]] = []
        for kind in all_kinds():
            model: Any = kind.run_model
            active_jobs = model.objects.active().filter(job__isnull=False).values("job")
            waiting = model.objects.queued().exclude(job__in=active_jobs).order_by("queued_at", "pk")
            rows += [
                (queued_at, kind.kind, pk) for queued_at, pk in waiting.values_list("queued_at", "pk")[: self.size * 4]
            ]
        return [(kind, pk) for _, kind, pk in sorted(rows)]

    def _run(self, kind: str, run_id: int) -> None:
        try:
            execute_run(kind, run_id, stop=self.stop_runs)
        except Exception:
            logger.exception("%s run %s could not be carried to its end", kind, run_id)
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
        self._recover = _Every(RECOVER_SECONDS)
        self._heartbeat = _Every(HEARTBEAT_SECONDS)
        self._reconcile = _Every(RECONCILE_SECONDS)
        self._poll = _Every(POLL_SECONDS)
        self._flush = _Every(1.0)

    def run(self) -> None:
        """Recover, start the clock, and turn until `stopping` is set; then stop both cleanly."""
        runs_recover()
        self._clock = schedule_jobs_on_startup()
        logger.info(
            "scheduler started: %d schedules, %d runs at a time",
            len(self._clock.scheduler.get_jobs()),
            self.worker.size,
        )
        try:
            while not self.stopping.wait(WATCH_SECONDS):
                self._turn()
        finally:
            self._clock.stop()
            self.worker.close()
            SchedulerState.objects.all().delete()
            logger.info("scheduler stopped")

    def _turn(self) -> None:
        """One turn of the loop. A database that is briefly away must not end the process."""
        try:
            close_old_connections()
            self._work()
        except DatabaseError:
            logger.exception("the database did not answer; trying again")
            connection.close()
            self.stopping.wait(1)

    def _work(self) -> None:
        assert self._clock is not None  # noqa: S101 - set in `run` before the first turn
        if self._heartbeat():
            self._beat()
        if self._recover():
            runs_recover()
        if self._reconcile():
            self._clock.reconcile()
        if self._flush() and self.worker.busy:
            flush_live_logs()
        if self._changed() or self._poll():
            self._clock.reconcile_if_changed()
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
