"""The hosts at work on one database: their signs of life, and the refusal of a second one on SQLite."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import lru_cache

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Q
from django.utils import timezone

from scheduling import holders
from scheduling.choices import ProcessRole
from scheduling.database_clock import database_now
from scheduling.models import Host
from scheduling.models.state import new_process_id

# How long the row of a process that fell silent is kept: one that ran a command is of no interest after an hour.
KEPT = timedelta(days=7)
COMMAND_KEPT = timedelta(hours=1)


class SecondHostError(Exception):
    """Another host is at work on the same SQLite database; the message names it and says how to go on."""


@lru_cache(maxsize=4)
def _process_id(_pid: int) -> str:
    return new_process_id()


def process_id() -> str:
    """The name under which this process signs; a forked child has another."""
    return _process_id(os.getpid())


def host_beat(*, queues: list[str], started_at: datetime, role: ProcessRole = ProcessRole.WORKER) -> None:
    """Say that this process is alive, what it is there for, and which queues it serves."""
    Host.objects.update_or_create(
        process=process_id(),
        defaults={
            "host": holders.host_id(),
            "hostname": socket.gethostname()[:255],
            "version": settings.KEEPWELL_VERSION,
            "role": role,
            "queues": queues,
            "pid": os.getpid(),
            "started_at": started_at,
            "seen_at": database_now(),
        },
    )


def host_seen() -> None:
    """Say that this process is alive, leaving what it said of itself; one that said nothing runs a command."""
    if not Host.objects.filter(process=process_id()).update(seen_at=database_now()):
        host_beat(queues=[], started_at=timezone.now(), role=ProcessRole.COMMAND)


def host_gone() -> None:
    """Say that this process has ended in good order."""
    Host.objects.filter(process=process_id()).delete()


@contextmanager
def host_leaving() -> Iterator[None]:
    """Take this process's row, if it made one, away at the end of the body."""
    try:
        yield
    finally:
        with suppress(DatabaseError):
            host_gone()


def hosts_sweep() -> int:
    """Forget the processes that have been silent for long; returns how many."""
    silent = Q(seen_at__lt=database_now(ahead=-KEPT.total_seconds())) | Q(
        role=ProcessRole.COMMAND, seen_at__lt=database_now(ahead=-COMMAND_KEPT.total_seconds())
    )
    deleted, _ = Host.objects.filter(silent).delete()
    return deleted


def hosts_refuse_second() -> None:
    """Raise `SecondHostError` when another data folder has been at this SQLite database in the last 90 s."""
    if connection.vendor != "sqlite":
        return
    alive = Host.objects.filter(seen_at__gt=timezone.now() - timedelta(seconds=holders.SILENT_SECONDS))
    other = alive.exclude(host=holders.host_id()).order_by("-seen_at").first()
    if other is not None:
        ago = max(0, round((timezone.now() - other.seen_at).total_seconds()))
        raise SecondHostError(
            f"{other.hostname} (data folder {other.host}) was at work on this SQLite database {ago} s ago, and one "
            "SQLite file serves one host. Set DATABASE_URL to a PostgreSQL database on every host; docs/scaling.md "
            f"says how. If that host is gone for good, try again in {max(1, round(holders.SILENT_SECONDS) - ago)} s."
        )
