"""What becomes of one pair, or of a job that has no copies yet, under the saved policy and under one to try."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise

from django.utils import timezone
from django.utils.dateformat import format as format_date

from backups.listing_words import SPACE, month_words
from backups.models import Backup
from backups.retention import Candidate, Day, Fate, Guards, Policy, Schedule, Timeline, simulate
from maintenance.curves import Curve, Marks, day_marks, storage_curve
from maintenance.trial_words import span_words
from scheduling.units import binary_size

FIGURES_DAYS = 90
"""How far ahead the figures look; the curve and the slider look `CURVE_DAYS` ahead."""
CURVE_DAYS = 365
MAX_GOING = 50

# Typing asks again every moment: from one such moment to the next, what was simulated is still right.
_BEAT = timedelta(minutes=10)
_SAME = "the same"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of both policies, with the difference in words; `worse` when the new one holds less."""

    label: str
    old: str
    new: str
    difference: str
    worse: bool = False


@dataclass(frozen=True, kw_only=True)
class Going:
    """An existing copy that the new policy deletes; `saved_at` is when the saved one does, None when it does not."""

    backup: Backup
    fate: Fate
    saved_at: datetime | None

    @property
    def sooner(self) -> bool:
        """Because of the change: the saved policy keeps it for longer."""
        return self.saved_at is None or (self.fate.deleted_at is not None and self.fate.deleted_at < self.saved_at)

    @property
    def why(self) -> str:
        return self.fate.reasons[0].text if self.fate.reasons else ""


@dataclass(frozen=True, kw_only=True)
class DayView:
    """The copies of one day ahead under both policies; `words` say what the picture shows."""

    number: int
    day: date
    marks: Marks
    words: tuple[str, ...]
    difference: str


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A pair with what lies ahead of it, and both policies with their guards: the saved one, then the new one."""

    label: str
    old_name: str
    rows: Mapping[str, Backup]
    candidates: tuple[Candidate, ...]
    schedule: Schedule
    start: datetime
    until: datetime
    policies: tuple[Policy, Policy]
    guards: tuple[Guards, Guards]
    trash_hours: int
    months_lost: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """Both policies played forward. `going` are the first of the copies that go within `FIGURES_DAYS`, those that go
    because of the change before the others; `more_going` counts the former.
    """

    scene: Scene
    old: Timeline
    new: Timeline
    figures: tuple[Figure, ...]
    curve: Curve
    going: tuple[Going, ...]
    going_count: int
    more_going: int
    more_bytes: int
    approvals: int
    day: DayView

    @property
    def last_day(self) -> int:
        return len(self.new.days) - 1

    @property
    def unlisted(self) -> int:
        return self.going_count - len(self.going)

    @property
    def old_name_inline(self) -> str:
        return f"the {self.scene.old_name[:1].lower()}{self.scene.old_name[1:]}"

    @property
    def curve_words(self) -> str:
        """What the curve shows, for those who do not see it."""
        sentences = []
        for name, line in ((self.scene.old_name, self.old), ("This policy", self.new)):
            first, last = line.days[0], line.days[-1]
            sentences.append(f"{name}: {_amount(first)} today, {_amount(last)} on {_date(line.until)}.")
        return " ".join(sentences)

    @property
    def months_lost(self) -> str:
        return month_words(self.scene.months_lost)

    @property
    def is_same(self) -> bool:
        return self.scene.policies[0] == self.scene.policies[1] and self.scene.guards[0] == self.scene.guards[1]


def beat(now: datetime, candidates: Iterable[Candidate] = ()) -> datetime:
    """The beginning of this beat, or the newest copy: one that was made since would be one of the future."""
    start = now - timedelta(seconds=now.timestamp() % _BEAT.total_seconds())
    return max([start, *(copy.created for copy in candidates if copy.created <= now)])


def look_ahead(scene: Scene, day: int) -> Ahead:
    """Play both policies forward, and look more closely at one day, counted from today."""
    old, new = (
        _timeline(
            scene.candidates,
            policy,
            tuple(scene.schedule.backups),
            tuple(scene.schedule.cleanups),
            scene.start,
            scene.until,
            guards,
            scene.trash_hours,
        )
        for policy, guards in zip(scene.policies, scene.guards, strict=True)
    )
    horizon = scene.start + timedelta(days=FIGURES_DAYS)
    going = _going(scene.rows, old, new, horizon)
    sooner = [entry for entry in going if entry.sooner]
    return Ahead(
        scene=scene,
        old=old,
        new=new,
        figures=_figures(old, new),
        curve=storage_curve(old, new),
        going=tuple(going[:MAX_GOING]),
        going_count=len(going),
        more_going=len(sooner),
        more_bytes=sum(entry.fate.size for entry in sooner),
        approvals=sum(1 for at in new.approvals if at <= horizon),
        day=_day_view(old, new, day),
    )


@lru_cache(maxsize=12)
def _timeline(
    candidates: tuple[Candidate, ...],
    policy: Policy,
    backups: tuple[datetime, ...],
    cleanups: tuple[datetime, ...],
    start: datetime,
    until: datetime,
    guards: Guards,
    trash_hours: int,
) -> Timeline:
    schedule = Schedule(backups=backups, cleanups=cleanups)
    return simulate(candidates, policy, schedule, start, until, guards, trash_hours=trash_hours)


def _going(rows: Mapping[str, Backup], old: Timeline, new: Timeline, horizon: datetime) -> list[Going]:
    """What the new policy deletes until `horizon`, by when it goes; what goes because of the change comes first."""
    going = [
        (fate.deleted_at, Going(backup=rows[fate.uid], fate=fate, saved_at=old.fates[fate.uid].deleted_at))
        for fate in new.fates.values()
        if fate.deleted_at is not None and fate.deleted_at <= horizon
    ]
    going.sort(key=lambda pair: (not pair[1].sooner, pair[0], pair[1].fate.created))
    return [entry for _, entry in going]


def _figures(old: Timeline, new: Timeline) -> tuple[Figure, ...]:
    near = min(FIGURES_DAYS, len(old.days) - 1, len(new.days) - 1)
    before, after = old.days[near], new.days[near]
    copies = _difference(after.copies - before.copies, lambda number: f"{number:,}", "fewer", "more")
    size = _difference(after.bytes - before.bytes, lambda number: binary_size(number, space=SPACE), "less", "more")
    figures = [
        Figure(
            label="Copies",
            old=f"{before.copies:,}",
            new=f"{after.copies:,}",
            difference=copies,
            worse=after.copies < before.copies,
        )
    ]
    if before.bytes or after.bytes:
        sizes = (binary_size(day.bytes, space=SPACE) for day in (before, after))
        figures.append(Figure(label="On storage", old=next(sizes), new=next(sizes), difference=size))
    if before.oldest and after.oldest:
        later = after.oldest - before.oldest
        figures.append(
            Figure(
                label="Oldest restore point",
                old=_date(before.oldest),
                new=_date(after.oldest),
                difference=_span_difference(later, "younger", "older"),
                worse=later > timedelta(),
            )
        )
    since = min((day.oldest for day in (before, after) if day.oldest), default=None)
    if since:
        gaps = [_longest_gap(line, day.day, since) for line, day in ((old, before), (new, after))]
        longer = gaps[1] - gaps[0]
        figures.append(
            Figure(
                label=f"Longest time without a copy since {_date(since)}",
                old=span_words(gaps[0]),
                new=span_words(gaps[1]),
                difference=_span_difference(longer, "longer", "shorter"),
                worse=longer >= timedelta(hours=1),
            )
        )
    months = [len(_months(line, day.day)) for line, day in ((old, before), (new, after))]
    figures.append(
        Figure(
            label="Months with a copy",
            old=str(months[0]),
            new=str(months[1]),
            difference=_difference(months[1] - months[0], str, "fewer", "more"),
            worse=months[1] < months[0],
        )
    )
    return tuple(figures)


def _longest_gap(line: Timeline, day: date, since: datetime) -> timedelta:
    """The longest time without a restore point that is there on a day. What is older than `since` does not count, so
    that a policy that keeps less history has no shorter gaps for it.
    """
    end = min(datetime.combine(day + timedelta(days=1), datetime.min.time(), tzinfo=line.zone), line.until)
    points = [since, *reversed([copy.created for copy in line.copies_on(day)]), end]
    return max(after - before for before, after in pairwise(points))


def _months(line: Timeline, day: date) -> set[tuple[int, int]]:
    local = (copy.created.astimezone(line.zone) for copy in line.copies_on(day))
    return {(created.year, created.month) for created in local}


def _difference(number: int, shown: Callable[[int], str], less: str, more: str) -> str:
    if not number:
        return _SAME
    return f"{shown(abs(number))} {less if number < 0 else more}"


def _span_difference(span: timedelta, more: str, less: str) -> str:
    if abs(span) < timedelta(hours=1):
        return _SAME
    return f"{span_words(abs(span))} {more if span > timedelta() else less}"


def _day_view(old: Timeline, new: Timeline, number: int) -> DayView:
    number = min(number, len(old.days) - 1, len(new.days) - 1)
    day = new.days[number].day
    # The zones may differ, and with them the dates at the ends.
    shown = min(max(day, old.days[0].day), old.days[-1].day)
    before, after = old.copies_on(shown), new.copies_on(shown)
    words = [
        f"{_copies(len(copies))}, the oldest of {_date(copies[-1].created)}" if copies else "no copy"
        for copies in (before, after)
    ]
    fewer = _difference(len(after) - len(before), str, "fewer", "more")
    return DayView(
        number=number,
        day=shown,
        marks=day_marks(old, new, shown),
        words=tuple(words),
        difference="" if fewer == _SAME else fewer,
    )


def _amount(day: Day) -> str:
    size = f" ({binary_size(day.bytes, space=SPACE)})" if day.bytes else ""
    return f"{_copies(day.copies)}{size}"


def _copies(number: int) -> str:
    return "1 copy" if number == 1 else f"{number:,} copies"


def _date(moment: datetime) -> str:
    return format_date(timezone.localtime(moment), "j M Y").replace(" ", SPACE)
