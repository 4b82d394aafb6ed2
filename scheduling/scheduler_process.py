"""The loop of the scheduler process: a worker's, and while it is the active one, the clock's."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import override

from apscheduler.schedulers import SchedulerNotRunningError
from django.utils import timezone

from scheduling import holders
from scheduling.choices import ProcessRole
from scheduling.clock import Clock, schedule_jobs_on_startup
from scheduling.every import Every
from scheduling.models import SchedulerState
from scheduling.scheduler_lock import LockedSeat, Seat
from scheduling.worker_process import QUIET_SECONDS, WorkerProcess, hears_of_commits

logger = logging.getLogger(__name__)

POLL_JOBS_SECONDS = 2.0


class SchedulerProcess(WorkerProcess):
    """Everything `manage.py run_scheduler` does. It fires schedules while it holds its `seat`, and works its queues
    whether it does or not.
    """

    name = "scheduler"

    def __init__(self, *, size: int | None = None, queues: Sequence[str] = (), seat: Seat | None = None) -> None:
        super().__init__(size=size, queues=queues)
        self._seat: Seat = seat or LockedSeat()
        self._clock: Clock | None = None
        self._is_lost = threading.Event()
        self._poll_jobs = Every(QUIET_SECONDS if hears_of_commits() else POLL_JOBS_SECONDS)

    @property
    @override
    def role(self) -> ProcessRole:
        return ProcessRole.SCHEDULER if self._clock is not None else ProcessRole.STANDBY

    @override
    def open(self) -> None:
        self._seat.take(on_lost=self._silence)

    @override
    def close(self) -> None:
        if self._clock is not None:
            self._clock.stop()
        self._seat.leave()

    @override
    def sign_off(self) -> None:
        super().sign_off()
        SchedulerState.objects.filter(host=holders.host_id(), pid=os.getpid()).delete()

    def _silence(self) -> None:
        """Let nothing fire from now on. Called by the seat's thread: this one's may be waiting for the database."""
        self._is_lost.set()
        if (clock := self._clock) is not None:
            with suppress(SchedulerNotRunningError):
                clock.scheduler.pause()

    @override
    def _apply(self, *, changed: bool) -> None:
        if self._clock is not None and (self._is_lost.is_set() or not self._seat.is_held):
            self._stand_down(self._clock)
        elif self._clock is None and self._seat.is_held:
            self._take_over()
        if self._clock is None:
            return
        if changed or self._poll_jobs():
            self._clock.reconcile_if_changed()

    def _take_over(self) -> None:
        self._is_lost.clear()
        clock = schedule_jobs_on_startup()
        self._clock = clock
        logger.info("the clock is on: %d schedules", clock.schedule_count)
        self.say_at_once()

    def _stand_down(self, clock: Clock) -> None:
        self._clock = None
        clock.stop()
        logger.warning("the clock is off: another scheduler may be the active one now")
        self.say_at_once()

    @override
    def _beat(self) -> None:
        if self._seat.is_held:
            SchedulerState.objects.update_or_create(
                pk=1,
                defaults={
                    "host": holders.host_id(),
                    "hostname": socket.gethostname(),
                    "pid": os.getpid(),
                    "started_at": self.started_at,
                    "seen_at": timezone.now(),
                },
            )
        super()._beat()
