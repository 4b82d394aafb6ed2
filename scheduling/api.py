"""What the API's operations of every app share: ids, pages, runs and their logs."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from django.db.models import Model, Q, QuerySet
from ninja import Field, Schema
from ninja.errors import HttpError
from pydantic import AfterValidator, ConfigDict

from scheduling.choices import LogLevel, RunOutcome, RunStatus, RunTrigger
from scheduling.models import LogLine as LogLineRow
from scheduling.models import Run as RunRow

MAX_ID = 2**63 - 1
MAX_LIMIT = 500
DEFAULT_LIMIT = 50

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CURSOR = re.compile(r"([0-9]{1,17})-([0-9]{1,19})", re.ASCII)


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    return text


def unset() -> Any:
    """The default of a field that a PATCH may leave out: its value stays as it is. An explicit null is refused."""
    return Field(default_factory=lambda: None)


Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Text = Annotated[str, AfterValidator(_without_nul)]


class Body(Schema):
    """A request's body: a misspelt field is an error instead of being ignored."""

    model_config = ConfigDict(extra="forbid")


class Problem(Schema):
    """Why a request was refused; `errors` holds the messages by field when fields were at fault."""

    detail: str
    errors: dict[str, list[str]] = {}


PROBLEMS: dict[int, type[Schema]] = dict.fromkeys((401, 403, 404, 409, 422), Problem)


class Page[T](Schema):
    """One page of a list. Hand `next` back as the list's cursor for the page after it; null on the last one."""

    items: list[T]
    next: str | None = None


class ByName(Schema):
    """Pages of a list in the order of its names: `after` is the name that the page before ended with."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    after: Text = Field("", max_length=200)

    def page[M: Model](self, rows: QuerySet[M], *, by: str = "name") -> tuple[list[M], str | None]:
        """This page's rows and the cursor of the next page."""
        if self.after:
            rows = rows.filter(**{f"{by}__gt": self.after})
        return _cut(list(rows.order_by(by)[: self.limit + 1]), self.limit, lambda row: str(getattr(row, by)))


class NewestFirst(Schema):
    """Pages of a list, newest first: `before` is the cursor that came with the page before."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    before: str = Field("", max_length=40)

    def page[M: Model](self, rows: QuerySet[M], *, by: str = "queued_at") -> tuple[list[M], str | None]:
        """This page's rows and the cursor of the next page."""
        if self.before:
            at, pk = _read_cursor(self.before)
            # The first condition alone is what the index can use; the second sorts out rows of the same moment.
            rows = rows.filter(**{f"{by}__lte": at}).filter(Q(**{f"{by}__lt": at}) | Q(pk__lt=pk))
        found = list(rows.order_by(f"-{by}", "-pk")[: self.limit + 1])
        return _cut(found, self.limit, lambda row: f"{(getattr(row, by) - _EPOCH) // _MICROSECOND}-{row.pk}")


class RunFilters(NewestFirst):
    job_id: Id | None = None
    status: RunStatus | None = None

    def apply[M: Model](self, rows: QuerySet[M]) -> QuerySet[M]:
        if self.job_id is not None:
            rows = rows.filter(job_id=self.job_id)
        return rows if self.status is None else rows.filter(status=self.status)


class LogPage(Schema):
    """Which lines of a log: those whose `seq` is greater than `after`."""

    limit: int = Field(MAX_LIMIT, ge=1, le=MAX_LIMIT)
    after: int = Field(0, ge=0, le=MAX_ID)

    def page[L: LogLineRow](self, lines: QuerySet[L]) -> tuple[list[L], str | None]:
        """These lines, oldest first, and the `after` of the lines that follow when there are some already."""
        found = list(lines.filter(seq__gt=self.after).order_by("seq")[: self.limit + 1])
        return _cut(found, self.limit, lambda line: str(line.seq))


class LogLine(Schema):
    seq: int
    at: datetime
    level: LogLevel
    text: str


class Run(Schema):
    """What the runs of every kind of job have in common. Times are UTC; `slot` is the scheduled instant."""

    id: int
    job_id: int | None
    job_name: str
    status: RunStatus
    outcome: RunOutcome | None
    trigger: RunTrigger
    requested_by: str
    slot: datetime | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None
    message: str

    @staticmethod
    def resolve_outcome(run: RunRow) -> str | None:
        return run.outcome or None

    @staticmethod
    def resolve_duration_seconds(run: RunRow) -> float | None:
        return None if run.duration is None else run.duration.total_seconds()


def found[M: Model](rows: QuerySet[M], what: str, **key: Any) -> M:
    """The one row with this key. Answers 404, naming what was looked for."""
    row = rows.filter(**key).first()
    if row is None:
        named = ", ".join(str(value) for value in key.values())
        raise HttpError(404, f"There is no {what} {named[:80]}.")
    return row


def _cut[M](rows: list[M], limit: int, cursor: Callable[[M], str]) -> tuple[list[M], str | None]:
    """The first `limit` rows, and the last one's cursor when there are more."""
    return rows[:limit], cursor(rows[limit - 1]) if len(rows) > limit else None


def _read_cursor(text: str) -> tuple[datetime, int]:
    match = _CURSOR.fullmatch(text)
    if match is None or int(match[2]) > MAX_ID:
        raise HttpError(422, f"“{text}” is not a cursor. Use the one that came with the page before.")
    return _EPOCH + int(match[1]) * _MICROSECOND, int(match[2])
