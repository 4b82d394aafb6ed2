"""Receives messages of Procrastinate on this host, and hands each run to the worker."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Protocol

from django.db import DatabaseError, connections
from django.utils import timezone
from procrastinate import App, BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.contrib.django import connector_params
from procrastinate.jobs import Job
from procrastinate.psycopg_connector import PsycopgConnector

from scheduling.choices import RunStatus
from scheduling.engine.messages import RUN
from scheduling.registry import all_kinds, get_kind

logger = logging.getLogger(__name__)

TIDY = "keepwell.tidy"
RECONNECT_SECONDS = 2.0
FETCH_SECONDS = 1.0
BEAT_SECONDS = 5.0
# Whose courier is silent for this long has none any more: its messages go to others.
STALLED_SECONDS = 30.0
FULL_SECONDS = 2.0
# A run that could not be claimed waits for another, which may end at once or in hours: asked for ever more rarely.
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 15.0
FAILED_SECONDS = 10
LEAVE_SECONDS = 1.0
WATCH_SECONDS = 0.2


class Hand(Protocol):
    """Who starts runs: `scheduling.worker.Worker`."""

    size: int
    queues: list[str]

    def begin(self, kind: str, run_id: int, when_done: Callable[[], None]) -> bool: ...


class NotYetError(Exception):
    """The run waits still; the message is to come again `at`."""

    def __init__(self, at: datetime) -> None:
        super().__init__()
        self.at = at


class Again(BaseRetryStrategy):
    """A message is lost only when its run no longer waits: whatever else happened, it comes again."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:  # noqa: ARG002 - the library's
        if isinstance(exception, NotYetError):
            return RetryDecision(retry_at=exception.at)
        return RetryDecision(retry_in={"seconds": FAILED_SECONDS})


class Courier(threading.Thread):
    """The thread that receives, until `stopping`; after an error it connects anew."""

    def __init__(self, worker: Hand, stopping: threading.Event) -> None:
        super().__init__(name="courier", daemon=True)
        self._worker = worker
        self._stopping = stopping

    def run(self) -> None:
        said = ""
        try:
            while not self._stopping.is_set():
                try:
                    asyncio.run(self._receive())
                except Exception as error:  # noqa: BLE001 - whatever it was: the ledger is looked at meanwhile
                    if str(error) != said:
                        logger.warning("messages cannot be received, connecting again: %s", error)
                    said = str(error)
                self._stopping.wait(RECONNECT_SECONDS)
        finally:
            connections.close_all()

    async def _receive(self) -> None:
        connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4, timeout=10, name="courier")
        app = receiving_app(connector)
        async with app.open_async():
            receiving = asyncio.create_task(
                app.run_worker_async(
                    queues=[*self._worker.queues, TIDY],
                    # One more than runs: tidying must not wait for the end of a backup.
                    concurrency=self._worker.size + 1,
                    install_signal_handlers=False,
                    delete_jobs="always",
                    fetch_job_polling_interval=FETCH_SECONDS,
                    update_heartbeat_interval=BEAT_SECONDS,
                    stalled_worker_timeout=STALLED_SECONDS,
                    shutdown_graceful_timeout=LEAVE_SECONDS,
                    additional_context={"worker": self._worker},
                )
            )
            while not receiving.done() and not self._stopping.is_set():
                await asyncio.wait([receiving], timeout=WATCH_SECONDS)
            receiving.cancel()
            with suppress(asyncio.CancelledError):
                await receiving


def receiving_app(connector: PsycopgConnector) -> App:
    """Procrastinate with our two tasks. An app of its own: that of Django writes into the transactions of the runs."""
    app = App(connector=connector)
    app.task(name=RUN, pass_context=True, retry=Again())(_carry_out)
    tidy = app.task(name=TIDY, queue=TIDY, queueing_lock=TIDY, pass_context=True)(_tidy)
    app.periodic(cron="* * * * *")(tidy)
    return app


async def _carry_out(context: JobContext, *, kind: str, run_id: int) -> None:
    """Have the run run to its end, or say when the message is to come again."""
    worker: Hand = context.additional_context["worker"]
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    again: list[datetime | None] = []

    def when_done() -> None:
        """Called in the run's thread, where the database may keep one waiting."""
        again.append(_wanted_again(kind, run_id, context.job.attempts))
        with suppress(RuntimeError):  # the loop is gone when a run outlives its courier
            loop.call_soon_threadsafe(done.set)

    if not worker.begin(kind, run_id, when_done):
        raise NotYetError(timezone.now() + timedelta(seconds=FULL_SECONDS))
    await done.wait()
    if again[0] is not None:
        raise NotYetError(again[0])


def _wanted_again(kind: str, run_id: int, attempts: int) -> datetime | None:
    """When the message, which has come `attempts` times before, is to come again; None when its run waits no more."""
    wait = min(FIRST_WAIT_SECONDS * 2 ** min(attempts, 10), LONGEST_WAIT_SECONDS)
    soon = timezone.now() + timedelta(seconds=wait)
    model: Any = get_kind(kind).run_model
    try:
        run = model.objects.filter(pk=run_id, status=RunStatus.QUEUED).only("not_before").first()
    except DatabaseError:
        return soon
    return None if run is None else max(run.not_before or soon, soon)


async def _tidy(context: JobContext, timestamp: int) -> None:  # noqa: ARG001 - the library's
    """Once a minute, on one host: give messages of dead couriers to others, and drop those nobody waits for.

    The latter would keep later messages of their job back, which come in the order of their sending.
    """
    manager, connector = context.app.job_manager, context.app.connector
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_SECONDS):
        await manager.retry_job(job)
    for kind in all_kinds():
        # Only the name of our own table is put in.
        await connector.execute_query_async(
            f"""
            DELETE FROM procrastinate_jobs WHERE task_name = %(task)s AND status = 'todo' AND args->>'kind' = %(kind)s
            AND (args->>'run_id')::bigint NOT IN (
                SELECT id FROM {kind.run_model._meta.db_table} WHERE status = 'queued'
            )
            """,  # noqa: S608
            task=RUN,
            kind=kind.kind,
        )
