"""What another retention policy would cost: tonight's plans under the saved policy beside those under one to try."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from backups.listing_words import MAX_NAMED, SPACE, month_words
from backups.models import Backup, BackupJob, Options, Storage
from backups.retention import (
    Candidate,
    Guards,
    Plan,
    Policy,
    PolicyError,
    Stop,
    StoragePart,
    Verdict,
    plan,
    storage_stops,
)
from backups.retention.comparison import months_lost
from backups.retention.guards import pair_stops
from backups.retention.simulation import expected_copies
from backups.services.forecast import cleanup_times, pair_schedule
from backups.services.options import effective_policy
from backups.services.pair_rows import PairKey, candidates_by_pair, rows_by_pair
from backups.services.retention import Pair, pair_guards, retention_pairs
from scheduling.units import binary_size, counted

# How far ahead the next cleanup is looked for; without one by then, "tonight" is now.
LOOK_AHEAD = timedelta(days=32)


@dataclass(frozen=True, kw_only=True)
class PairChange:
    """One pair whose policy or minimum would be another: what tonight's cleanup would delete before and after.

    The plans hold the copies expected until then, whose uid is blank. `lost` are the existing copies that only the new
    policy deletes, `spared` those that only the saved one does; `months_lost` ("2025-11") hold a good copy now, and
    after tonight only under the saved policy. `stops` are the guards, at their new limits, that would stop the new
    plan; `more_stops` those that would at the saved limits and do not stop the saved policy.
    """

    pair: Pair
    rows: Mapping[str, Backup]
    candidates: Sequence[Candidate]
    old: Plan
    new: Plan
    lost: tuple[Verdict, ...]
    spared: tuple[Verdict, ...]
    months_lost: tuple[str, ...]
    stops: tuple[Stop, ...]
    more_stops: tuple[Stop, ...]

    @property
    def copies(self) -> int:
        """How many there are now."""
        return len(self.rows)

    @cached_property
    def old_count(self) -> int:
        return len(_existing(self.old))

    @cached_property
    def new_count(self) -> int:
        return len(_existing(self.new))

    @cached_property
    def old_bytes(self) -> int:
        return sum(verdict.candidate.size for verdict in _existing(self.old))

    @cached_property
    def new_bytes(self) -> int:
        return sum(verdict.candidate.size for verdict in _existing(self.new))

    @property
    def lost_bytes(self) -> int:
        return sum(verdict.candidate.size for verdict in self.lost)

    @property
    def month_words(self) -> str:
        return month_words(self.months_lost)

    @property
    def weight(self) -> tuple[int, int, int]:
        """Sorts pairs by what they lose."""
        return (len(self.months_lost), len(self.lost), self.lost_bytes)

    @property
    def size(self) -> int:
        """Bytes of its copies."""
        return sum(row.size for row in self.rows.values())

    @property
    def share_deleted(self) -> int:
        """What the new plan deletes, in whole percent of the good copies."""
        good = len(self.new.ledger.good)
        return round(100 * len(self.new.delete) / good) if good else 0

    @property
    def storages(self) -> dict[int, Storage]:
        return {row.storage_id: row.storage for row in self.rows.values()}


@dataclass(frozen=True, kw_only=True)
class PolicyChange:
    """What a policy to try would do tonight that the saved one would not.

    `at` is the next cleanup, None when none is scheduled: tonight is then now. `failed` are pairs that cannot be
    planned, and why. `storage_stops` would stop the new plans at their new limits, `more_storage_stops` are those that
    at the saved limits would not stop the saved plans.
    """

    now: datetime
    at: datetime | None
    pairs: tuple[PairChange, ...]
    unaffected: tuple[Pair, ...]
    failed: tuple[tuple[Pair, str], ...]
    storage_stops: tuple[Stop, ...]
    more_storage_stops: tuple[Stop, ...]

    @property
    def lost(self) -> int:
        return sum(len(changed.lost) for changed in self.pairs)

    @property
    def lost_bytes(self) -> int:
        return sum(changed.lost_bytes for changed in self.pairs)

    @property
    def spared(self) -> int:
        return sum(len(changed.spared) for changed in self.pairs)

    @property
    def asks(self) -> bool:
        """Whether saving needs a second thought: the last copy of a month goes, or more than the blast radius."""
        return bool(self.losing) or bool(self.more_storage_stops)

    @cached_property
    def losing(self) -> list[PairChange]:
        """The pairs that make it ask, the one that loses most first."""
        asking = [changed for changed in self.pairs if changed.months_lost or changed.more_stops]
        return sorted(asking, key=lambda changed: changed.weight, reverse=True)

    @property
    def name_to_type(self) -> str:
        """The name of the job that loses most; blank when nothing is asked."""
        losing = self.losing or sorted(self.pairs, key=lambda changed: changed.weight, reverse=True)
        return losing[0].pair.job.name if self.asks and losing else ""

    @property
    def losing_jobs(self) -> list[str]:
        """The names of all jobs that lose copies, each once."""
        return sorted({changed.pair.job.name for changed in self.pairs if changed.lost})

    @property
    def loss_words(self) -> list[str]:
        return loss_words(self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what would be lost: another as soon as it is another copy, month or limit."""
        digest = hashlib.sha256()
        for changed in sorted(self.pairs, key=lambda changed: changed.pair.key):
            uids = sorted(verdict.uid for verdict in changed.lost)
            stops = sorted(stop.kind for stop in changed.more_stops)
            digest.update(f"{changed.pair.key} {uids} {changed.months_lost} {stops}\n".encode())
        digest.update(repr(sorted(stop.kind for stop in self.more_storage_stops)).encode())
        return digest.hexdigest()


def policy_change(
    *,
    saved: Options,
    tried: Options,
    now: datetime,
    job: BackupJob | None = None,
    retention: Mapping[str, Any] | None = None,
    last_cleaned: Mapping[PairKey, datetime] | None = None,
    only: PairKey | None = None,
) -> PolicyChange:
    """Plan tonight's cleanup under the saved options and under those to try; nothing is changed.

    With a `job`, only its pairs are affected: `retention` is the policy of its own to try, None for that in Options.
    Copies that came in since `last_cleaned` may each replace one without counting towards the blast radius. With
    `only`, no other pair is looked at, so that nothing can be said about storages.
    """
    at = next(iter(cleanup_times(now, now + LOOK_AHEAD)), None)
    attempts: list[_Attempt] = []
    failed: list[tuple[Pair, str]] = []
    pairs = retention_pairs()
    rows = rows_by_pair(pairs, job, only)
    candidates = candidates_by_pair(rows, now)
    for pair in pairs:
        if pair.key not in rows:
            continue
        of_job = job is not None and pair.job.pk == job.pk
        tonight = _Tonight(pair, rows[pair.key], candidates[pair.key], now, at, (last_cleaned or {}).get(pair.key))
        try:
            new = effective_policy(override=retention if of_job else pair.job.retention, options=tried)
        except PolicyError as error:
            if job is None or of_job:
                failed.append((pair, f"Its retention policy cannot be used: {error}."))
            continue
        old = _saved_policy(pair, saved, fallback=new)
        attempts.append(_Attempt(tonight, old, new, saved, tried, shown=job is None or of_job))
    changes = tuple(attempt.change() for attempt in attempts if attempt.shown and attempt.is_affected)
    lost, spared = (sum(len(getattr(changed, name)) for changed in changes) for name in ("lost", "spared"))
    return PolicyChange(
        now=now,
        at=at,
        pairs=changes,
        unaffected=tuple(attempt.tonight.pair for attempt in attempts if attempt.shown and not attempt.is_affected),
        failed=tuple(failed),
        storage_stops=_storage_stops(attempts, tried, new=True),
        more_storage_stops=_more(
            _storage_stops(attempts, saved, new=False), _storage_stops(attempts, saved, new=True), grew=lost > spared
        )
        if lost
        else (),
    )


def loss_words(change: PolicyChange) -> list[str]:
    """What exactly would be lost: a sentence for each pair that makes saving ask, and for each storage."""
    sentences = []
    for changed in change.losing[:MAX_NAMED]:
        amount = f"{counted(len(changed.lost), 'backup')} ({binary_size(changed.lost_bytes, space=SPACE)})"
        text = f"{changed.pair.label}: {amount} would go that the saved policy keeps"
        if changed.months_lost:
            text += f", the last of {month_words(changed.months_lost)} among them"
        sentences.append(" ".join([f"{text}.", *(stop.text for stop in changed.more_stops[:1])]))
    if len(change.losing) > MAX_NAMED:
        sentences.append(f"And copies of {len(change.losing) - MAX_NAMED} more targets.")
    return sentences + [stop.text for stop in change.more_storage_stops]


class _Tonight:
    """One pair as it will be when the next cleanup runs."""

    def __init__(
        self,
        pair: Pair,
        rows: Mapping[str, Backup],
        candidates: Sequence[Candidate],
        now: datetime,
        at: datetime | None,
        last_cleaned: datetime | None,
    ) -> None:
        self.pair, self.rows, self.candidates, self.now = pair, rows, candidates, now
        self.at = at or now
        ahead = pair_schedule(pair=pair, now=now, until=at).backups if at else ()
        self.expected = expected_copies(candidates, ahead, now, None)
        self._last_cleaned = last_cleaned

    def guards(self, minimum: Options, limits: Options) -> Guards:
        """The minimum of one set of options with the limits of another."""
        guards = pair_guards(
            options=limits,
            rows=self.rows.values(),
            now=self.at,
            minimum_keep=minimum.minimum_keep,
            last_cleaned=self._last_cleaned,
        )
        return replace(guards, arrivals=guards.arrivals + len(self.expected))

    def plan(self, policy: Policy, options: Options) -> Plan:
        """Tonight's plan under a policy, with the minimum and the limits of the options."""
        return plan([*self.candidates, *self.expected], policy, self.at, self.guards(options, options))


@dataclass(frozen=True)
class _Attempt:
    """A pair with the policy that is saved and the one to try."""

    tonight: _Tonight
    old_policy: Policy
    new_policy: Policy
    saved: Options
    tried: Options
    shown: bool

    @property
    def is_affected(self) -> bool:
        return self.old_policy != self.new_policy or self.saved.minimum_keep != self.tried.minimum_keep

    @cached_property
    def old(self) -> Plan:
        return self.tonight.plan(self.old_policy, self.saved)

    @cached_property
    def new(self) -> Plan:
        return self.tonight.plan(self.new_policy, self.tried) if self.is_affected else self.old

    def change(self) -> PairChange:
        tonight = self.tonight
        kept, deleted = ({verdict.uid for verdict in verdicts} for verdicts in (self.old.keep, _existing(self.new)))
        lost = tuple(verdict for verdict in _existing(self.new) if verdict.uid in kept)
        spared = tuple(verdict for verdict in _existing(self.old) if verdict.uid not in deleted)
        at_saved_limits = pair_stops(self.new.part, tonight.guards(self.tried, self.saved))
        return PairChange(
            pair=tonight.pair,
            rows=tonight.rows,
            candidates=tonight.candidates,
            old=self.old,
            new=self.new,
            lost=lost,
            spared=spared,
            months_lost=months_lost(tonight.candidates, self.old, self.new, self.new_policy, tonight.now),
            stops=self.new.stops,
            more_stops=_more(self.old.stops, at_saved_limits, grew=len(lost) > len(spared)) if lost else (),
        )


def _more(before: Sequence[Stop], after: Sequence[Stop], *, grew: bool) -> tuple[Stop, ...]:
    """Stops that were not there before; where the deletions grew, also those that are about more than before."""
    kinds = {stop.kind for stop in before}
    return tuple(stop for stop in after if stop not in before and (grew or stop.kind not in kinds))


def _saved_policy(pair: Pair, saved: Options, *, fallback: Policy) -> Policy:
    """The policy in force. One that cannot be used makes every cleanup fail, so it keeps everything."""
    try:
        return effective_policy(override=pair.job.retention, options=saved)
    except PolicyError:
        return Policy(timezone=fallback.timezone)


def _storage_stops(attempts: Sequence[_Attempt], limits: Options, *, new: bool) -> tuple[Stop, ...]:
    """The limits of each storage that the plans of all its pairs are over together."""
    parts: dict[int, tuple[Storage, list[StoragePart]]] = {}
    for attempt in attempts:
        rows, made = attempt.tonight.rows, attempt.new if new else attempt.old
        for storage in {row.storage_id: row.storage for row in rows.values()}.values():
            here = [row for row in rows.values() if row.storage_id == storage.pk]
            doomed = {verdict.uid for verdict in _existing(made)}
            # As in the pair's own stop: the copies expected until then are among the good ones, and among the arrivals.
            expected = len(attempt.tonight.expected) if storage.pk == attempt.tonight.pair.job.storage_id else 0
            part = StoragePart(
                good=sum(1 for row in here if not row.flaw) + expected,
                deletions=[row.size for row in here if row.uid in doomed],
                arrivals=made.guards.arrivals,
            )
            parts.setdefault(storage.pk, (storage, []))[1].append(part)
    return tuple(
        stop
        for storage, of_storage in parts.values()
        for stop in storage_stops(
            of_storage,
            max_share=limits.guard_storage_share,
            max_count=limits.guard_storage_count,
            max_bytes=limits.guard_storage_bytes,
            storage_name=storage.name,
        )
    )


def _existing(made: Plan) -> list[Verdict]:
    """What a plan deletes of the copies there are now."""
    return [verdict for verdict in made.delete if verdict.uid]
