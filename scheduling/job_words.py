"""How a job runs, beyond its schedule, in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

from scheduling.choices import Overlap
from scheduling.cron import load_zone
from scheduling.days import clock_change, day_of, day_words
from scheduling.job_rules import job_rules
from scheduling.job_settings import followers, job_find
from scheduling.projection import Start
from scheduling.rules import Days, Rules
from scheduling.units import counted, spoken

BLACKOUTS_NAMED = 6


@dataclass(frozen=True, kw_only=True)
class Named:
    """A job to link to."""

    name: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One thing that is set about a job; `jobs` are those that its text speaks of."""

    label: str
    text: str = ""
    jobs: tuple[Named, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SettingsInWords:
    """What is set about a job, and one sentence on all that is not."""

    chosen: tuple[Setting, ...]
    otherwise: str


def settings_in_words(job: Any) -> SettingsInWords:
    """What a job of either kind says about its runs: three small queries."""
    chosen: list[Setting] = []
    left: list[str] = []

    def say(label: str, text: str, default: str) -> None:
        if text:
            chosen.append(Setting(label=label, text=text))
        else:
            left.append(default)

    say("Window", window_words(job_rules(job)), "it may start at any hour")
    say("Blackout dates", blackout_words(job_rules(job).blackouts), "no date is a blackout date")
    skips = job.overlap == Overlap.SKIP
    say(
        "Overlap",
        "A time that comes while the run before is still going is skipped." if skips else "",
        "a time that comes while the run before is still going waits for it",
    )
    say("Retries", retry_words(job.retry_count, job.retry_delay), "a failed run is not tried again by itself")
    limit = spoken(timedelta(minutes=job.time_limit)) if job.time_limit else ""
    say("Time limit", f"A run is stopped, and failed, after {limit}." if limit else "", "there is no time limit")
    say(
        "Queue", f"Workers that serve “{job.queue}” run it." if job.queue else "", "workers of the default queue run it"
    )
    if job.run_after:
        before = job_find(job.run_after)
        text = "" if before is not None else f"{job.run_after}, which is no job any more: nothing starts it."
        chosen.append(Setting(label="Runs after", text=text, jobs=_named([before] if before is not None else [])))
    if after := followers(job):
        chosen.append(Setting(label="Followed by", jobs=_named(after)))
    return SettingsInWords(chosen=tuple(chosen), otherwise=_otherwise(left))


def window_words(rules: Rules) -> str:
    """The run window as a sentence; "" when a run may start at any hour."""
    if rules.window is None or rules.window[0] == rules.window[1]:
        return ""
    start, end = rules.window
    tail = " the next day" if end < start else ""
    return f"Starts by itself only from {start:%H:%M} to {end:%H:%M}{tail} ({rules.zone}); what is due outside waits."


def blackout_words(blackouts: tuple[Days, ...]) -> str:
    """The days without runs as a sentence; "" when there are none."""
    if not blackouts:
        return ""
    named = ", ".join(_days_words(days) for days in blackouts[:BLACKOUTS_NAMED])
    more = len(blackouts) - BLACKOUTS_NAMED
    return f"Nothing starts by itself on {named}" + (f" and {counted(more, 'more date')}" if more > 0 else "") + "."


def start_note(start: Start, zone: tzinfo, own_zone: str) -> str:
    """What there is to say of a coming time besides itself: that it waits, passes, or is on a day with a clock change.

    Times are in `zone`, the viewer's; clock changes are those of the schedule's own zone.
    """
    due, last = start.due.astimezone(zone), start.last.astimezone(zone)
    more = f", and {start.times - 1:,} more until {_moment(last)}," if start.times > 1 else ""
    verb = "pass" if start.times > 1 else "passes"
    if start.held == "paused":
        return f"{more.lstrip(', ')} {verb} without a run: paused".strip()
    if start.held:
        return f"{more.lstrip(', ')} {verb} without a run: a blackout date".strip()
    notes = []
    if start.waits:
        also = f" and {start.times - 1:,} more" if start.times > 1 else ""
        notes.append(f"due {_moment(due)}{also}, waits for its window")
    change = clock_change(day_of(start.at, load_zone(own_zone)), load_zone(own_zone))
    if change is not None:
        notes.append(f"{change.words} that day ({own_zone})")
    return "; ".join(notes)


def _moment(local: datetime) -> str:
    return f"{day_words(local.date(), year=False)}, {local:%H:%M}"


def retry_words(count: int, delay: int) -> str:
    """The retries as a sentence; "" for none."""
    if not count:
        return ""
    times = "once" if count == 1 else "twice" if count == 2 else f"{count} times"
    wait = f"after {spoken(timedelta(minutes=delay))}" if delay else "at once"
    apart = f", {spoken(timedelta(minutes=delay))} apart" if delay and count > 1 else ""
    return f"A failed run is tried again {times}" + (apart or f", {wait}") + "."


def _otherwise(left: list[str]) -> str:
    if not left:
        return ""
    said = "; ".join(left)
    return f"{said[:1].upper()}{said[1:]}."


def _days_words(days: Days) -> str:
    if days.first == days.last:
        return day_words(days.first)
    return f"{day_words(days.first)} to {day_words(days.last)}"


def _named(jobs: list[Any]) -> tuple[Named, ...]:
    return tuple(Named(name=job.name, url=job.get_absolute_url()) for job in jobs)
