"""What two transactions of PostgreSQL do to each other when each waits for the other."""

from __future__ import annotations

from collections.abc import Callable

from django.db import OperationalError, connection

DEADLOCK = "40P01"
ATTEMPTS = 4


def is_deadlock(error: OperationalError) -> bool:
    """Whether the database ended this transaction so that another could go on: nothing of it has happened."""
    return getattr(error.__cause__, "sqlstate", "") == DEADLOCK


def through_deadlocks[T](work: Callable[[], T]) -> T:
    """Do the work of one transaction, again when the database ended it for a deadlock."""
    for _ in range(ATTEMPTS - 1):
        try:
            return work()
        except OperationalError as error:
            # Inside another transaction it is for whoever began that to begin again.
            if not is_deadlock(error) or connection.in_atomic_block:
                raise
    return work()
