"""A schedule as a page shows it: in words, with its next times and what becomes of each. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from scheduling.clock_shifts import ClockShift, shifts_between
from scheduling.cron import Cron, ScheduleError, load_zone, parse_cron
from scheduling.rules import Rules
from scheduling.units import spoken

_NEAR = timedelta(hours=26)


@dataclass(frozen=True, kw_only=True)
class Fire:
    """One time of a schedule, in UTC.

    `clocks` says what a change of the clocks does to it or to its day, `effect` what the job's window and blackout
    dates do; "" for nothing.
    """

    at: datetime
    clocks: str = ""
    effect: str = ""
    skipped: bool = False


@dataclass(frozen=True, kw_only=True)
class FireList:
    """A schedule in words with its next times, or with the reason why it cannot be used."""

    schedule: str
    zone: str
    words: str = ""
    problem: str = ""
    fires: list[Fire] = field(default_factory=list)


def fire_list(schedule: str, rules: Rules, now: datetime, count: int) -> FireList:
    """What this schedule means in the zone of `rules`, with its next `count` times; "" means by hand only."""
    text = schedule.strip()
    try:
        load_zone(rules.zone)
        if not text:
            return FireList(schedule="", zone=rules.zone, words="Only by hand.")
        cron = parse_cron(text)
        fires = list(_fires(cron, rules, now, count))
    except ScheduleError as error:
        # Only a zone that can be used is given to a template, which shows times in it.
        return FireList(schedule=text, zone="UTC", problem=str(error))
    return FireList(schedule=text, zone=rules.zone, words=f"{cron.words}.", fires=fires)


def _fires(cron: Cron, rules: Rules, now: datetime, count: int) -> Iterator[Fire]:
    day: date | None = None
    opened: datetime | None = None
    for fire in cron.next_fires(now, rules.zone, count):
        clocks = clock_words(cron, fire, rules.zone, first_of_day=fire.date() != day)
        day = fire.date()
        at = fire.astimezone(UTC)
        opening = rules.opens_at(at)
        if days := rules.blackout(at):
            yield Fire(at=at, clocks=clocks, effect=f"skipped: {days} is a blackout date", skipped=True)
        elif opening == at:
            yield Fire(at=at, clocks=clocks)
        elif rules.blackout(opening):
            yield Fire(at=at, clocks=clocks, effect="skipped: its window opens on a blackout date", skipped=True)
        else:
            until = _until(opening.astimezone(load_zone(rules.zone)), fire)
            joins = "joins the run that waits" if opening == opened else "waits"
            opened = opening
            yield Fire(at=at, clocks=clocks, effect=f"{joins} until {until}")


def _until(opening: datetime, fire: datetime) -> str:
    return f"{opening:%H:%M}" if opening.date() == fire.date() else f"{opening:%a %H:%M}"


def clock_words(cron: Cron, fire: datetime, zone: str, *, first_of_day: bool = True) -> str:
    """What a change of the clocks does to a fire; for the first of a day also that there is one on it."""
    local = fire.astimezone(load_zone(zone))
    shown = local.replace(tzinfo=None, fold=0)
    for shift in shifts_between(load_zone(zone), fire - _NEAR, fire + _NEAR):
        wall = cron.wall_time(fire, zone)
        if not cron.every_hour and shift.leaves_out(wall):
            return f"the clocks go forward: {wall:%H:%M} does not come, it runs at {local:%H:%M}"
        if shift.repeats(shown):
            which = f"this is the {'second' if local.fold else 'first'}" if cron.every_hour else "it runs at the first"
            return f"the clocks go back: {shown:%H:%M} comes twice, {which}"
        if first_of_day and local.date() in (shift.wall_before.date(), shift.wall_after.date()):
            return shift_words(shift)
    return ""


def shift_words(shift: ClockShift) -> str:
    """Such as “the clocks go back 1 h at 03:00”."""
    return f"the clocks go {'forward' if shift.forward else 'back'} {spoken(shift.by)} at {shift.wall_before:%H:%M}"
