"""The worked example on the page about retention: invented copies, decided on by the engine itself. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from backups.retention import Candidate, Guards, Policy, Protection, plan

MAX_NIGHTS = 60
BACKUP_AT, CLEANUP_AT = time(2, 30), time(3, 0)

# With more rows than this, those without a copy are left out.
_ROOM = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One copy as the example shows it. `state` is "keep", "gone", or "flawed": not counted, and so never deleted.

    `name` is its day or hour; `reasons` say why it stays, or why it went on night `gone`.
    """

    created: datetime
    name: str
    state: str
    reasons: tuple[str, ...]
    gone: int | None = None
    badge: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A day, a week or a month of copies, oldest first; None where a backup did not run."""

    label: str
    copies: tuple[Shown | None, ...]


@dataclass(frozen=True, kw_only=True)
class Example:
    """Which of the invented copies are there after some nights. `rows` are newest first; `hidden` copies, all gone,
    have no row.
    """

    rows: tuple[Row, ...]
    columns: int
    made: int
    there: int
    oldest: datetime | None
    hidden: int


@dataclass(frozen=True, kw_only=True)
class Habit:
    """A habit of making backups: the dates and hours of those in the past, and on one date to come."""

    label: str
    days: int
    hours: Sequence[int]
    every: int = 1
    gaps: frozenset[int] = frozenset()

    def on(self, day: date, zone: ZoneInfo) -> list[datetime]:
        """The copies of a date; every so many days only, counted so that a Sunday is one of them."""
        if (day.toordinal() % 7) % self.every or day.toordinal() % 23 in self.gaps:
            return []
        return [datetime.combine(day, time(hour, BACKUP_AT.minute), tzinfo=zone) for hour in self.hours]


HABITS: Mapping[str, Habit] = {
    "daily": Habit(label="Every night", days=60, hours=(2,)),
    "hourly": Habit(label="Every hour", days=6, hours=range(24)),
    "weekly": Habit(label="Every Sunday", days=420, hours=(2,), every=7),
    "gaps": Habit(label="Nightly, with gaps", days=75, hours=(2,), gaps=frozenset({2, 3, 4, 5, 6, 11, 15, 16})),
}


def example(
    *, habit: str, policy: Policy, minimum_keep: int, nights: int, today: date, stopped: bool, special: bool
) -> Example:
    """Let `nights` pass, each with its backups (unless they have stopped) and its cleanup.

    With `special` copies one is pinned, one verified, one suspect.
    """
    of_habit, zone = HABITS[habit], policy.zone
    past = (today - timedelta(days=number) for number in range(of_habit.days - 1, -1, -1))
    moments = [moment for day in past for moment in of_habit.on(day, zone)]
    now = datetime.combine(today, CLEANUP_AT, tzinfo=zone)
    copies = [_copy(number, moment) for number, moment in enumerate(moments) if moment <= now]
    if special:
        copies = _specials(copies)
    made = list(copies)
    gone: dict[str, tuple[int, tuple[str, ...]]] = {}
    guards = Guards(minimum_keep=minimum_keep, max_share=None, max_count=None)
    for night in range(nights + 1):
        if night and not stopped:
            since, now = now, now + timedelta(days=1)
            days = (since.date(), now.date())
            coming = [moment for day in days for moment in of_habit.on(day, zone) if since < moment <= now]
            arrived = [_copy(len(made) + number, moment) for number, moment in enumerate(coming)]
            copies += arrived
            made += arrived
        elif night:
            now += timedelta(days=1)
        decided = plan(copies, policy, now, guards)
        gone |= {verdict.uid: (night, _texts(verdict.reasons)) for verdict in decided.delete}
        copies = [verdict.candidate for verdict in decided.keep]
    kept = {verdict.uid: _texts(verdict.reasons) for verdict in decided.keep}
    shown = [_shown(copy, kept, gone, of_habit) for copy in made]
    rows, hidden = _rows(shown, of_habit)
    there = [copy.created for copy in copies]
    return Example(
        rows=tuple(rows),
        columns=_columns(of_habit),
        made=len(made),
        there=len(there),
        oldest=min(there, default=None),
        hidden=hidden,
    )


def _copy(number: int, moment: datetime) -> Candidate:
    return Candidate(uid=f"copy {number}", created=moment, size=1)


def _specials(copies: Sequence[Candidate]) -> list[Candidate]:
    changed = list(copies)
    pinned, verified, suspect = (len(copies) * share // 10 for share in (2, 6, 8))
    pin = Protection(kind="pinned", text="pinned by you: before the move")
    changed[pinned] = replace(copies[pinned], protections=(pin,))
    changed[verified] = replace(copies[verified], verified_at=copies[verified].created + timedelta(hours=8))
    changed[suspect] = replace(copies[suspect], flaw="suspect")
    return changed


def _texts(reasons: Iterable[object]) -> tuple[str, ...]:
    return tuple(getattr(reason, "text", "") for reason in reasons)


def _shown(
    copy: Candidate,
    kept: Mapping[str, tuple[str, ...]],
    gone: Mapping[str, tuple[int, tuple[str, ...]]],
    habit: Habit,
) -> Shown:
    night, reasons = gone.get(copy.uid, (None, kept.get(copy.uid, ())))
    state = "gone" if night is not None else "flawed" if copy.flaw else "keep"
    badge = "pinned" if copy.protections else "verified" if copy.verified_at else "suspect" if copy.flaw else ""
    name = f"{copy.created:%H}" if len(habit.hours) > 1 else str(copy.created.day)
    return Shown(created=copy.created, name=name, state=state, reasons=reasons, gone=night, badge=badge)


def _columns(habit: Habit) -> int:
    return 24 if len(habit.hours) > 1 else 7 if habit.every == 1 else 5


def _rows(shown: Sequence[Shown], habit: Habit) -> tuple[list[Row], int]:
    """The copies by day, week or month, newest first, and how many are left out with rows where all are gone."""
    key, label, place = _grouping(habit)
    groups: dict[object, list[Shown]] = {}
    for copy in shown:
        groups.setdefault(key(copy.created), []).append(copy)
    hidden = 0
    rows = []
    for copies in reversed(groups.values()):
        if len(groups) > _ROOM and all(copy.state == "gone" for copy in copies):
            hidden += len(copies)
            continue
        places: list[Shown | None] = [None] * _columns(habit)
        for copy in copies:
            places[place(copy.created)] = copy
        rows.append(Row(label=label(copies[0].created), copies=tuple(places)))
    return rows, hidden


def _grouping(
    habit: Habit,
) -> tuple[Callable[[datetime], object], Callable[[datetime], str], Callable[[datetime], int]]:
    """What a row is, what it is called, and the place of a copy in it."""
    if len(habit.hours) > 1:
        return datetime.date, lambda at: f"{at:%a} {at.day} {at:%b}", lambda at: at.hour
    if habit.every == 1:
        return (
            lambda at: at.isocalendar()[:2],
            lambda at: f"Week {at.isocalendar().week}",
            lambda at: at.weekday(),
        )
    return lambda at: (at.year, at.month), lambda at: f"{at:%b %Y}", lambda at: (at.day - 1) // 7
