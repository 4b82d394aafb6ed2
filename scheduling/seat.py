"""Which of several schedulers is the active one: the holder of an advisory lock in PostgreSQL.

The lock lasts as long as its connection, and the connection as long as its holder speaks: the server ends it after
`SILENCE_SECONDS` without a word, whether the holder was killed, stopped, or cut off. The holder in turn trusts its
place for `HOLD_SECONDS` after the last word that was answered, which is less: it has stopped before another begins.
"""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import pq

from scheduling.engine.bell import own_connection
from scheduling.scheduler_lock import ADVISORY_LOCK
from scheduling.stopping import elapsed

logger = logging.getLogger(__name__)

SPEAK_SECONDS = 1.0
ANSWER_SECONDS = 2.0
HOLD_SECONDS = 4.0
SILENCE_SECONDS = 6.0
CONNECT_SECONDS = 3


class AdvisorySeat:
    """The place that several schedulers on one PostgreSQL database try for, in a thread of its own."""

    def __init__(self) -> None:
        self._left = threading.Event()
        self._held_until = 0.0
        self._connection: psycopg.Connection[Any] | None = None
        self._has_lock = False
        self._on_lost: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._loop, name="scheduler-seat", daemon=True)

    @property
    def is_held(self) -> bool:
        return elapsed() < self._held_until

    def take(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._thread.start()

    def leave(self) -> None:
        self._left.set()
        if self._thread.ident is not None:
            self._thread.join(ANSWER_SECONDS + 1)

    def _loop(self) -> None:
        while True:
            try:
                self._speak()
            except (psycopg.Error, OSError) as error:
                self._drop(str(error).strip())
            except Exception as error:
                logger.exception("the place of the active scheduler met something unexpected; trying again")
                self._drop(str(error))
            if self._left.wait(SPEAK_SECONDS):
                break
        self._held_until = 0.0
        self._close()

    def _speak(self) -> None:
        if self._connection is None:
            self._connection = own_connection(connect_timeout=CONNECT_SECONDS)
            self._ask(f"SET idle_session_timeout = '{SILENCE_SECONDS:.0f}s'")
        at = elapsed()
        if self._has_lock:
            self._ask("SELECT 1")
        elif self._ask(f"SELECT pg_try_advisory_lock({ADVISORY_LOCK})") == b"t":
            self._has_lock = True
            logger.info("this is the active scheduler now")
        if self._has_lock:
            self._held_until = at + HOLD_SECONDS

    def _ask(self, statement: str) -> bytes | None:
        """The first value of the answer. Raises TimeoutError: a network may swallow the question or the answer."""
        assert self._connection is not None  # noqa: S101 - made by the caller
        pgconn, value = self._connection.pgconn, None
        deadline = elapsed() + ANSWER_SECONDS
        pgconn.send_query(statement.encode())
        while True:
            while pgconn.is_busy():
                ready, _, _ = select.select([pgconn.socket], [], [], max(0.0, deadline - elapsed()))
                if not ready:
                    raise TimeoutError(f"the database did not answer for {ANSWER_SECONDS:.0f} s")
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                return value
            if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
                raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
            value = result.get_value(0, 0) if result.ntuples else value

    def _drop(self, reason: str) -> None:
        had_lock, self._has_lock, self._held_until = self._has_lock, False, 0.0
        self._close()
        if had_lock:
            logger.warning("this is not the active scheduler any more, standing by: %s", reason)
            self._on_lost()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()
