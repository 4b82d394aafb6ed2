"""A place in a list that is read newest first: what the addresses of its pages carry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from django.db.models import Q

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CURSOR = re.compile(r"([0-9]{1,16})(?:\.([a-z]{1,32}))?\.([0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """The place of one row in the order of all: newest first, then by kind, then the higher id first.

    `kind` is "" where all the rows are of one table.
    """

    at: datetime
    pk: int
    kind: str = ""

    @classmethod
    def of(cls, row: Any, *, by: str = "queued_at") -> Self:
        return cls(at=getattr(row, by), kind=getattr(row, "kind", ""), pk=row.pk)

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """A cursor from an address; None when it is absent or was not written by `__str__`."""
        found = _CURSOR.fullmatch(text or "")
        if found is None:
            return None
        try:
            at = _EPOCH + int(found[1]) * _MICROSECOND
        except OverflowError:
            return None
        # The database adapter needs a year that has neighbours in every zone.
        return cls(at=at, kind=found[2] or "", pk=int(found[3])) if at.year < 9999 else None

    def __str__(self) -> str:
        return ".".join(filter(None, (str(microseconds(self.at)), self.kind, str(self.pk))))

    def older(self, kind: str = "", *, by: str = "queued_at") -> Q:
        """The rows of one kind that come after this place.

        The condition on the time stands alone first: it is what an index can use; the rest sorts out rows of the same
        moment.
        """
        if kind == self.kind:
            return Q(**{f"{by}__lte": self.at}) & (Q(**{f"{by}__lt": self.at}) | Q(pk__lt=self.pk))
        return Q(**{f"{by}__lte" if kind > self.kind else f"{by}__lt": self.at})

    def newer(self, kind: str = "", *, by: str = "queued_at") -> Q:
        """The rows of one kind that come before this place."""
        if kind == self.kind:
            return Q(**{f"{by}__gte": self.at}) & (Q(**{f"{by}__gt": self.at}) | Q(pk__gt=self.pk))
        return Q(**{f"{by}__gte" if kind < self.kind else f"{by}__gt": self.at})


def microseconds(at: datetime) -> int:
    """Since 1970."""
    return (at - _EPOCH) // _MICROSECOND
