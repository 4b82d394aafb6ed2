"""One active scheduler per set of data: on SQLite a file lock on the data folder, on PostgreSQL an advisory lock in the
database, for which others stand by.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol

from django.conf import settings
from django.db import connection, connections

ADVISORY_LOCK = 0x6B656570  # "keep": any constant of our own
ALIAS = "default"


class SchedulerRunningError(Exception):
    """Another scheduler already works on the same data."""


class Seat(Protocol):
    """The place of the active scheduler."""

    @property
    def is_held(self) -> bool: ...

    def take(self, on_lost: Callable[[], None]) -> None:
        """Begin to try for the place; `on_lost` is called, in any thread, when it was held and is not any more."""

    def leave(self) -> None: ...


class LockedSeat:
    """The place of a scheduler that is alone: whoever made it has made sure of that."""

    is_held = True

    def take(self, on_lost: Callable[[], None]) -> None:
        """There is nothing to wait for."""

    def leave(self) -> None:
        """There is nothing to give back."""


@contextmanager
def scheduler_seat() -> Iterator[Seat]:
    """The place to run a scheduler with. Raises `SchedulerRunningError` at once where there can be no standby."""
    if connection.vendor == "postgresql":
        # By name: what it needs is not loaded on SQLite.
        yield import_module("scheduling.seat").AdvisorySeat()
        return
    with _folder_lock():
        yield LockedSeat()


@contextmanager
def scheduler_lock() -> Iterator[None]:
    """Keep every scheduler out for the body. Raises `SchedulerRunningError` at once when one is at work."""
    with _folder_lock(), _advisory_lock():
        yield


@contextmanager
def _folder_lock() -> Iterator[None]:
    path = Path(settings.KEEPWELL_DATA) / "scheduler.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SchedulerRunningError(
                f"A scheduler is already running on {settings.KEEPWELL_DATA}. Stop it first, or set KEEPWELL_DATA to "
                "another folder."
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _advisory_lock() -> Iterator[None]:
    if connections[ALIAS].vendor != "postgresql":
        yield
        return
    # A connection of its own: the lock lasts exactly as long as it does, and nothing else may close it.
    holding = connections.create_connection(ALIAS)
    try:
        with holding.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK])
            (taken,) = cursor.fetchone()
        if not taken:
            raise SchedulerRunningError("A scheduler is already running on this PostgreSQL database. Stop it first.")
        yield
    finally:
        holding.close()
