"""What keeps the runs of this process alive and known: leases renewed, cancels heard, logs and progress written."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, close_old_connections, connections
from django.utils import timezone

from scheduling import holders
from scheduling.choices import ACTIVE, RunStatus
from scheduling.database_clock import database_now
from scheduling.hosts import host_seen
from scheduling.progress import Progress
from scheduling.stopping import LEASE_SECONDS, RENEW_SECONDS, StopReason, StopSignal, elapsed

if TYPE_CHECKING:
    from scheduling.models import Run
    from scheduling.registry import RunKind
    from scheduling.run_log import RunLog

logger = logging.getLogger(__name__)

CANCEL_POLL_SECONDS = 1.0
REPORT_SECONDS = 1.0
WATCH_SECONDS = 0.25


@dataclass(eq=False, kw_only=True)
class LiveRun:
    """A run that this process is at."""

    kind: RunKind
    run: Run
    stop: StopSignal
    run_log: RunLog
    progress: Progress = field(default_factory=Progress)
    # Its work is done, and its end is being written down: the fence guards that, with or without a lease.
    is_closing: bool = False

    def report(self) -> None:
        """Write down pending log lines and progress."""
        self.run_log.flush()
        snapshot = self.progress.snapshot(timezone.now())
        if snapshot is not None:
            model: Any = self.kind.run_model
            model.objects.filter(pk=self.run.pk, fence=self.run.fence, status__in=ACTIVE).update(progress=snapshot)


_live: set[LiveRun] = set()
_lock = threading.Lock()
# Set while there are runs to look after: until then a keeper's threads sleep.
_busy = threading.Event()


def live_runs() -> list[LiveRun]:
    with _lock:
        return list(_live)


@contextmanager
def kept(live: LiveRun, *, claimed_at: float) -> Iterator[None]:
    """Let this process's keeper, if it has one, look after the run that was claimed `claimed_at` this time of
    `elapsed`.
    """
    if Keeper.is_on:
        _renewed(live, claimed_at)
    with _lock:
        _live.add(live)
        _busy.set()
    try:
        yield
    finally:
        with _lock:
            _live.discard(live)
            if not _live:
                _busy.clear()


class Keeper:
    """Three threads beside the runs of a process.

    One renews leases and hears of cancels, on a database connection of its own; one writes logs and progress; one
    needs no database and makes stops happen: so that neither a busy nor a vanished database keeps a run from stopping.
    """

    is_on = False

    def __init__(self, *, give_up: Callable[[int], None] = os._exit) -> None:
        self._ended = threading.Event()
        self._give_up = give_up
        loops = (("run-keeper", CANCEL_POLL_SECONDS, self._keep), ("run-reporter", REPORT_SECONDS, report_live_runs))
        self._threads = [
            threading.Thread(target=self._loop, args=(seconds, step), name=name, daemon=True)
            for name, seconds, step in (*loops, ("run-watchdog", WATCH_SECONDS, self._watch))
        ]
        self._renewed = 0.0

    def __enter__(self) -> Keeper:
        Keeper.is_on = True
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        Keeper.is_on = False
        self._ended.set()
        with _lock:
            _busy.set()
        for thread in self._threads:
            thread.join(timeout=2)
        with _lock:
            if not _live:
                _busy.clear()

    def _loop(self, seconds: float, step: Callable[[], None]) -> None:
        try:
            while not self._ended.wait(seconds):
                _busy.wait()
                if self._ended.is_set():
                    return
                try:
                    step()
                except DatabaseError:
                    logger.warning("the database did not answer a keeper of runs; trying again", exc_info=True)
                    connections.close_all()
                except Exception:
                    logger.exception("a keeper of runs met something unexpected; trying again")
        finally:
            connections.close_all()

    def _keep(self) -> None:
        close_old_connections()
        by_kind: dict[str, list[LiveRun]] = {}
        for live in live_runs():
            by_kind.setdefault(live.kind.kind, []).append(live)
        renewing = elapsed() - self._renewed >= RENEW_SECONDS
        at = elapsed()
        for runs in by_kind.values():
            if renewing:
                leases_renew(runs)
            _hear_cancels(runs)
        if renewing:
            host_seen()
            self._renewed = at

    def _watch(self) -> None:
        for live in live_runs():
            live.stop.escalate()
            # Whatever else it was asked to stop for. Where there is no other host, the lock says enough.
            if live.stop.is_overdue and not live.is_closing and holders.other_hosts_possible():
                logger.critical(
                    "run %s does not stop, and its lease is ending: this process ends, so that no other runs beside it",
                    live.run.pk,
                )
                for one in live_runs():
                    one.stop.kill_children()
                self._give_up(70)


def leases_renew(runs: list[LiveRun]) -> None:
    """Renew the leases of runs of one kind, and stop those that are another's by now."""
    model: Any = runs[0].kind.run_model
    at = elapsed()
    mine = model.objects.filter(
        pk__in=[live.run.pk for live in runs], holder__in=[live.run.holder for live in runs], status__in=ACTIVE
    )
    renewed = mine.update(lease_until=database_now(ahead=LEASE_SECONDS))
    kept_ids = None if renewed == len(runs) else set(mine.values_list("pk", flat=True))
    for live in runs:
        if kept_ids is None or live.run.pk in kept_ids:
            _renewed(live, at)
        elif live in live_runs():
            live.stop.ask(StopReason.LEASE)


def _renewed(live: LiveRun, at: float) -> None:
    """Let the run go on until its lease nears its end. Where no other host could take over, it goes on regardless:
    a machine that slept has lost nothing.
    """
    if holders.other_hosts_possible():
        live.stop.renewed(at)


def _hear_cancels(runs: list[LiveRun]) -> None:
    model: Any = runs[0].kind.run_model
    cancelling = model.objects.filter(status=RunStatus.CANCELLING, pk__in=[live.run.pk for live in runs])
    asked = set(cancelling.values_list("pk", flat=True))
    for live in runs:
        if live.run.pk in asked:
            live.stop.ask(StopReason.CANCEL)


def report_live_runs() -> None:
    """Write down what the runs of this process have to say; what cannot be written now is tried again."""
    close_old_connections()
    for live in live_runs():
        try:
            live.report()
        except DatabaseError:
            logger.warning("cannot write the log of run %s yet", live.run.pk, exc_info=True)
