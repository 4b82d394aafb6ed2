"""A run's right to change anything, asked for right before it does: it may have been called lost meanwhile."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import InterfaceError, OperationalError, connection, transaction

from scheduling.context import RunStoppedError
from scheduling.ledger import run_confirm
from scheduling.registry import get_kind
from scheduling.stopping import SELF_STOP_SECONDS, StopReason, elapsed

if TYPE_CHECKING:
    from scheduling.context import RunContext

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class Fence:
    """The right of what is no run, such as a person's request or recovery: no other process takes it over."""

    def hold(self) -> None:
        """Inside a transaction: make sure of it until the transaction's end."""

    def check(self) -> None:
        """Right before bytes move: make sure of it by the clock alone."""


NO_FENCE = Fence()


@dataclass(frozen=True, kw_only=True)
class RunFence(Fence):
    """A run's. All raise `RunStoppedError` once another process may have taken over what the run is at."""

    context: RunContext

    def hold(self) -> None:
        run = self.context.run
        try:
            run_confirm(kind=get_kind(run.kind), run=run)
        except RunStoppedError:
            self.context.stop.ask(StopReason.LEASE)
            raise

    def check(self) -> None:
        # A process that was stopped for too long sees it here when it goes on, before any thread of it has run.
        if self.context.stop.is_overdue:
            self.context.stop.ask(StopReason.LEASE)
            raise RunStoppedError

    def confirm(self) -> None:
        """Ask the database in a transaction of its own, and wait for its answer as long as the run has its right."""
        began = elapsed()
        while True:
            try:
                with transaction.atomic():
                    self.hold()
                break
            except (OperationalError, InterfaceError):
                if elapsed() - began > SELF_STOP_SECONDS:
                    raise
                logger.warning("the database does not say whether run %s is still ours; asking again", self.context.run)
                connection.close()
                if self.context.stop.wait(RETRY_SECONDS):
                    raise RunStoppedError from None
        self.check()
