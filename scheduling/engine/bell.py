"""Hears at once on PostgreSQL that a run was queued, where otherwise the next look at the ledger would tell."""

from __future__ import annotations

import logging
import threading
from typing import Any

import psycopg
from django.db import connections
from psycopg import sql

from scheduling.engine.delivery import CHANNEL

logger = logging.getLogger(__name__)

LISTEN_SECONDS = 5.0
RECONNECT_SECONDS = 5.0


def own_connection(**options: Any) -> psycopg.Connection[Any]:
    """A connection to Django's PostgreSQL database beside Django's own: each statement is its own transaction."""
    parameters = connections["default"].get_connection_params()
    for name in ("cursor_factory", "context"):
        parameters.pop(name, None)
    return psycopg.connect(**{**parameters, **options}, autocommit=True)


class Bell(threading.Thread):
    """Sets `rung` whenever a run of one of the queues was recorded."""

    def __init__(self, queues: list[str], stopping: threading.Event) -> None:
        super().__init__(name="bell", daemon=True)
        self.rung = threading.Event()
        self._queues = set(queues)
        self._stopping = stopping

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with own_connection(connect_timeout=5) as connection:
                    self._listen(connection)
            except (psycopg.Error, OSError) as error:
                logger.info("not told of new runs until the database answers again: %s", error)
                self._stopping.wait(RECONNECT_SECONDS)

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        while not self._stopping.is_set():
            for notification in connection.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                if notification.payload in self._queues:
                    self.rung.set()
            connection.execute("SELECT 1")  # a connection that was cut says so here
