"""What the API's operations of every app share: ids, pages, runs and their logs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from django.db.models import Model, QuerySet
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema
from ninja.errors import HttpError
from pydantic import AfterValidator, AwareDatetime, ConfigDict

from accounts.permissions import requires_api
from scheduling.choices import LogLevel, RunOutcome, RunStatus, RunTrigger
from scheduling.cursor import Cursor
from scheduling.models import LogLine as LogLineRow
from scheduling.models import Run as RunRow
from scheduling.paging import run_page
from scheduling.registry import RunKind, all_kinds
from scheduling.run_filter import MAX_TEXT, RunFilter, has_targets

MAX_ID = 2**63 - 1
MAX_LIMIT = 500
DEFAULT_LIMIT = 50

_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


router = Router()


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

    def page[M: Model](self, rows: QuerySet[M], *, by: str) -> tuple[list[M], str | None]:
        """This page's rows and the cursor of the next page."""
        if self.before:
            rows = rows.filter(_read_cursor(self.before, "").older(by=by))
        found = list(rows.order_by(f"-{by}", "-pk")[: self.limit + 1])
        return _cut(found, self.limit, lambda row: str(Cursor(at=getattr(row, by), pk=row.pk)))


class RunFilters(NewestFirst):
    """Which runs; those that fit all of it.

    `from` and `to` bound the time at which a run was recorded, `to` itself left out. `q` are words that must all be in
    its names, message or log. Only runs that succeeded have an `outcome`.
    """

    job_id: Id | None = None
    target_id: Id | None = None
    host: Text = Field("", max_length=64)
    status: RunStatus | None = None
    outcome: RunOutcome | None = None
    trigger: RunTrigger | None = None
    since: AwareDatetime | None = Field(None, alias="from")
    until: AwareDatetime | None = Field(None, alias="to")
    q: Text = Field("", max_length=MAX_TEXT)

    def page_of(self, *kinds: RunKind) -> tuple[list[RunRow], str | None]:
        """This page's runs of these kinds and the cursor of the next page."""
        if self.before:
            _read_cursor(self.before, *(kind.kind for kind in kinds))
        if self.target_id is not None:
            kinds = tuple(kind for kind in kinds if has_targets(kind))
        asked = RunFilter(
            job=self.job_id,
            target=self.target_id,
            host=self.host,
            status=self.status or "",
            outcome=self.outcome or "",
            trigger=self.trigger or "",
            since=_bounded(self.since),
            until=_bounded(self.until),
            text=self.q,
        )
        # The API shows the long columns that a page leaves out.
        listings = asked.listings(list(kinds), rows=lambda runs: runs.defer(None))
        page = run_page(listings, before=self.before, size=self.limit, strict=True)
        return page.runs, page.older or None


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


class RunOfAnyKind(Run):
    """What the lists of one kind show of its runs, without what is that kind's own; `id` is unique among a kind's."""

    kind: str


@router.get("/runs", response={200: Page[RunOfAnyKind], **PROBLEMS}, tags=["Runs"], summary="List runs of every kind")
@requires_api("scheduling.view_schedulerstate")
def list_every_run(request: HttpRequest, filters: Query[RunFilters], kind: str = "") -> dict[str, Any]:
    """Backup and maintenance runs together, newest first: those that the caller may look at. `job_id` needs `kind`."""
    kinds = [each for each in all_kinds() if request.user.has_perm(each.view_permission)]
    if kind and kind not in [each.kind for each in kinds]:
        raise HttpError(422, f"kind: there are {' and '.join(each.kind for each in kinds) or 'none'} for you to read.")
    if filters.job_id is not None and not kind:
        raise HttpError(422, "job_id: say of which kind as well, such as kind=backup.")
    items, cursor = filters.page_of(*(each for each in kinds if kind in ("", each.kind)))
    return {"items": items, "next": cursor}


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


def _read_cursor(text: str, *kinds: str) -> Cursor:
    cursor = Cursor.parse(text)
    if cursor is None or cursor.kind not in kinds:
        raise HttpError(422, f"“{text}” is not a cursor of this list. Use the one that came with the page before.")
    return cursor


def _bounded(at: datetime | None) -> datetime | None:
    """Within what every database holds, in every zone."""
    return None if at is None else min(max(at, _FIRST), _LAST)
