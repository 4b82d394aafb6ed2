from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo
from heapq import nlargest
from itertools import compress, count, islice
from operator import attrgetter, gt, sub
from statistics import median

from backups.retention.guards import DEFAULT_GUARDS, Guards, StoragePart, pair_stops
from backups.retention.ledger import Ledger
from backups.retention.periods import moment_of, stamp_of, wall_hours
from backups.retention.planner import newest_first
from backups.retention.policy import Policy
from backups.retention.suspicion import LOOK_BACK
from backups.retention.verdicts import Candidate, Reason, Verdict

_HOUR = timedelta(hours=1) // timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """When backups will be made and cleanups will run: aware moments, ascending. Raises ValueError for others."""

    backups: Sequence[datetime]
    cleanups: Sequence[datetime]

    def __post_init__(self) -> None:
        for name, moments in (("backups", self.backups), ("cleanups", self.cleanups)):
            if any(moment.tzinfo is None for moment in moments):
                raise ValueError(f"a time of the {name} has no zone; pass aware times")
            stamps = list(map(stamp_of, moments))
            if any(map(gt, stamps, islice(stamps, 1, None))):
                raise ValueError(f"the times of the {name} are not in order; pass them ascending")

    def between(self, start: datetime, end: datetime) -> Schedule:
        """The part of it from `start` to `end`, both included, in UTC."""
        first, last = stamp_of(start), stamp_of(end)
        backups, cleanups = (
            [moment_of(stamp) for stamp in map(stamp_of, moments) if first <= stamp <= last]
            for moments in (self.backups, self.cleanups)
        )
        return Schedule(backups=backups, cleanups=cleanups)


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """A good copy on the storage at the end of some day; `uid` is blank for an expected one. `size` in bytes."""

    created: datetime
    size: int
    uid: str
    expected: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """A date in the policy's zone, and the good copies at its end; sizes in bytes.

    `made` and `deleted` count what is expected to happen on it. `trash_bytes` is what cleanups removed less than the
    trash's hours before. `worst_gap` is the longest time between neighbouring copies, the time since the newest
    included; None without a copy, as is `oldest`. The last day ends with the simulation.
    """

    day: date
    copies: int
    bytes: int
    trash_bytes: int
    made: int
    deleted: int
    oldest: datetime | None
    worst_gap: timedelta | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fate:
    """What becomes of a copy that exists now: the cleanup that deletes it and why; None and no reasons when it stays.

    `by_at` is when the copy that takes its place was or will be made, `by` the uid of that one, blank when it is
    expected or there is none.
    """

    uid: str
    created: datetime
    size: int
    deleted_at: datetime | None = None
    reasons: tuple[Reason, ...] = ()
    by: str = ""
    by_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The good copies of one pair on every date from `start` to `until`, as a policy and a schedule would have them.

    Flawed copies have a fate (they stay) and are on no day; those dated in the future are from that date on.
    `approvals` are the cleanups over the blast radius, which are taken as approved.
    """

    start: datetime
    until: datetime
    zone: tzinfo
    days: tuple[Day, ...]
    fates: Mapping[str, Fate]
    approvals: tuple[datetime, ...]
    lives: tuple[tuple[Copy, int, int | None], ...] = field(repr=False)
    """Each copy, newest first, with the stamps at which it was made and deleted."""

    @property
    def oldest(self) -> datetime | None:
        """The oldest good copy at the end."""
        return self.days[-1].oldest

    @property
    def worst_gap(self) -> timedelta | None:
        """The longest gap on any day; None when no day has a copy."""
        return max((day.worst_gap for day in self.days if day.worst_gap is not None), default=None)

    def copies_on(self, day: date) -> tuple[Copy, ...]:
        """The copies at the end of a day in the policy's zone, newest first. Raises ValueError for another day."""
        first, last = self.days[0].day, self.days[-1].day
        if not first <= day <= last:
            raise ValueError(f"{day} is not simulated; the days are {first} to {last}")
        end = min(day_end(day, self.zone), stamp_of(self.until) + 1)
        return tuple(copy for copy, made, gone in self.lives if made < end and (gone is None or gone >= end))


def simulate(
    candidates: Iterable[Candidate],
    policy: Policy,
    schedule: Schedule,
    now: datetime,
    until: datetime,
    guards: Guards = DEFAULT_GUARDS,
    *,
    size: int | None = None,
    trash_hours: int = 72,
) -> Timeline:
    """Play the schedule from `now` to `until`, both included: each cleanup deletes what `plan` would at that moment.

    A backup due at the moment of a cleanup comes first. Expected copies are good, not verified, and of `size` bytes:
    the median of the last five good ones when None. Stops that the outside found are not looked at. Raises ValueError
    for naive times or an `until` before `now`.
    """
    if now.tzinfo is None or until.tzinfo is None:
        raise ValueError("now or until has no time zone; pass aware times")
    if stamp_of(until) < stamp_of(now):
        raise ValueError(f"the simulation would end at {until}, before it begins at {now}")
    copies = list(candidates)
    ahead = schedule.between(now, until)
    expected = expected_copies(copies, ahead.backups, now, size)
    simulation = _Simulation(copies, expected, policy, now, guards, trash_hours)

    zone = policy.zone
    first, last = now.astimezone(zone).date(), until.astimezone(zone).date()
    cleanups = deque(ahead.cleanups)
    days = []
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        end = min(day_end(day, zone), stamp_of(until) + 1)
        while cleanups and stamp_of(cleanups[0]) < end:
            simulation.clean_up(cleanups.popleft())
        days.append(simulation.close(day, end, min(end, stamp_of(until))))
    return Timeline(
        start=now,
        until=until,
        zone=zone,
        days=tuple(days),
        fates=simulation.fates,
        approvals=tuple(simulation.approvals),
        lives=simulation.lives(),
    )


def expected_copies(
    candidates: Iterable[Candidate], backups: Iterable[datetime], now: datetime, size: int | None
) -> list[Candidate]:
    """The copies that backups at these moments will make; sized as `simulate` says."""
    if size is None:
        dated = ((stamp_of(copy.created), copy.size) for copy in candidates if not copy.flaw)
        recent = nlargest(LOOK_BACK, (pair for pair in dated if pair[0] <= stamp_of(now)))
        size = int(median(size for _, size in recent)) if recent else 0
    return [Candidate(uid="", created=moment, size=size) for moment in backups]


def day_end(day: date, zone: tzinfo) -> int:
    """The stamp at which the next date begins in `zone`."""
    # A midnight that the clock skips is read with the offset before the change, which gives the moment of the change:
    # the first of the new date. Of one that comes twice it is the first.
    return stamp_of(datetime.combine(day + timedelta(days=1), time(), tzinfo=zone))


class _Simulation:
    """The good copies of one pair while time passes: newest first, in columns, as the ledger takes them."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        expected: Sequence[Candidate],
        policy: Policy,
        now: datetime,
        guards: Guards,
        trash_hours: int,
    ) -> None:
        self._policy = policy
        self._guards = guards
        self._trash_time = trash_hours * _HOUR
        self.approvals: list[datetime] = []
        self.fates = {copy.uid: Fate(uid=copy.uid, created=copy.created, size=copy.size) for copy in candidates}
        self._gone: list[tuple[Candidate, int, int]] = []
        self._trash: deque[tuple[int, int]] = deque()
        self._trash_bytes = 0

        protections = [protection for copy in candidates for protection in copy.protections]
        self._protected = bool(protections)
        self._endings = deque(sorted(stamp_of(held.until) for held in protections if held.until))

        good = [copy for copy in candidates if not copy.flaw]
        present = [copy for copy in good if stamp_of(copy.created) <= stamp_of(now)]
        future = [copy for copy in good if stamp_of(copy.created) > stamp_of(now)]
        self._copies, self._stamps = newest_first(present)
        self._hours = wall_hours(self._stamps, policy.zone)
        self._bytes = sum(copy.size for copy in present)
        coming, stamps = newest_first([*expected, *future])
        hours = wall_hours(stamps, policy.zone)
        self._coming = list(zip(coming, stamps, hours, strict=True))

        self._arrivals = guards.arrivals
        # Cleaning up twice changes nothing: a cleanup only has to look when a copy came in or a protection ended.
        self._changed = True
        self._inner_gap: int | None = None
        self._made = self._deleted = 0

    def _receive(self, end: int) -> None:
        """Take in what is created before `end`; the copies that come are listed newest first as well."""
        received = []
        while self._coming and self._coming[-1][1] < end:
            received.append(self._coming.pop())
        if not received:
            return
        received.reverse()
        self._copies[:0] = [copy for copy, _, _ in received]
        self._stamps[:0] = [stamp for _, stamp, _ in received]
        self._hours[:0] = [hour for _, _, hour in received]
        self._bytes += sum(copy.size for copy, _, _ in received)
        self._made += sum(1 for copy, _, _ in received if not copy.uid)
        self._arrivals += len(received)
        self._changed = True
        self._inner_gap = None

    def clean_up(self, moment: datetime) -> None:
        stamp = stamp_of(moment)
        self._receive(stamp + 1)
        while self._endings and self._endings[0] <= stamp:
            self._endings.popleft()
            self._changed = True
        if self._changed:
            self._delete(moment, stamp)
        self._changed = False
        self._arrivals = 0

    def _delete(self, moment: datetime, stamp: int) -> None:
        ledger = Ledger(self._copies, self._stamps, self._policy, self._guards.floor, self._hours)
        kept = ledger.kept
        if self._protected:
            kept = kept.copy()
            for rank in compress(count(), map(attrgetter("protections"), self._copies)):
                if self._copies[rank].protections_at(moment):
                    kept[rank] = 1
        ranks = list(_zeros(kept))
        if not ranks:
            return
        sizes = [self._copies[rank].size for rank in ranks]
        part = StoragePart(good=len(kept), deletions=sizes, arrivals=self._arrivals)
        if pair_stops(part, self._guards):
            self.approvals.append(moment)
        for rank in ranks:
            copy = self._copies[rank]
            self._gone.append((copy, self._stamps[rank], stamp))
            if copy.uid:
                self.fates[copy.uid] = _fate(ledger, rank, moment)
        for column in (self._copies, self._stamps, self._hours):
            for rank in reversed(ranks):
                del column[rank]
        self._bytes -= sum(sizes)
        self._trash.append((stamp + self._trash_time, sum(sizes)))
        self._trash_bytes += sum(sizes)
        self._deleted += len(ranks)
        self._inner_gap = None

    def close(self, day: date, end: int, measured: int) -> Day:
        """What is there when a day ends; the time since the newest copy is taken at `measured`."""
        self._receive(end)
        while self._trash and self._trash[0][0] < end:
            self._trash_bytes -= self._trash.popleft()[1]
        if self._inner_gap is None:
            self._inner_gap = max(map(sub, self._stamps, islice(self._stamps, 1, None)), default=0)
        gap = max(self._inner_gap, measured - self._stamps[0]) if self._stamps else None
        closed = Day(
            day=day,
            copies=len(self._copies),
            bytes=self._bytes,
            trash_bytes=self._trash_bytes,
            made=self._made,
            deleted=self._deleted,
            oldest=self._copies[-1].created if self._copies else None,
            worst_gap=None if gap is None else timedelta(microseconds=gap),
        )
        self._made = self._deleted = 0
        return closed

    def lives(self) -> tuple[tuple[Copy, int, int | None], ...]:
        """Every copy that was there at some time, newest first."""
        stayed = ((copy, made, None) for copy, made in zip(self._copies, self._stamps, strict=True))
        lives: list[tuple[Candidate, int, int | None]] = [*stayed, *self._gone]
        lives.sort(key=lambda life: life[0].uid)
        lives.sort(key=lambda life: life[1], reverse=True)
        return tuple(
            (Copy(created=copy.created, size=copy.size, uid=copy.uid, expected=not copy.uid), made, gone)
            for copy, made, gone in lives
        )


def _zeros(kept: bytearray) -> Iterator[int]:
    place = kept.find(0)
    while place >= 0:
        yield place
        place = kept.find(0, place + 1)


def _fate(ledger: Ledger, rank: int, moment: datetime) -> Fate:
    copy, replacement = ledger.good[rank], ledger.replacement(rank)
    return Fate(
        uid=copy.uid,
        created=copy.created,
        size=copy.size,
        deleted_at=moment,
        reasons=ledger.reasons(Verdict(copy, False, rank, ledger)),
        by=replacement.uid if replacement else "",
        by_at=replacement.created if replacement else None,
    )
