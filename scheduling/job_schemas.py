"""What the API takes and answers about how jobs of both kinds run, beyond their schedules."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any

from ninja import Field, Schema
from pydantic import AwareDatetime

from scheduling.api import Body, Text, unset
from scheduling.choices import Overlap
from scheduling.job_forms import MAX_REASON

WINDOW: Any = Field(None, examples=["22:00"], description="With the other end of the window, or null.")
BLACKOUTS: Any = Field([], examples=[["2026-12-24", "2026-12-31..2027-01-01"]], max_length=1000)


def _clock(value: time | None) -> str | None:
    return None if value is None else f"{value:%H:%M}"


class JobSettings(Schema):
    """`run_after` is the id of another job, such as `backup:3`; a blank `queue` is the default one.

    Nothing starts by itself before `paused_until`, which is null when the job was never paused or was resumed.
    """

    overlap: Overlap
    retry_count: int
    retry_delay: int
    time_limit: int | None
    window_start: str | None
    window_end: str | None
    blackout_dates: list[str]
    run_after: str
    queue: str
    paused_until: datetime | None
    paused_by: str

    @staticmethod
    def resolve_window_start(job: Any) -> str | None:
        return _clock(job.window_start)

    @staticmethod
    def resolve_window_end(job: Any) -> str | None:
        return _clock(job.window_end)


class JobSettingsCreate(Body):
    """How a new job runs. Retries and delays are counted in minutes, and so is the time limit."""

    overlap: str = Field(Overlap.QUEUE.value, examples=[Overlap.QUEUE.value])
    retry_count: int = 0
    retry_delay: int = 10
    time_limit: int | None = None
    window_start: str | None = WINDOW
    window_end: str | None = WINDOW
    blackout_dates: list[str] = BLACKOUTS
    run_after: Text = Field("", examples=["backup:3"])
    queue: Text = Field("", examples=["nas1"])


class JobSettingsUpdate(Body):
    """What is left out stays as it is."""

    overlap: str = unset()
    retry_count: int = unset()
    retry_delay: int = unset()
    time_limit: int | None = unset()
    window_start: str | None = unset()
    window_end: str | None = unset()
    blackout_dates: list[str] = unset()
    run_after: Text = unset()
    queue: Text = unset()


class PauseBody(Body):
    until: AwareDatetime = Field(examples=["2027-01-01T06:00:00Z"])


class PauseAllBody(PauseBody):
    reason: Text = Field("", max_length=MAX_REASON, examples=["the disk is being replaced"])


class Pause(Schema):
    """Whether everything is paused; the rest is null and blank when it is not."""

    paused: bool
    until: datetime | None = None
    since: datetime | None = None
    by: str = ""
    reason: str = ""
