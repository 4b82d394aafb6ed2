"""Messages of Procrastinate: “this run waits”, one for each queued run, deleted once it was delivered.

The ledger stays the judge. A message that comes twice finds a run that is no longer queued, and one that comes too
early is sent again later; the ledger is looked at beside them, so that no run depends on its message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate.contrib.django import app

from scheduling.choices import BY_ITSELF
from scheduling.engine.delivery import queue_of

if TYPE_CHECKING:
    from scheduling.models import Run

RUN = "keepwell.run"
# What a person waits for comes before what the clock has started.
BY_HAND = 10


def message_send(run: Run) -> None:
    """Put the run's message into the current transaction, on the queue of the hosts that may run it.

    Its lock keeps a second message of the same job back while the first is being carried out.
    """
    app.configure_task(
        RUN,
        allow_unknown=True,
        queue=queue_of(run),
        lock=job_lock(run),
        schedule_at=run.not_before,
        priority=0 if run.trigger in BY_ITSELF else BY_HAND,
    ).defer(kind=run.kind, run_id=run.pk)


def job_lock(run: Run) -> str | None:
    job_id: int | None = getattr(run, "job_id", None)
    return None if job_id is None else f"{run.kind}:{job_id}"
