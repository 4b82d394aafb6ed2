"""The loop of a process that runs what is queued: `manage.py run_worker`, and the ground of the scheduler's."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import FrameType

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from scheduling.choices import ProcessRole
from scheduling.engine.delivery import uses_messages
from scheduling.every import Every
from scheduling.hosts import host_beat, host_gone, hosts_refuse_second, hosts_sweep
from scheduling.keeper import Keeper
from scheduling.ledger import runs_mark_lost
from scheduling.stopping import RENEW_SECONDS
from scheduling.wall_clock import clock_jump
from scheduling.worker import PAUSE_SECONDS, Mender, Worker

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.1
POLL_RUNS_SECONDS = 0.5
# Where every commit is heard of, only what becomes due by itself has to be looked for.
QUIET_POLL_SECONDS = 2.0
QUIET_SECONDS = 30.0
# Where messages tell of runs the ledger is looked at for those alone whose message was lost or came too early.
SWEEP_SECONDS = 3.0
HEARTBEAT_SECONDS = 5.0
# A process that died on this host is to be known within five seconds.
LOST_SECONDS = 2.0
RECONNECT_SECONDS = 30.0
HOST_SECONDS = min(RENEW_SECONDS, HEARTBEAT_SECONDS)
HOSTS_SWEEP_SECONDS = 3600.0
MENDER_GRACE_SECONDS = 2.0


class WorkerProcess:
    """A process that works some queues: it claims and runs, beats, and notices what others left."""

    name = "worker"

    def __init__(self, *, size: int | None = None, queues: Sequence[str] = ()) -> None:
        self.stopping = threading.Event()
        self.worker = Worker(size=size or settings.KEEPWELL_WORKERS, queues=queues)
        self.started_at = timezone.now()
        self._is_started = False
        self._data_version: object = None
        self._rung: threading.Event | None = None
        self._lost = Every(LOST_SECONDS)
        self._heartbeat = Every(HEARTBEAT_SECONDS)
        self._host_beat = Every(HOST_SECONDS)
        self._reconnect = Every(RECONNECT_SECONDS)
        self._poll_runs = Every(_poll_seconds())
        self._hosts_sweep = Every(HOSTS_SWEEP_SECONDS)

    @property
    def role(self) -> ProcessRole:
        return ProcessRole.WORKER

    def stop_on_signals(self) -> None:
        """Let SIGTERM and Ctrl-C end `run`; needs the main thread."""

        def stop(_signal: int, _frame: FrameType | None) -> None:
            self.stopping.set()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    def run(self) -> None:
        """Turn until `stopping` is set; then stop cleanly."""
        mender = Mender(self.stopping)
        self.open()
        with Keeper():
            self._hear()
            try:
                while not self.stopping.wait(WATCH_SECONDS):
                    self._turn()
                    if self._is_started and mender.ident is None:
                        mender.start()
            finally:
                self.stopping.set()
                self.close()
                self.worker.close()
        try:
            if mender.ident is not None:
                mender.join(MENDER_GRACE_SECONDS)
        finally:
            with suppress(DatabaseError):
                self.sign_off()
            logger.info("%s stopped", self.name)

    def open(self) -> None:
        """What is begun once, before the first turn."""

    def close(self) -> None:
        """What is ended once, after the last turn and before the runs are asked to stop."""

    def say_at_once(self) -> None:
        """Say in the next turn what this process is, without waiting for the time."""
        self._heartbeat, self._host_beat = Every(HEARTBEAT_SECONDS), Every(HOST_SECONDS)

    def sign_off(self) -> None:
        """Take back what this process has said of itself."""
        host_gone()

    def _hear(self) -> None:
        """Start the thread that hears of runs sooner than the ledger is looked at."""
        if connection.vendor != "postgresql":
            return
        # By name: what SQLite has no use for is not loaded there.
        if uses_messages():
            import_module("scheduling.engine.courier").Courier(self.worker, self.stopping).start()
        else:
            bell = import_module("scheduling.engine.bell").Bell(self.worker.queues, self.stopping)
            self._rung = bell.rung
            bell.start()

    def _turn(self) -> None:
        """One turn of the loop. Whatever goes wrong in it must not end the process: the next turn tries again."""
        try:
            # SQLite's connection is kept for a while: whether others have written can only be asked of the same one.
            if connection.vendor != "sqlite" or self._reconnect():
                close_old_connections()
            self._work()
        except DatabaseError:
            logger.exception("the database did not answer; trying again")
            connection.close()
            self.stopping.wait(1)
        except Exception:
            logger.exception("the %s's loop met something unexpected; trying again", self.name)
            self.stopping.wait(PAUSE_SECONDS)

    def _work(self) -> None:
        if not self._is_started:
            self._start()
        if self._heartbeat():
            self._beat()
        if self._lost():
            runs_mark_lost()
        if self._host_beat():
            host_beat(queues=self.worker.queues, started_at=self.started_at, role=self.role)
        if self._hosts_sweep():
            hosts_sweep()
        changed = self._changed()
        if (changed and not uses_messages()) or self.worker.has_room or self._poll_runs():
            self.worker.start_queued()
        # Last: whatever is wrong with the schedules, what is queued runs.
        self._apply(changed=changed)

    def _start(self) -> None:
        """What the first turn begins with; done again until it succeeds."""
        runs_mark_lost()
        queues = ", ".join(self.worker.queues)
        logger.info("%s started: queues %s, %d runs at a time", self.name, queues, self.worker.size)
        self._is_started = True

    def _apply(self, *, changed: bool) -> None:
        """What else a turn does; `changed` says that the database may have."""

    def _beat(self) -> None:
        # Looked at here too, so that a jump is noticed, and is in the log, when it happens and not at the next cleanup.
        clock_jump()

    def _changed(self) -> bool:
        """Whether another connection has committed since the last turn: one cheap pragma on SQLite; elsewhere whether
        a notification came.
        """
        if connection.vendor != "sqlite":
            if self._rung is None or not self._rung.is_set():
                return False
            self._rung.clear()
            return True
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            version = cursor.fetchone()
        changed: bool = version != self._data_version
        self._data_version = version
        return changed


def hears_of_commits() -> bool:
    """Whether a turn can ask the database if another connection has committed."""
    return connection.vendor == "sqlite"


def _poll_seconds() -> float:
    """How long the ledger is not looked at when nothing says that it should be."""
    if uses_messages():
        return SWEEP_SECONDS
    return QUIET_POLL_SECONDS if hears_of_commits() else POLL_RUNS_SECONDS


def host_join(process: WorkerProcess) -> None:
    """Sign on, before anything is done. Raises `SecondHostError` where another host is at work already."""
    hosts_refuse_second()
    host_beat(queues=process.worker.queues, started_at=process.started_at, role=process.role)
