"""What a retention policy would cost, as pages show it while it is typed, before it is saved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from backups.listing_words import MAX_NAMED
from backups.models import BackupJob, Options, Storage
from backups.retention import Guards, Schedule
from backups.services.forecast import cleanup_times, cron_fires, forecast_until, pair_schedule
from backups.services.options import effective_policy
from backups.services.pair_rows import PairKey
from backups.services.policy_change import PairChange, PolicyChange, policy_change
from backups.services.retention import Pair, pair_guards
from backups.storage import StorageError
from maintenance.retention_plans import Storages, last_cleaned
from maintenance.trial_ahead import CURVE_DAYS, FIGURES_DAYS, Ahead, Scene, beat, look_ahead
from maintenance.trial_words import answer_words, stop_words, when_words
from scheduling.cron import ScheduleError, parse_cron

MAX_PAIRS = 50

# Ids that every database can hold.
_PAIR = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


@dataclass(frozen=True, kw_only=True)
class Look:
    """Which pair and which day ahead somebody looks at; a pair that is not there stands for the one that loses most.

    With `day_only`, the day of the pair is all that will be shown.
    """

    pair: str = ""
    day: int = FIGURES_DAYS
    day_only: bool = False

    @property
    def only(self) -> PairKey | None:
        """The one pair that has to be looked at; None for all."""
        found = _PAIR.fullmatch(self.pair) if self.day_only else None
        return (int(found[1]), int(found[2])) if found else None

    @classmethod
    def from_form(cls, values: Mapping[str, Any], *, day_only: bool = False) -> Look:
        """Read the region's own fields; for nonsense, what stands there at first."""
        day = str(values.get("trial_day", ""))
        number = int(day) if day.isascii() and day.isdigit() and len(day) < 5 else FIGURES_DAYS
        return cls(pair=str(values.get("trial_pair", "")), day=min(number, CURVE_DAYS), day_only=day_only)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One pair that can be looked at more closely."""

    value: str
    label: str
    is_chosen: bool


@dataclass(frozen=True, kw_only=True)
class PolicyTrial:
    """A trial as its region shows it.

    `answer` is the one sentence, `detail` what is said beside it; `stops` say which guards would stop tonight's
    cleanup, `problems` which pairs it would leave alone, and why. `pairs` are the others, those that lose most first.
    """

    answer: str
    detail: str
    deletes_more: bool
    when: str
    stops: tuple[str, ...]
    problems: tuple[str, ...]
    pairs: tuple[PairChange, ...]
    unaffected: tuple[Pair, ...]
    choices: tuple[Choice, ...]
    ahead: Ahead | None
    policy: str

    @property
    def rows(self) -> tuple[PairChange, ...]:
        return self.pairs[:MAX_PAIRS]

    @property
    def unlisted(self) -> int:
        return len(self.pairs) - len(self.rows)


def trial_options(values: Mapping[str, Any]) -> Options:
    """Options with these values, not saved."""
    return Options(pk=1, **values)


def options_trial(*, saved: Options, tried: Options, now: datetime, look: Look) -> PolicyTrial:
    """Other options: every pair whose policy they change. Raises `PolicyError` when they hold one of no use."""
    policy = effective_policy(override=None, options=tried)
    change = policy_change(saved=saved, tried=tried, now=now, last_cleaned=last_cleaned(), only=look.only)
    chosen = _chosen(change, look)
    ahead = _ahead(chosen, change, saved, tried, look, chosen.pair.job) if chosen else None
    return _trial(change, chosen, ahead, tried, policy.describe())


def job_trial(
    *,
    job: BackupJob | None,
    retention: Mapping[str, Any] | None,
    schedule: str,
    zone: str,
    options: Options,
    now: datetime,
    look: Look,
) -> PolicyTrial:
    """Another policy of one job (None: the one in Options), and the schedule that stands in its form.

    Without a job, or without copies, what the policy would gather is set beside the policy in Options. Raises
    `PolicyError` when it cannot be used.
    """
    policy = effective_policy(override=retention, options=options)
    if job is not None:
        change = policy_change(
            saved=options,
            tried=options,
            now=now,
            job=job,
            retention=retention,
            last_cleaned=last_cleaned(),
            only=look.only,
        )
        if change.pairs or change.unaffected or change.failed:
            # In memory only: it is never saved.
            typed = copy(job)
            typed.schedule, typed.timezone = schedule, zone
            chosen = _chosen(change, look)
            ahead = _ahead(chosen, change, options, options, look, typed) if chosen else None
            return _trial(change, chosen, ahead, options, policy.describe())
    start = beat(now)
    scene = Scene(
        label=job.name if job else "this job",
        old_name="Policy in Options",
        rows={},
        candidates=(),
        schedule=_first_schedule(schedule, zone or options.timezone, start),
        start=start,
        until=start + timedelta(days=CURVE_DAYS),
        policies=(effective_policy(override=None, options=options), policy),
        guards=(Guards(), Guards()),
        trash_hours=options.trash_hours,
    )
    ahead = look_ahead(scene, look.day) if scene.schedule.backups else None
    return PolicyTrial(
        answer="There are no copies yet, so nothing can be deleted.",
        detail="Below is what these rules would gather." if ahead else "It has no schedule to look ahead with.",
        deletes_more=False,
        when="",
        stops=(),
        problems=(),
        pairs=(),
        unaffected=(),
        choices=(),
        ahead=ahead,
        policy=policy.describe(),
    )


def _trial(
    change: PolicyChange, chosen: PairChange | None, ahead: Ahead | None, tried: Options, policy: str
) -> PolicyTrial:
    closed = _closed_storages(change.pairs)
    problems = [f"{pair.label}: {reason} Nothing of it would be changed." for pair, reason in change.failed]
    pairs: list[PairChange] = []
    for changed in sorted(change.pairs, key=lambda changed: changed.weight, reverse=True):
        reasons = [closed[pk] for pk in changed.storages if pk in closed]
        if reasons:
            problems.append(f"{changed.pair.label}: {reasons[0]} Until then nothing of it would be changed.")
        else:
            pairs.append(changed)
    open_change = replace(change, pairs=tuple(pairs))
    answer, detail = answer_words(open_change)
    stops = [stop_words(changed, stop, tried) for changed in pairs for stop in changed.stops]
    if any(changed.new_count for changed in pairs):
        stops += [f"{stop.text.removesuffix('.')}, so it would stop and ask." for stop in change.storage_stops]
    return PolicyTrial(
        answer=answer,
        detail=detail,
        deletes_more=bool(open_change.lost),
        when=when_words(change.at, change.now),
        stops=tuple(stops[:MAX_NAMED]),
        problems=tuple(problems),
        pairs=tuple(pairs),
        unaffected=change.unaffected,
        choices=tuple(
            Choice(value=_value(changed.pair), label=changed.pair.label, is_chosen=changed is chosen)
            for changed in change.pairs
        ),
        ahead=ahead,
        policy=policy,
    )


def _closed_storages(pairs: Iterable[PairChange]) -> dict[int, str]:
    """Why storages cannot be opened, by their ids; a cleanup leaves such a storage alone."""
    found: dict[int, Storage] = {}
    for changed in pairs:
        found |= changed.storages
    closed = {}
    with ExitStack() as stack:
        storages = Storages(stack)
        for pk, storage in found.items():
            try:
                storages.open(storage)
            except StorageError as error:
                closed[pk] = str(error)
    return closed


def _value(pair: Pair) -> str:
    return f"{pair.job.pk}-{pair.target_id}"


def _chosen(change: PolicyChange, look: Look) -> PairChange | None:
    """The pair that was asked for, else the one that loses most, else the largest."""
    asked = next((changed for changed in change.pairs if _value(changed.pair) == look.pair), None)
    by_loss = sorted(change.pairs, key=lambda changed: (changed.weight, changed.size))
    return asked or next(reversed(by_loss), None)


def _ahead(
    changed: PairChange, change: PolicyChange, saved: Options, tried: Options, look: Look, job: BackupJob
) -> Ahead:
    pair = replace(changed.pair, job=job)
    start = beat(change.now, changed.candidates)
    until = forecast_until(pair=pair, now=start, until=start + timedelta(days=CURVE_DAYS))
    old, new = (
        pair_guards(options=tried, rows=(), now=change.now, minimum_keep=options.minimum_keep)
        for options in (saved, tried)
    )
    scene = Scene(
        label=changed.pair.label,
        old_name="Saved policy",
        rows=changed.rows,
        candidates=tuple(changed.candidates),
        schedule=pair_schedule(pair=pair, now=start, until=until),
        start=start,
        until=until,
        policies=(changed.old.policy, changed.new.policy),
        guards=(old, new),
        trash_hours=tried.trash_hours,
        months_lost=changed.months_lost,
    )
    return look_ahead(scene, look.day)


def _first_schedule(text: str, zone: str, start: datetime) -> Schedule:
    """What a job that has no copies yet would make in a year; nothing when its schedule cannot be read."""
    until = start + timedelta(days=CURVE_DAYS)
    try:
        fires = list(cron_fires(parse_cron(text), zone, start, until, step=timedelta(minutes=30)))
    except ScheduleError:
        fires = []
    return Schedule(backups=fires, cleanups=cleanup_times(start, until))
