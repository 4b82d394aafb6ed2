"""What the design promises, said once more and in other words: a catalogue in memory, and which copies of it stay.

Nothing here knows how Keepwell does it. Slow and plain on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from zoneinfo import ZoneInfo

UNTRASH_PIN = timedelta(days=30)
COUNTS = {
    "keep_last": "",
    "keep_hourly": "%Y-%m-%d %H",
    "keep_daily": "%Y-%m-%d",
    "keep_weekly": "%G-%V",
    "keep_monthly": "%Y-%m",
    "keep_yearly": "%Y",
}
WINDOWS = {
    "keep_within": "",
    "keep_within_hourly": COUNTS["keep_hourly"],
    "keep_within_daily": COUNTS["keep_daily"],
    "keep_within_weekly": COUNTS["keep_weekly"],
    "keep_within_monthly": COUNTS["keep_monthly"],
    "keep_within_yearly": COUNTS["keep_yearly"],
}

type Policy = Mapping[str, int | str]


@dataclass(kw_only=True)
class Copy:
    """What the catalogue should say of one copy."""

    uid: str
    pair: str
    storage: str
    created: datetime
    size: int
    state: str = "available"
    suspect: bool = False
    verified: bool = False
    is_pinned: bool = False
    pin_until: datetime | None = None
    trashed_at: datetime | None = None

    @property
    def is_good(self) -> bool:
        return self.state == "available" and not self.suspect

    def is_pinned_at(self, now: datetime) -> bool:
        return self.is_pinned and (self.pin_until is None or now < self.pin_until)


@dataclass(frozen=True, kw_only=True)
class Held:
    """A hold on one pair, on one storage, or, with neither, on everything."""

    key: int
    pair: str = ""
    storage: str = ""
    until: datetime | None = None

    def covers(self, copy: Copy, now: datetime) -> bool:
        in_scope = self.pair in ("", copy.pair) and self.storage in ("", copy.storage)
        return in_scope and (self.until is None or now < self.until)


@dataclass(kw_only=True)
class Catalogue:
    """Everything that a copy of the database holds, as it should be."""

    copies: dict[str, Copy] = field(default_factory=dict)
    holds: list[Held] = field(default_factory=list)
    leases: dict[str, int] = field(default_factory=dict)
    policy: Policy = field(default_factory=dict)
    own_policies: dict[str, Policy] = field(default_factory=dict)
    minimum_keep: int = 1
    trash_hours: int = 72
    is_limited: bool = True
    clock_offset: timedelta = timedelta()
    cleaned: dict[str, datetime | None] = field(default_factory=dict)

    @property
    def floor(self) -> int:
        return max(1, self.minimum_keep)

    @property
    def has_jumped(self) -> bool:
        return abs(self.clock_offset) > timedelta(hours=36)

    def of_pair(self, pair: str) -> list[Copy]:
        return [copy for copy in self.copies.values() if copy.pair == pair]

    def good_of(self, pair: str) -> list[Copy]:
        return [copy for copy in self.of_pair(pair) if copy.is_good]

    def is_protected(self, copy: Copy, now: datetime) -> bool:
        """R8 and R19."""
        held = any(hold.covers(copy, now) for hold in self.holds)
        return held or bool(self.leases.get(copy.uid)) or copy.is_pinned_at(now)

    def doomed(self, pair: str, now: datetime) -> set[str]:
        """The copies that a cleanup of this pair deletes when no guard stops it."""
        copies = self.of_pair(pair)
        candidates = {copy.uid for copy in copies if copy.is_good and copy.created <= now}
        policy = self.own_policies.get(pair, self.policy)
        stay = survivors([self.copies[uid] for uid in candidates], policy, self.floor)
        return {uid for uid in candidates - stay if not self.is_protected(self.copies[uid], now)}

    def due(self, storage: str, now: datetime) -> set[str]:
        """R15: what has been in the trash of a storage for long enough, and may go."""
        return {
            copy.uid
            for copy in self.copies.values()
            if copy.storage == storage
            and copy.state == "trashed"
            and copy.trashed_at is not None
            and copy.trashed_at <= now - timedelta(hours=self.trash_hours)
            and not self.is_protected(copy, now)
        }

    def excess(self, pair: str, deletions: int, now: datetime) -> int:
        """R7: the deletions beyond the good copies that came in since the pair was last cleaned up."""
        since = self.cleaned.get(pair)
        arrived = 0 if since is None else sum(since < copy.created <= now for copy in self.good_of(pair))
        return max(0, deletions - arrived)

    def is_suspect(self, pair: str, created: datetime, size: int) -> bool:
        """R4: under half the median of the five good copies before it."""
        before = sorted((copy.created, copy.size) for copy in self.good_of(pair) if copy.created < created)
        sizes = [size for _, size in before[-5:]]
        return bool(sizes) and size < median(sizes) / 2


def is_over_limit(excess: int, good: int) -> bool:
    """R7: more than a quarter, and always more than two copies, or more than fifty."""
    return excess > max(2, good // 4) or excess > 50


def survivors(good: Iterable[Copy], policy: Policy, floor: int) -> set[str]:
    """The good copies of one pair, none of them from the future, that its policy keeps, restic's way."""
    newest_first = sorted(sorted(good, key=lambda copy: copy.uid), key=lambda copy: copy.created, reverse=True)
    rules = {name: value for name, value in policy.items() if name != "timezone" and value}
    stay = {copy.uid for copy in newest_first[:floor]}
    if not rules or not newest_first:
        return {copy.uid for copy in newest_first}
    zone = ZoneInfo(str(policy.get("timezone", "UTC")))
    for name, value in rules.items():
        if name in COUNTS:
            stay |= _counted(newest_first, COUNTS[name], int(value), zone)
        else:
            start = newest_first[0].created.astimezone(zone) - timedelta(days=_days(str(value)))
            stay |= _inside(newest_first, WINDOWS[name], start.astimezone(UTC), zone)
    verified = [copy.uid for copy in newest_first if copy.verified]
    return stay | set(verified[:1])


def _counted(newest_first: list[Copy], period: str, count: int, zone: ZoneInfo) -> set[str]:
    stay: set[str] = set()
    last = None
    for copy in newest_first:
        if count == len(stay):
            break
        name = f"{copy.created.astimezone(zone):{period}}" if period else copy.uid
        if name != last or copy is newest_first[-1]:
            stay.add(copy.uid)
            last = name
    return stay


def _inside(newest_first: list[Copy], period: str, start: datetime, zone: ZoneInfo) -> set[str]:
    stay: set[str] = set()
    last = None
    for copy in newest_first:
        if copy.created > start:
            name = f"{copy.created.astimezone(zone):{period}}" if period else copy.uid
            if name != last or copy is newest_first[-1]:
                stay.add(copy.uid)
                last = name
    return stay


def _days(duration: str) -> int:
    """Of the only durations that the proof uses, such as `3d`."""
    return int(duration.removesuffix("d"))
