"""One scheduler per set of data: a file lock on the data folder and, on PostgreSQL, an advisory lock in the database
as well.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import connections

ADVISORY_LOCK = 0x6B656570  # "keep": any constant of our own
ALIAS = "default"


class SchedulerRunningError(Exception):
    """Another scheduler already works on the same data."""


@contextmanager
def scheduler_lock() -> Iterator[None]:
    """Hold the scheduler's place for the body. Raises `SchedulerRunningError` at once when it is taken."""
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
        with _advisory_lock():
            yield
    finally:
        os.close(descriptor)


@contextmanager
def _advisory_lock() -> Iterator[None]:
    if connections[ALIAS].vendor != "postgresql":
        yield
        return
    # A connection of its own: the lock lasts exactly as long as it does, and nothing else may close it.
    connection = connections.create_connection(ALIAS)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK])
            (taken,) = cursor.fetchone()
        if not taken:
            raise SchedulerRunningError("A scheduler is already running on this PostgreSQL database. Stop it first.")
        yield
    finally:
        connection.close()
