from __future__ import annotations

from typing import Self

from django.db.models import Model, QuerySet

from scheduling.choices import ACTIVE, FAILING, OPEN, TERMINAL, RunStatus


class RunQuerySet[R: Model](QuerySet[R]):
    def queued(self) -> Self:
        return self.filter(status=RunStatus.QUEUED)

    def active(self) -> Self:
        """Running or cancelling."""
        return self.filter(status__in=ACTIVE)

    def open(self) -> Self:
        """Queued or active: not yet history."""
        return self.filter(status__in=OPEN)

    def terminal(self) -> Self:
        return self.filter(status__in=TERMINAL)

    def failing(self) -> Self:
        """Ended in a way that a person should look at."""
        return self.filter(status__in=FAILING)

    def newest_first(self) -> Self:
        return self.order_by("-queued_at", "-pk")
