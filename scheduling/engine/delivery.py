"""The one call that tells the workers of a queued run, whichever engine is set."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection

from scheduling.choices import RunStatus

if TYPE_CHECKING:
    from scheduling.models import Run

DEFAULT_QUEUE = "default"
PROCRASTINATE = "procrastinate"
CHANNEL = "keepwell_runs"
_QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


def run_deliver(run: Run) -> None:
    """Tell the workers of the run's queue that it waits; for the transaction that records it, whose end sends it.

    A notification or message that is lost costs seconds, never the run: every worker also looks at the ledger.
    """
    if run.status != RunStatus.QUEUED or connection.vendor != "postgresql":
        return
    if uses_messages():
        # By name, since the library takes a tenth of a second to load, which other set-ups need not wait for.
        import_module("scheduling.engine.messages").message_send(run)
    else:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, queue_of(run)])


def uses_messages() -> bool:
    return bool(settings.KEEPWELL_ENGINE == PROCRASTINATE)


def is_queue_name(name: str) -> bool:
    return _QUEUE_NAME.fullmatch(name) is not None


def queue_of(run: Run) -> str:
    return run.queue or DEFAULT_QUEUE
