"""How a running run is asked to stop, and made to: cooperatively first, then by ending its child processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from django.conf import settings

LEASE_SECONDS = float(settings.KEEPWELL_LEASE_SECONDS)
RENEW_SECONDS = LEASE_SECONDS / 6
# Without a renewal for this long the holder stops itself, well before another host may call its run lost.
SELF_STOP_SECONDS = LEASE_SECONDS * 2 / 3
TERMINATE_AFTER_SECONDS = 5.0
KILL_AFTER_SECONDS = 15.0
LOOK_SECONDS = 0.25


class StopReason(StrEnum):
    SHUTDOWN = "shutdown"
    CANCEL = "cancel"
    TIME_LIMIT = "time_limit"
    LEASE = "lease"


def elapsed() -> float:
    """Seconds that also pass while the machine sleeps or the process is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class StopSignal(threading.Event):
    """An event that the work of one run looks at between steps.

    It is set when the process shuts down (`shutdown`), when someone cancels the run, after `time_limit` seconds, and
    when the run's lease could not be renewed in time. The last two are looked at by `is_set` itself: a process that was
    stopped and goes on sees it before it does anything else. The first reason stands.
    """

    def __init__(self, *, shutdown: threading.Event | None = None, time_limit: float | None = None) -> None:
        super().__init__()
        self.reason: StopReason | None = None
        self._asked = threading.Lock()
        self._shutdown = shutdown
        self._deadline = None if time_limit is None else elapsed() + time_limit
        self._renew_by: float | None = None
        self._set_at = 0.0
        self._groups: set[int] = set()
        self._signalled: dict[int, signal.Signals] = {}

    def ask(self, reason: StopReason) -> None:
        """Set the event, unless it is."""
        with self._asked:
            if self.reason is None:
                self.reason = reason
                self._set_at = elapsed()
                self.set()

    def renewed(self, at: float) -> None:
        """The lease was renewed by a statement that was sent `at` this time of `elapsed`."""
        self._renew_by = at + SELF_STOP_SECONDS

    def is_set(self) -> bool:
        if self.reason is None:
            if self._shutdown is not None and self._shutdown.is_set():
                self.ask(StopReason.SHUTDOWN)
            elif self._renew_by is not None and elapsed() > self._renew_by:
                self.ask(StopReason.LEASE)
            elif self._deadline is not None and elapsed() > self._deadline:
                self.ask(StopReason.TIME_LIMIT)
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; looked at as `is_set` does, so that no other thread need turn for it."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = LOOK_SECONDS if until is None else min(LOOK_SECONDS, until - time.monotonic())
            if left <= 0:
                return False
            super().wait(left)
        return True

    @property
    def is_overdue(self) -> bool:
        """Whether the lease is about to end, or has ended, under work that does not stop."""
        return self._renew_by is not None and elapsed() > self._renew_by + (LEASE_SECONDS - SELF_STOP_SECONDS) * 0.8

    @contextmanager
    def child_group(self, pid: int) -> Iterator[None]:
        """While the body runs, a stop also ends the process group `pid`: SIGTERM after 5 s, SIGKILL after 15 s."""
        self._groups.add(pid)
        try:
            yield
        finally:
            self._groups.discard(pid)
            self._signalled.pop(pid, None)

    def kill_children(self) -> None:
        """End every child group at once: this process is about to end, and they are not to outlive it."""
        for group in list(self._groups):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def escalate(self) -> None:
        """Send the child groups what is due by now; called again and again by the keeper."""
        if not self.is_set():
            return
        waited = elapsed() - self._set_at
        due = signal.SIGKILL if waited >= KILL_AFTER_SECONDS else signal.SIGTERM
        if waited < TERMINATE_AFTER_SECONDS:
            return
        for group in list(self._groups):
            if self._signalled.get(group) != due:
                self._signalled[group] = due
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, due)
