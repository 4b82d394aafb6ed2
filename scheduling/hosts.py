"""The hosts at work on one database: their signs of life, and the refusal of a second one on SQLite."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.utils import timezone

from scheduling import holders
from scheduling.database_clock import database_now
from scheduling.models import Host


class SecondHostError(Exception):
    """Another host is at work on the same SQLite database; the message names it and says how to go on."""


def host_beat(*, queues: list[str], started_at: datetime) -> None:
    """Say that a worker of this data folder is alive, and which queues it serves."""
    Host.objects.update_or_create(
        host=holders.host_id(),
        defaults={
            "hostname": socket.gethostname()[:255],
            "version": settings.KEEPWELL_VERSION,
            "queues": queues,
            "pid": os.getpid(),
            "started_at": started_at,
            "seen_at": database_now(),
        },
    )


def host_seen() -> None:
    """Say that some process of this data folder is alive, leaving what its worker said of itself."""
    if not Host.objects.filter(host=holders.host_id()).update(seen_at=database_now()):
        host_beat(queues=[], started_at=timezone.now())


def hosts_refuse_second() -> None:
    """Raise `SecondHostError` when another data folder has been at this SQLite database in the last 90 s."""
    if connection.vendor != "sqlite":
        return
    alive = Host.objects.filter(seen_at__gt=timezone.now() - timedelta(seconds=holders.SILENT_SECONDS))
    other = alive.exclude(host=holders.host_id()).first()
    if other is not None:
        raise SecondHostError(
            f"{other.hostname} (data folder {other.host}) is at work on this SQLite database, and one SQLite file "
            "serves one host. Set DATABASE_URL to a PostgreSQL database on every host; docs/scaling.md says how."
        )
