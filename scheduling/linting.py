"""What may be unwise about a schedule. Pure: values in, advice out; it hides nothing and blocks nothing.

Instants are UTC inside: aware times of one zone are compared and added by their wall clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from scheduling.clock_shifts import ClockShift, shifts_between
from scheduling.cron import Cron, load_zone, parse_cron
from scheduling.free_slots import free_shift
from scheduling.presets import at_time
from scheduling.rules import Rules
from scheduling.units import counted, spoken

YEAR = timedelta(days=366)
LOOKED_AT = 20
"""How many of the schedule's own times are looked at."""
CROWD = 10
"""So many jobs at one minute are a crowd."""
CHECKS = 4000
"""How many times of other jobs are worked out for one question, however many jobs there are."""

_MINUTE = timedelta(minutes=1)
_UNKNOWN = timedelta(minutes=10)
# A cleanup comes before tonight's backup when that follows within this time, and the one before is longer ago.
_TONIGHT = timedelta(hours=6)
_PACES = (5, 10, 15, 20, 30)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The schedule that is looked at.

    `takes` is how long all but the longest of its past runs took, None when it has none; `deletes` says that it is a
    cleanup of copies.
    """

    cron: Cron
    rules: Rules
    takes: timedelta | None = None
    deletes: bool = False

    @property
    def zone(self) -> str:
        return self.rules.zone


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """Other jobs that share one schedule: `count` of them, one of which is called `name`.

    `nearby` says that they work on the same storage, `copies` that they make copies, `deletes` that they are cleanups.
    """

    name: str
    cron: Cron
    zone: str
    count: int = 1
    takes: timedelta | None = None
    nearby: bool = False
    copies: bool = False
    deletes: bool = False

    @property
    def names(self) -> str:
        return self.name if self.count == 1 else f"{self.name} and {self.count - 1} more"

    @property
    def makes(self) -> str:
        return f"{self.names} {'makes' if self.count == 1 else 'make'}"

    @property
    def starts(self) -> str:
        return f"{self.names} {'starts' if self.count == 1 else 'start'}"


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One thing that may be unwise, with the next step; `use` is a schedule that avoids it, "" when none is known."""

    code: str
    text: str
    use: str = ""


def lint(subject: Subject, neighbours: Sequence[Neighbour], now: datetime) -> list[Advice]:
    """What may be unwise about a schedule, most telling first."""
    fires = [fire.astimezone(UTC) for fire in subject.cron.next_fires(now, subject.zone, LOOKED_AT)]
    near = [other for other in neighbours if other.nearby]
    found = [
        _never_in_window(subject, fires),
        _only_on_blackouts(subject, fires),
        _more_often_than_it_takes(subject, fires),
        _cleans_too_early(subject, near, fires) if subject.deletes else _cleaned_too_early(subject, near, now),
        _overlap(subject, near, fires, now),
        _crowd(subject, neighbours, fires[0]),
        _clock_changes(subject, now),
    ]
    return [advice for advice in found if advice is not None]


def closest(subject: Subject, near: Sequence[Neighbour], now: datetime) -> list[Neighbour]:
    """The neighbours by how shortly before the subject's next times they start."""
    fires = subject.cron.next_fires(now, subject.zone, 3)

    def distance(other: Neighbour) -> float:
        return min(fire.timestamp() - other.cron.last_at_or_before(fire, other.zone).timestamp() for fire in fires)

    return sorted(near, key=distance)


def _never_in_window(subject: Subject, fires: Sequence[datetime]) -> Advice | None:
    window = subject.rules.window
    if window is None or any(subject.rules.is_open(fire) for fire in fires):
        return None
    return Advice(
        code="window",
        text=f"None of its next {len(fires)} times lies in its run window, {window[0]:%H:%M} until {window[1]:%H:%M}, "
        f"so each of them waits for {window[0]:%H:%M}. Choose times inside the window, or change the window.",
        use=at_time(subject.cron.text, window[0].hour, window[0].minute),
    )


def _only_on_blackouts(subject: Subject, fires: Sequence[datetime]) -> Advice | None:
    if any(subject.rules.blackout(fire) is None for fire in fires):
        return None
    return Advice(
        code="blackout",
        text=f"Its next {len(fires)} times, up to {_day(fires[-1], subject.zone)}, are all on blackout dates, so "
        "nothing runs until then. Shorten its blackout dates, or choose other days.",
    )


def _more_often_than_it_takes(subject: Subject, fires: Sequence[datetime]) -> Advice | None:
    if subject.takes is None:
        return None
    between = min(later - fire for fire, later in pairwise(fires))
    if subject.takes <= between:
        return None
    pace = next((minutes for minutes in _PACES if minutes * _MINUTE >= subject.takes), None)
    return Advice(
        code="often",
        text=f"It starts again after {spoken(between)} but takes up to {spoken(subject.takes)}, so it will often be "
        f"due while it still runs. Leave more than {spoken(subject.takes)} between its times.",
        use=f"*/{pace} * * * *" if pace and subject.cron.every_hour else "",
    )


def _cleans_too_early(subject: Subject, near: Sequence[Neighbour], fires: Sequence[datetime]) -> Advice | None:
    """For a cleanup: the copies of that night are not made yet."""
    backups = [other for other in near if other.copies]
    for fire in fires[: _share(backups, 8)]:
        tonight = [(_tonight(other, fire), other) for other in backups]
        early = [(backup, other) for backup, other in tonight if backup is not None]
        if not early:
            continue
        last, other = max(early, key=lambda pair: pair[0])
        jobs = sum(each.count for _, each in early)
        others = f", the last of {counted(jobs, 'job')}" if jobs > other.count else ""
        after = _rounded(last + (other.takes or timedelta(hours=1))).astimezone(load_zone(subject.zone))
        same_day = after.date() == fire.astimezone(load_zone(subject.zone)).date()
        return Advice(
            code="cleanup",
            text=f"It cleans up at {_at(fire, subject.zone)} on {_day(fire, subject.zone)}, before {other.makes} "
            f"that night’s copy at {_at(last, subject.zone)}{others}. Choose “Run after” {other.name} in place of a "
            f"time, or a time from {after:%H:%M} on.",
            use=at_time(subject.cron.text, after.hour, after.minute) if same_day else "",
        )
    return None


def _cleaned_too_early(subject: Subject, near: Sequence[Neighbour], now: datetime) -> Advice | None:
    """For a backup: a cleanup comes shortly before it."""
    own = Neighbour(name="", cron=subject.cron, zone=subject.zone)
    for cleanup in (other for other in near if other.deletes):
        for fire in cleanup.cron.next_fires(now, cleanup.zone, 8):
            backup = _tonight(own, fire.astimezone(UTC))
            if backup is None:
                continue
            after = _rounded(backup + (subject.takes or timedelta(hours=1)))
            return Advice(
                code="cleanup",
                text=f"{cleanup.names} cleans up at {_at(fire, subject.zone)} on {_day(backup, subject.zone)}, before "
                f"this job makes that night’s copy at {_at(backup, subject.zone)}. Let {cleanup.name} run after this "
                f"job, or from {_at(after, subject.zone)} on.",
            )
    return None


def _tonight(backups: Neighbour, cleanup: datetime) -> datetime | None:
    """The backup that a cleanup comes shortly before, when that is nearer than the one before it."""
    ahead = backups.cron.next_after(cleanup, backups.zone).astimezone(UTC)
    behind = backups.cron.last_at_or_before(cleanup, backups.zone).astimezone(UTC)
    shortly = ahead - cleanup < min(_TONIGHT, cleanup - behind)
    return ahead if shortly and ahead - behind > _TONIGHT else None


@dataclass(frozen=True, kw_only=True)
class _Clash:
    other: Neighbour
    fire: datetime
    start: datetime


def _overlap(subject: Subject, near: Sequence[Neighbour], fires: Sequence[datetime], now: datetime) -> Advice | None:
    # What runs several times an hour is met at any time, and moving either helps nobody.
    near = [other for other in near if not _at_all_times(other.cron)]
    clashes = [] if _at_all_times(subject.cron) else list(_clashes(subject, near, fires, now))
    if not clashes:
        return None
    first = min(clashes, key=lambda clash: (clash.fire, abs(clash.start - clash.fire)))
    more = sum(clash.other.count for clash in clashes) - first.other.count
    also = f" At some of its times it meets {counted(more, 'other job')} there as well." if more else ""
    use, step = _free(subject, near, first.fire)
    return Advice(
        code="overlap",
        text=f"On {_day(first.fire, subject.zone)} at {_at(first.fire, subject.zone)} {_clash_words(subject, first)}, "
        f"on the same storage.{also} {step}",
        use=use,
    )


def _at_all_times(cron: Cron) -> bool:
    return cron.every_hour and len(cron.minutes) > 1


def _clash_words(subject: Subject, clash: _Clash) -> str:
    name, start = clash.other.names, _at(clash.start, subject.zone)
    if clash.start == clash.fire:
        return f"{clash.other.starts} as well"
    if clash.start < clash.fire:
        return f"{name} may still be at work, since {start} and for up to {spoken(clash.other.takes or _MINUTE)}"
    return (
        f"it may still be at work, for up to {spoken(subject.takes or _MINUTE)}, when {clash.other.starts} at {start}"
    )


def _clashes(subject: Subject, near: Sequence[Neighbour], fires: Sequence[datetime], now: datetime) -> Iterator[_Clash]:
    """Who else is at work at the times of the schedule; of each neighbour the first such time."""
    own = subject.takes or _MINUTE
    checked = fires[: _share(near, LOOKED_AT)]
    for other in near:
        # A neighbour that runs more rarely is looked for at its own next time.
        rare = other.cron.next_after(now, other.zone)
        meets = subject.cron.last_at_or_before(rare.astimezone(UTC) + (other.takes or _MINUTE) - _MINUTE, subject.zone)
        for fire in (*checked, meets.astimezone(UTC)):
            start = other.cron.last_at_or_before(fire + own - timedelta(seconds=1), other.zone).astimezone(UTC)
            if fire > now and start + (other.takes or _MINUTE) > fire:
                yield _Clash(other=other, fire=fire, start=start)
                break


def _free(subject: Subject, near: Sequence[Neighbour], fire: datetime) -> tuple[str, str]:
    """A schedule of the same days that meets none of the neighbours, and the sentence that offers it."""
    local = fire.astimezone(load_zone(subject.zone))
    if not at_time(subject.cron.text, local.hour, local.minute):
        return "", "Move one of them."
    length = subject.takes or _UNKNOWN
    since_midnight = local.hour * 60 + local.minute
    busy = [(-10_000, -since_midnight), (24 * 60 - since_midnight, 10_000)]
    for other in near:
        moment = fire - timedelta(days=1)
        takes = -(-(other.takes or _UNKNOWN) // _MINUTE)
        for _ in range(_share(near, 400)):
            moment = other.cron.next_after(moment, other.zone).astimezone(UTC)
            start = (moment - fire) // _MINUTE
            if start > 24 * 60:
                break
            busy.append((start, start + takes))
    shift = free_shift(busy, length=-(-length // _MINUTE), minute=local.minute)
    if not shift:
        return "", "There is no room for it within 6 hours: move one of the others, or use another storage."
    moved = (fire + shift * _MINUTE).astimezone(load_zone(subject.zone))
    if not subject.rules.is_open(moved):
        return "", f"{moved:%H:%M} is free, but outside its run window: change the window, or move one of the others."
    return at_time(subject.cron.text, moved.hour, moved.minute), f"{moved:%H:%M} is free."


def _crowd(subject: Subject, neighbours: Sequence[Neighbour], fire: datetime) -> Advice | None:
    """Many jobs at one minute, with the quietest minute near it."""

    def starting(moment: datetime) -> int:
        return sum(other.count for other in neighbours if other.cron.fires_at(moment, other.zone))

    here = starting(fire)
    if here < CROWD:
        return None
    minute = fire.astimezone(load_zone(subject.zone)).minute
    quiet, shift = min((starting(fire + (other - minute) * _MINUTE), other - minute) for other in range(0, 60, 5))
    moved = (fire + shift * _MINUTE).astimezone(load_zone(subject.zone))
    use = at_time(subject.cron.text, moved.hour, moved.minute) if quiet < here // 2 else ""
    step = f"At {moved:%H:%M} it is {quiet or 'none'}." if use else "Spread them over the hour."
    return Advice(
        code="crowd",
        text=f"{counted(here, 'other job')} start at the same minute, {_at(fire, subject.zone)}, and most of them wait "
        f"for each other. {step}",
        use=use,
    )


def _clock_changes(subject: Subject, now: datetime) -> Advice | None:
    """Times that a change of the clocks leaves out or repeats within a year."""
    if subject.cron.every_hour:
        return None
    shifts = shifts_between(load_zone(subject.zone), now, now + YEAR)
    moved = [(shift, wall) for shift in shifts for wall in _moved(subject.cron, shift)]
    if not moved:
        return None
    first = {shift.forward: (shift.at, _shift_sentence(shift, wall)) for shift, wall in reversed(moved)}
    ends = [max(shift.wall_before, shift.wall_after) for shift, _ in moved]
    tried = (at_time(subject.cron.text, end.hour, end.minute) for end in ends)
    use = next((text for text in tried if text and not any(_moved(parse_cron(text), shift) for shift in shifts)), "")
    sentences = " ".join(sentence for _, sentence in sorted(first.values()))
    return Advice(code="clocks", text=f"{sentences} Nothing is lost: move it only if that hour matters.", use=use)


def _moved(cron: Cron, shift: ClockShift) -> list[datetime]:
    """The first time on the wall that the shift leaves out or repeats, if the schedule has one."""
    return cron.wall_times(min(shift.wall_before, shift.wall_after), max(shift.wall_before, shift.wall_after), 1)


def _shift_sentence(shift: ClockShift, wall: datetime) -> str:
    day = f"{wall:%a} {wall.day} {wall:%b %Y}"
    if shift.forward:
        return f"On {day} the clocks go forward and {wall:%H:%M} does not come: it runs at {shift.wall_after:%H:%M}."
    return f"On {day} the clocks go back and {wall:%H:%M} comes twice: it runs once, at the first."


def _rounded(moment: datetime) -> datetime:
    """The next multiple of five minutes."""
    return moment + -moment.minute % 5 * _MINUTE


def _share(others: Sequence[Neighbour], most: int) -> int:
    """How many times to work out for each of the others."""
    return max(2, min(most, CHECKS // max(1, len(others))))


def _at(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(load_zone(zone)):%H:%M}"


def _day(moment: datetime, zone: str) -> str:
    local = moment.astimezone(load_zone(zone))
    return f"{local:%a} {local.day} {local:%b}"
