"""Cron expressions with crontab's own meaning, in a named time zone. Pure: the moment is always passed in.

The parser is cronsim, which follows Debian's cron (0 and 7 are Sunday, names, day-of-month OR day-of-week). This
module adds the `@daily` family, insists on five fields, and makes both directions strictly monotone across clock
changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = ("minute", "hour", "day of month", "month", "day of week")
MAX_LENGTH = 120

_PROBE = datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC"))


class ScheduleError(ValueError):
    """A schedule or time zone that cannot be used; the message says why and what would work."""


@dataclass(frozen=True, kw_only=True)
class Cron:
    """One parsed schedule; `text` is what the user wrote, `expression` the five fields behind it."""

    text: str
    expression: str

    def next_after(self, moment: datetime, zone: str) -> datetime:
        """The first fire strictly after `moment` (aware), in `zone`.

        A time in a spring gap fires at the first valid instant, one in an autumn fold fires once, at its first
        occurrence.
        """
        simulated = CronSim(self.expression, moment.astimezone(load_zone(zone)))
        # Inside the second half of a fold cronsim answers with the first half, which is already past.
        return next(fire for fire in simulated if fire.timestamp() > moment.timestamp())

    def last_at_or_before(self, moment: datetime, zone: str) -> datetime:
        """The newest fire at or before `moment` (aware), in `zone`."""
        local = moment.astimezone(load_zone(zone))
        for fire in CronSim(self.expression, local, reverse=True):
            # Reverse iteration cannot see a fire that a gap moved forward, so look ahead once from each candidate.
            found = fire
            while (later := self.next_after(found, zone)).timestamp() <= moment.timestamp():
                found = later
            if found.timestamp() <= moment.timestamp():
                return found
        raise ScheduleError(f"“{self.text}” has no fire before {moment.isoformat()}.")

    def next_fires(self, moment: datetime, zone: str, count: int) -> list[datetime]:
        """The next `count` fires strictly after `moment`, oldest first."""
        fires: list[datetime] = []
        for _ in range(count):
            moment = self.next_after(moment, zone)
            fires.append(moment)
        return fires

    @property
    def words(self) -> str:
        """The schedule in words, such as “At 03:00 every day”."""
        return str(CronSim(self.expression, _PROBE).explain())


@lru_cache(maxsize=4096)
def parse_cron(text: str) -> Cron:
    """Parse a crontab schedule: five fields or one of `ALIASES`. Raises `ScheduleError` with the reason."""
    stripped = " ".join(text.split())
    if not stripped:
        raise ScheduleError(
            "The schedule is empty. Write five cron fields, for example “30 2 * * *” for every night at 02:30."
        )
    if len(stripped) > MAX_LENGTH:
        raise ScheduleError(f"The schedule is longer than {MAX_LENGTH} characters.")
    if stripped.startswith("@"):
        expression = ALIASES.get(stripped.lower())
        if expression is None:
            raise ScheduleError(
                f"“{stripped}” is not a schedule Keepwell knows. Use one of {', '.join(ALIASES)}, or five cron fields."
            )
        return Cron(text=stripped, expression=expression)
    fields = stripped.split(" ")
    if len(fields) != len(FIELDS):
        raise ScheduleError(f"“{stripped}” has {len(fields)} fields. Cron takes five: {', '.join(FIELDS)}.")
    try:
        next(CronSim(stripped, _PROBE))
    except CronSimError as error:
        raise ScheduleError(f"“{stripped}” is not a valid schedule: {_reason(str(error), fields)}.") from error
    except StopIteration:
        raise ScheduleError(f"“{stripped}” never happens: no date in the next 50 years fits it.") from None
    return Cron(text=stripped, expression=stripped)


def _reason(message: str, fields: list[str]) -> str:
    for name, value in zip(FIELDS, fields, strict=True):
        if message == f"Bad {name.replace(' ', '-')}":
            return f"the {name} “{value}” cannot be read or never happens"
    return message[:1].lower() + message[1:]


@lru_cache(maxsize=1024)
def load_zone(name: str) -> ZoneInfo:
    """The IANA time zone called `name`. Raises `ScheduleError` when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(
            f"“{name}” is not a time zone. Use an IANA name such as “Europe/Berlin” or “UTC”."
        ) from error
