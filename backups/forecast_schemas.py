"""What the API answers about a pair's future. Times are UTC, sizes bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from ninja import Field, Schema

from backups.retention import simulation

MAX_FORECAST_DAYS = 1100


class ForecastDays(Schema):
    days: int = Field(90, ge=1, le=MAX_FORECAST_DAYS, description="How many days to look ahead.")


class Day(Schema):
    """The good copies at the end of a day in the policy's zone. `trash_bytes` are those in the trash by then."""

    day: str
    copies: int
    bytes: int
    trash_bytes: int
    made: int
    deleted: int
    oldest: datetime | None
    worst_gap_seconds: int | None

    @classmethod
    def of(cls, day: simulation.Day) -> Self:
        return cls(
            day=day.day.isoformat(),
            copies=day.copies,
            bytes=day.bytes,
            trash_bytes=day.trash_bytes,
            made=day.made,
            deleted=day.deleted,
            oldest=day.oldest,
            worst_gap_seconds=int(day.worst_gap.total_seconds()) if day.worst_gap is not None else None,
        )


class Fate(Schema):
    """When which cleanup deletes an existing copy, and why; `deleted_at` null: it is still there at the end.

    `by` is the copy that takes its place, blank for one that is only expected at `by_at`.
    """

    uid: str
    created_at: datetime
    size: int
    deleted_at: datetime | None
    reasons: list[dict[str, Any]]
    by: str
    by_at: datetime | None

    @classmethod
    def of(cls, fate: simulation.Fate) -> Self:
        return cls(
            uid=fate.uid,
            created_at=fate.created,
            size=fate.size,
            deleted_at=fate.deleted_at,
            reasons=[reason.to_mapping() for reason in fate.reasons],
            by=fate.by,
            by_at=fate.by_at,
        )


class Timeline(Schema):
    """The copies of a pair, day by day. `approvals` are the cleanups that would ask first, taken as approved."""

    start: datetime
    until: datetime
    days: list[Day]
    fates: list[Fate]
    approvals: list[datetime]
    oldest: datetime | None
    worst_gap_seconds: int | None

    @classmethod
    def of(cls, timeline: simulation.Timeline) -> Self:
        gap = timeline.worst_gap
        return cls(
            start=timeline.start,
            until=timeline.until,
            days=[Day.of(day) for day in timeline.days],
            fates=[Fate.of(fate) for fate in timeline.fates.values()],
            approvals=list(timeline.approvals),
            oldest=timeline.oldest,
            worst_gap_seconds=int(gap.total_seconds()) if gap is not None else None,
        )


class Forecast(Schema):
    """What becomes of a pair under the policy in force, and its schedules."""

    job_id: int
    target_id: int
    policy: dict[str, Any]
    digest: str
    next_cleanup: datetime | None
    timeline: Timeline
