from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.db.models import Model, QuerySet

from scheduling.choices import ACTIVE, FAILING, OPEN, TERMINAL, RunStatus

if TYPE_CHECKING:
    from scheduling.cursor import Cursor


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

    def near(self, kind: str, place: Cursor | None, *, newer: bool, limit: int) -> Self:
        """The `limit` runs nearest to a place on one side of it; from the place outward."""
        runs = self
        if place is not None:
            runs = runs.filter(place.newer(kind) if newer else place.older(kind))
        return runs.order_by("queued_at", "pk")[:limit] if newer else runs.newest_first()[:limit]
