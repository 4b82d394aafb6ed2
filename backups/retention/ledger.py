from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo
from itertools import compress, count
from operator import attrgetter, neg

from backups.retention.durations import MAXIMUM
from backups.retention.periods import PeriodHeads, moment_of, period_name, stamp_of, wall_hours
from backups.retention.policy import COUNT_RULES, PERIODS, UNLIMITED, Policy
from backups.retention.verdicts import Candidate, Reason, Verdict

_UNIT = {"hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month", "yearly": "year"}


class Ledger:
    """The good copies of one pair, newest first, and which slot of which rule each of them took.

    `stamps` are their moments, in the same order, and `hours` those on the wall clock (worked out unless given). A
    rule's heads are the ranks (places in that order) of the newest backup of each period; everything else, reasons
    included, follows from them.
    """

    def __init__(
        self,
        good: Sequence[Candidate],
        stamps: Sequence[int],
        policy: Policy,
        floor: int,
        hours: Sequence[int] | None = None,
    ) -> None:
        self.good = good
        self.stamps = stamps
        self.policy = policy
        self.floor = min(floor, len(good))
        self.zone: tzinfo = policy.zone
        self.hours = wall_hours(stamps, self.zone) if hours is None else hours
        self.heads = PeriodHeads(self.hours)
        self.windows = self._windows()
        self.verified = next(compress(count(), map(attrgetter("verified_at"), good)), None)
        self.kept = self._kept()

    def _windows(self) -> dict[str, tuple[int, datetime]]:
        """For each within rule that is on: how many of the newest are inside, and when it begins (itself outside)."""
        windows: dict[str, tuple[int, datetime]] = {}
        if not self.stamps:
            return windows
        newest = moment_of(self.stamps[0])
        for rule in ("within", *PERIODS):
            length = self.policy.duration(rule if rule == "within" else f"within_{rule}")
            if length:
                start = length.before(newest, self.zone)
                # Negated, because bisect wants them to rise.
                inside = bisect_left(self.stamps, -stamp_of(start), key=neg)
                windows[rule] = (inside, start)
        return windows

    def _kept(self) -> bytearray:
        """One byte for each good copy: 1 when something keeps it."""
        size = len(self.good)
        if self.policy.is_empty:
            return bytearray(b"\1" * size)
        kept = bytearray(size)
        for rule in COUNT_RULES:
            if not self.policy.count(rule):
                continue
            slots = self._slots(rule)
            if rule == "last":
                kept[:slots] = b"\1" * slots
            else:
                for rank in self.heads[rule][:slots]:
                    kept[rank] = 1
            if self._oldest_takes_slot(rule):
                kept[-1] = 1
        self._keep_windows(kept)
        kept[: self.floor] = b"\1" * self.floor
        if self.verified is not None:
            kept[self.verified] = 1
        return kept

    def _keep_windows(self, kept: bytearray) -> None:
        for rule, (inside, _) in self.windows.items():
            if rule == "within":
                kept[:inside] = b"\1" * inside
                continue
            heads = self.heads[rule]
            for rank in heads[: bisect_left(heads, inside)]:
                kept[rank] = 1
            if self._oldest_in_window(rule):
                kept[-1] = 1

    def _slots(self, rule: str) -> int:
        """How many periods the rule keeps: all when it has no limit."""
        count = self.policy.count(rule)
        return len(self.heads[rule]) if count == UNLIMITED else min(count, len(self.heads[rule]))

    def _oldest_takes_slot(self, rule: str) -> bool:
        """The oldest copy is not the newest of its period, and the rule has a slot left for it."""
        heads, count = self.heads[rule], self.policy.count(rule)
        return bool(heads) and heads[-1] != len(self.good) - 1 and (count == UNLIMITED or count > len(heads))

    def _oldest_in_window(self, rule: str) -> bool:
        oldest = len(self.good) - 1
        return self.windows[rule][0] > oldest and self.heads[rule][-1] != oldest

    def reasons(self, verdict: Verdict) -> tuple[Reason, ...]:
        """Every reason for a verdict of this pair, in the order of the rules."""
        copy = verdict.candidate
        if verdict.rank < 0:
            if copy.flaw:
                return (Reason(kind="flaw", text=f"not counted: {copy.flaw}"),)
            return (Reason(kind="future", text=f"dated in the future ({self._shown(copy.created)}): not counted"),)
        if self.policy.is_empty:
            return (Reason(kind="no_rule", text="no rule: everything is kept"),)
        return tuple(self._keeps(verdict.rank) if verdict.keep else self._deletes(verdict.rank))

    def replacement(self, rank: int) -> Candidate | None:
        """What took the place of a copy that is deleted: the newer one of its period, or else the last of a full rule.

        None when only windows are on, and it is older than all of them.
        """
        rules = [
            rule for rule in COUNT_RULES if self.policy.count(rule) and self._place(rule, rank) < self._slots(rule)
        ]
        rules += [rule for rule in PERIODS if rule in self.windows and rank < self.windows[rule][0]]
        if rules:
            return self.good[self.heads[rules[0]][self._place(rules[0], rank)]]
        full = next((rule for rule in COUNT_RULES if self.policy.count(rule)), None)
        return self.good[self.heads[full][self.policy.count(full) - 1]] if full else None

    def _keeps(self, rank: int) -> Iterator[Reason]:
        if "within" in self.windows and rank < self.windows["within"][0]:
            yield self._within("within", "within")
        for rule in COUNT_RULES:
            yield from self._count_keeps(rule, rank)
        for rule in PERIODS:
            if rule not in self.windows or rank >= self.windows[rule][0]:
                continue
            if self._is_head(rule, rank):
                yield self._within(f"within_{rule}", "within", period=period_name(rule, self.hours[rank]))
            elif rank == len(self.good) - 1:
                yield self._within(f"within_{rule}", "oldest")
        if rank == self.verified:
            yield Reason(kind="verified", text="the newest verified copy always stays")
        if rank < self.floor:
            text = "the newest good copy always stays"
            if self.floor > 1:
                text = f"one of the newest {self.floor} good copies, which always stay"
            yield Reason(kind="minimum", text=text, count=self.floor, used=rank + 1)

    def _count_keeps(self, rule: str, rank: int) -> Iterator[Reason]:
        count, heads = self.policy.count(rule), self.heads[rule]
        place = bisect_left(heads, rank)
        if self._is_head(rule, rank):
            if place < self._slots(rule):
                text = f"{rule} {place + 1}, no limit" if count == UNLIMITED else f"{rule} {place + 1} of {count}"
                period = period_name(rule, self.hours[rank])
                yield Reason(kind="rule", rule=rule, text=text, count=count, used=place + 1, period=period)
        elif rank == len(self.good) - 1 and self._oldest_takes_slot(rule):
            yield Reason(kind="oldest", rule=rule, text=f"oldest {rule}", count=count, used=place + 1)

    def _within(self, rule: str, kind: str, period: str = "") -> Reason:
        text = f"{self._window_name(rule)} of the newest"
        return Reason(kind=kind, rule=rule, text=f"oldest {text}" if kind == "oldest" else text, period=period)

    def _window_name(self, rule: str) -> str:
        period = rule.removeprefix("within").removeprefix("_")
        return f"{period} within {self.policy.duration(rule)}".lstrip()

    def _deletes(self, rank: int) -> Iterator[Reason]:
        if "within" in self.windows:
            yield self._outside("within", self.windows["within"][1])
        for rule in COUNT_RULES:
            if not self.policy.count(rule):
                continue
            if self._place(rule, rank) < self._slots(rule):
                yield self._replaced(rule, rule, rule, rank)
            else:
                yield self._exhausted(rule)
        for rule in PERIODS:
            if rule not in self.windows:
                continue
            inside, start = self.windows[rule]
            if rank < inside:
                yield self._replaced(rule, f"within_{rule}", self._window_name(f"within_{rule}"), rank)
            else:
                yield self._outside(f"within_{rule}", start)
        if hint := self._hint(rank):
            yield hint

    def _replaced(self, period_rule: str, rule: str, name: str, rank: int) -> Reason:
        head = self.heads[period_rule][self._place(period_rule, rank)]
        return Reason(
            kind="replaced",
            rule=rule,
            text=f"{name}: {self._shown(moment_of(self.stamps[head]))} is newer in the same {_UNIT[period_rule]}",
            by=self.good[head].uid,
            period=period_name(period_rule, self.hours[head]),
        )

    def _exhausted(self, rule: str) -> Reason:
        count = self.policy.count(rule)
        head = self.heads[rule][count - 1]
        period = period_name(rule, self.hours[head])
        oldest = f"{_UNIT[rule]} {period}" if period else self._shown(moment_of(self.stamps[head]))
        text = f"{rule}: {'the one' if count == 1 else f'all {count}'} used, the oldest is {oldest}"
        by = self.good[head].uid
        return Reason(kind="exhausted", rule=rule, text=text, count=count, used=count, by=by, period=period)

    def _outside(self, rule: str, start: datetime) -> Reason:
        text = f"{self._window_name(rule)}: it begins after {self._shown(start)}"
        return Reason(kind="outside", rule=rule, text=text)

    def _hint(self, rank: int) -> Reason | None:
        """The smallest raise of one count, that of a rule that is off included, that keeps the copy."""
        raises = []
        for order, rule in enumerate(COUNT_RULES):
            count, heads = self.policy.count(rule), self.heads[rule]
            if self._is_head(rule, rank):
                needed = self._place(rule, rank) + 1
            elif rank == len(self.good) - 1:
                needed = len(heads) + 1
            else:
                continue
            if count != UNLIMITED and needed <= MAXIMUM:
                raises.append((needed - count, order, needed))
        if not raises:
            return None
        _, order, needed = min(raises)
        rule = COUNT_RULES[order]
        return Reason(kind="hint", rule=rule, text=f"would stay with keep_{rule} {needed}", count=needed)

    def _place(self, rule: str, rank: int) -> int:
        """The place, newest first, of the period that holds the copy."""
        return bisect_right(self.heads[rule], rank) - 1

    def _is_head(self, rule: str, rank: int) -> bool:
        return self.heads[rule][self._place(rule, rank)] == rank

    def _shown(self, moment: datetime) -> str:
        return f"{moment.astimezone(self.zone):%Y-%m-%d %H:%M}"
