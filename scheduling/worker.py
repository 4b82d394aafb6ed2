"""Claims the queued runs of some queues and runs them, and mends what dead processes left."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connections
from django.db.models import Q
from django.utils import timezone

from scheduling.choices import BY_ITSELF
from scheduling.engine.delivery import DEFAULT_QUEUE, uses_messages
from scheduling.executing import execute_run
from scheduling.job_rules import pause_in_force
from scheduling.ledger import runs_mend
from scheduling.registry import all_kinds

logger = logging.getLogger(__name__)

RECOVER_SECONDS = 5.0
STOP_GRACE_SECONDS = 20.0
PAUSE_SECONDS = 5.0
# Where messages tell of runs, one that has waited for longer has lost its message, or waits for another run.
MESSAGE_SECONDS = 5.0


class Worker:
    """Runs up to `size` queued runs of its `queues` at a time, each in a thread of its own.

    The threads are daemons: one that hangs on a dead disk must not keep the process from ending.
    """

    def __init__(self, *, size: int, queues: Sequence[str] = ()) -> None:
        self.size = size
        self.queues = list(dict.fromkeys(queues)) or list(settings.KEEPWELL_QUEUES)
        self.stop_runs = threading.Event()
        self._busy: dict[tuple[str, int], threading.Thread] = {}
        # Runs are begun by the loop and by whoever receives messages.
        self._beginning = threading.Lock()
        self._freed = threading.Event()
        self._paused_until = 0.0

    def start_queued(self) -> int:
        """Hand waiting runs to new threads, oldest first; returns how many were handed over."""
        self._freed.clear()
        if not self._has_place():
            return 0
        started = 0
        for kind, run_id in self._waiting():
            started += self.begin(kind, run_id)
            if not self._has_place():
                break
        return started

    def begin(self, kind: str, run_id: int, when_done: Callable[[], None] = lambda: None) -> bool:
        """Hand one run to a new thread, which calls `when_done` at its end; False when there is no place for it."""
        with self._beginning:
            if not self._has_place() or (kind, run_id) in self._busy or self.stop_runs.is_set():
                return False
            thread = threading.Thread(
                target=self._run, args=(kind, run_id, when_done), name=f"{kind}-{run_id}", daemon=True
            )
            self._busy[kind, run_id] = thread
            thread.start()
            return True

    @property
    def busy(self) -> int:
        return sum(thread.is_alive() for thread in list(self._busy.values()))

    @property
    def has_room(self) -> bool:
        """Whether a run has ended since runs were last started."""
        return self._freed.is_set()

    def close(self) -> None:
        """Ask what runs to stop and wait for it; what does not stop in time is left to be found lost."""
        self.stop_runs.set()
        deadline = time.monotonic() + STOP_GRACE_SECONDS
        for thread in list(self._busy.values()):
            thread.join(max(0.0, deadline - time.monotonic()))
        if self.busy:
            logger.warning("%d runs did not stop within %.0f s and are given up", self.busy, STOP_GRACE_SECONDS)

    def _has_place(self) -> bool:
        for key, thread in list(self._busy.items()):
            if thread.ident is not None and not thread.is_alive():
                self._busy.pop(key, None)
        return len(self._busy) < self.size and time.monotonic() >= self._paused_until

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
        """Of the queued runs those of these queues that may start now, and of which nobody else tells."""
        names = [*self.queues, *([""] if DEFAULT_QUEUE in self.queues else [])]
        startable = queued.filter(queue__in=names).filter(Q(not_before=None) | Q(not_before__lte=now))
        if uses_messages():
            startable = startable.filter(queued_at__lte=now - timedelta(seconds=MESSAGE_SECONDS))
        if pause_in_force(now) is not None:
            return startable.exclude(trigger__in=BY_ITSELF)
        return startable.exclude(trigger__in=BY_ITSELF, job__paused_until__gt=now)

    def _run(self, kind: str, run_id: int, when_done: Callable[[], None]) -> None:
        try:
            execute_run(kind, run_id, stop=self.stop_runs)
        except Exception:
            logger.exception("%s run %s could not be carried to its end", kind, run_id)
            # The data folder or the database is full or away: the next try would most likely end the same way.
            self._paused_until = time.monotonic() + PAUSE_SECONDS
        finally:
            try:
                when_done()
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
