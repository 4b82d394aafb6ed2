"""Schedules that most people want, by name. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from scheduling.cron import ScheduleError, parse_cron

DEFAULT_TIME = (2, 30)
USE = "use:"
"""What a choice begins with that is itself a schedule, such as a suggested one."""

_SIMPLE = re.compile(r"(\d{1,2}) (\d{1,2}) (.+)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One choice; `make` writes its schedule for an hour and a minute."""

    key: str
    label: str
    make: Callable[[int, int], str]


PRESETS = (
    Preset(key="quarters", label="Every 15 minutes", make=lambda _hour, _minute: "*/15 * * * *"),
    Preset(key="hourly", label="Every hour", make=lambda _hour, minute: f"{minute} * * * *"),
    Preset(key="six-hours", label="Every 6 hours", make=lambda _hour, minute: f"{minute} */6 * * *"),
    Preset(key="nightly", label="Every day", make=lambda hour, minute: f"{minute} {hour} * * *"),
    Preset(key="weekdays", label="Weekdays", make=lambda hour, minute: f"{minute} {hour} * * 1-5"),
    Preset(key="weekly", label="Weekly", make=lambda hour, minute: f"{minute} {hour} * * 0"),
    Preset(key="monthly", label="Monthly", make=lambda hour, minute: f"{minute} {hour} 1 * *"),
    Preset(key="by-hand", label="Only by hand", make=lambda _hour, _minute: ""),
)


def preset_apply(choice: str, schedule: str) -> str:
    """The schedule that a choice makes of the present one, keeping its time of day; unchanged for an unknown choice."""
    if choice.startswith(USE):
        return choice.removeprefix(USE)
    hour, minute = time_of_day(schedule) or DEFAULT_TIME
    return next((preset.make(hour, minute) for preset in PRESETS if preset.key == choice), schedule)


def preset_of(schedule: str) -> str:
    """The key of the preset that a schedule is, whatever its time of day; "" for none of them."""
    hour, minute = time_of_day(schedule) or DEFAULT_TIME
    said = " ".join(schedule.split())
    if minutes := re.fullmatch(r"(\d{1,2}) (?:\*|\*/6) \* \* \*", said):
        minute = int(minutes[1])
    return next((preset.key for preset in PRESETS if preset.make(hour, minute) == said), "")


def time_of_day(schedule: str) -> tuple[int, int] | None:
    """Hour and minute of a schedule that has one time a day, and that can be used; None for any other."""
    try:
        cron = parse_cron(schedule)
    except ScheduleError:
        return None
    return (cron.hours[0], cron.minutes[0]) if len(cron.hours) == len(cron.minutes) == 1 else None


def at_time(schedule: str, hour: int, minute: int) -> str:
    """A schedule of one time a day moved to another time; "" when it has none, or is no plain expression."""
    if time_of_day(schedule) is None:
        return ""
    match = _SIMPLE.fullmatch(parse_cron(schedule).expression)
    return f"{minute} {hour} {match[3]}" if match else ""
