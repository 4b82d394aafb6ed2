"""Moments as people say them. Pure: the present and the zone are always passed in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo

MORNING = time(6)
FIRST_YEAR, LAST_YEAR = 1970, 9998

_SPAN = re.compile(r"(\d{1,4}) ?(m|min|h|d)", re.ASCII)
_UNITS = {"m": timedelta(minutes=1), "min": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_EXAMPLES = "Write 1h, 2d, tomorrow (06:00), or a day and time such as 2026-12-24 06:00."


class MomentError(ValueError):
    """A moment that cannot be used; the message says why and what would work."""


def tomorrow_morning(now: datetime, zone: tzinfo) -> datetime:
    """06:00 of the day after `now`, by the clocks of `zone`."""
    return datetime.combine(now.astimezone(zone).date() + timedelta(days=1), MORNING, zone)


def until_parse(text: str, *, now: datetime, zone: tzinfo) -> datetime:
    """The moment after `now` that `text` names, in UTC: “90m”, “2h”, “3d”, “tomorrow”, or a day with or without a time.

    A day and time without an offset is in `zone`; a time that a clock change leaves out is as much later. Raises
    `MomentError`.
    """
    said = " ".join(text.split())
    if not said:
        raise MomentError(f"Say until when. {_EXAMPLES}")
    try:
        moment = _read(said, now, zone).astimezone(UTC)
    except (ValueError, OverflowError):
        shown = said if len(said) <= 40 else f"{said[:39]}…"
        raise MomentError(f"“{shown}” is not a moment. {_EXAMPLES}") from None
    # The years at the ends have no neighbours in every zone.
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise MomentError(f"Choose a year from {FIRST_YEAR} to {LAST_YEAR}.")
    if moment <= now:
        raise MomentError(f"{moment.astimezone(zone):%Y-%m-%d %H:%M} ({zone}) has passed. Choose a later moment.")
    return moment


def _read(said: str, now: datetime, zone: tzinfo) -> datetime:
    if span := _SPAN.fullmatch(said):
        return now + int(span[1]) * _UNITS[span[2]]
    if said == "tomorrow":
        return tomorrow_morning(now, zone)
    if not said.isprintable():
        # Python reads past a NUL at the end.
        raise ValueError("a control character")
    moment = datetime.fromisoformat(said)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
