from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import compress, count, islice, repeat
from operator import attrgetter, eq
from typing import Any

from backups.retention.guards import DEFAULT_GUARDS, Guards, StoragePart, pair_stops
from backups.retention.ledger import Ledger
from backups.retention.periods import moment_of, stamp_of
from backups.retention.plans import INPUTS_FORMAT, Explanation, Plan, columns
from backups.retention.policy import Policy
from backups.retention.verdicts import Candidate, Protection, Verdict


def plan(candidates: Iterable[Candidate], policy: Policy, now: datetime, guards: Guards | int = DEFAULT_GUARDS) -> Plan:
    """Decide for every backup of one pair whether it stays. The order of `candidates` does not matter.

    The rules are restic's: newest first, a rule keeps the newest backup of each period that has one until its count is
    used; one backup may satisfy several rules; the oldest also takes a slot left over. Beyond them the newest
    `max(1, minimum_keep)` good copies, the newest verified one and those protected at `now` stay. Flawed copies, and
    those created after `now`, stay without using a slot. The limits of `guards` change no verdict, they stop the whole
    plan; a number stands for guards with that `minimum_keep`. Raises ValueError for a naive `now`, or a uid that occurs
    twice.
    """
    if now.tzinfo is None:
        raise ValueError("now has no time zone; pass an aware time")
    if isinstance(guards, int):
        guards = Guards(minimum_keep=guards)
    copies, stamps = newest_first(list(candidates))
    ranks = _ranks(copies, stamps, stamp_of(now))
    good, good_stamps = copies, stamps
    if isinstance(ranks, list):
        good = [copy for copy, rank in zip(copies, ranks, strict=True) if rank >= 0]
        good_stamps = [stamp for stamp, rank in zip(stamps, ranks, strict=True) if rank >= 0]
    ledger = Ledger(good, good_stamps, policy, guards.floor)
    keeps = [rank < 0 or ledger.kept[rank] == 1 for rank in ranks]
    protected = [(place, copies[place]) for place in compress(count(), map(attrgetter("protections"), copies))]
    for place, copy in protected:
        keeps[place] = keeps[place] or bool(copy.protections_at(now))
    sizes = [copy.size for copy, keep in zip(copies, keeps, strict=True) if not keep]
    stops = pair_stops(StoragePart(good=len(good), deletions=sizes, arrivals=guards.arrivals), guards)
    stops = tuple(dict.fromkeys((*stops, *guards.stops))) if sizes else ()
    explanation = Explanation(ledger=ledger, now=now, stops=stops)
    return Plan(
        verdicts=tuple(map(Verdict, copies, keeps, ranks, repeat(explanation))),
        policy=policy,
        now=now,
        guards=guards,
        notes=_notes(copies, ranks, policy),
        digest=_digest(copies, stamps, keeps, ranks, policy, guards.floor, protected),
        stops=stops,
        ledger=ledger,
    )


def replay(inputs: Mapping[str, Any]) -> Plan:
    """Make the plan again that `Plan.inputs_mapping` was taken from: the same digest, verdicts, reasons and stops.

    Raises ValueError for another format, KeyError for a missing column, and what `plan` raises.
    """
    if inputs["format"] != INPUTS_FORMAT:
        raise ValueError(f"the inputs of this plan have format {inputs['format']}; this version reads {INPUTS_FORMAT}")
    verified = {place: moment_of(stamp) for place, stamp in inputs["verified"]}
    flaws = dict(inputs["flaw"])
    protections: dict[int, list[Protection]] = {}
    for place, kind, text, until in inputs["protections"]:
        ends = None if until is None else moment_of(until)
        protections.setdefault(place, []).append(Protection(kind=kind, text=text, until=ends))
    candidates = [
        Candidate(
            uid=uid,
            created=moment_of(stamp),
            size=size,
            verified_at=verified.get(place),
            flaw=flaws.get(place, ""),
            protections=tuple(protections.get(place, ())),
        )
        for place, (uid, stamp, size) in enumerate(zip(inputs["uid"], inputs["created"], inputs["size"], strict=True))
    ]
    policy, guards = Policy.from_mapping(inputs["policy"]), Guards.from_mapping(inputs["guards"])
    return plan(candidates, policy, moment_of(inputs["now"]), guards)


def newest_first(candidates: list[Candidate]) -> tuple[list[Candidate], list[int]]:
    """The candidates and their stamps, newest first; of the same moment in the order of their uids."""
    if len({copy.uid for copy in candidates}) != len(candidates):
        times = Counter(copy.uid for copy in candidates if copy.uid)
        if twice := [uid for uid, number in times.items() if number > 1]:
            raise ValueError(f"backup {twice[0]} occurs twice; a plan takes every backup once")
    stamps = [stamp_of(copy.created) for copy in candidates]
    order = sorted(range(len(stamps)), key=stamps.__getitem__, reverse=True)
    ordered = [stamps[index] for index in order]
    if any(map(eq, ordered, islice(ordered, 1, None))):
        order.sort(key=lambda index: candidates[index].uid)
        order.sort(key=stamps.__getitem__, reverse=True)
    return [candidates[index] for index in order], ordered


def _ranks(copies: Sequence[Candidate], stamps: Sequence[int], now: int) -> Sequence[int]:
    """The place of every copy among those that count; -1 for the flawed and the future ones. A range when all count."""
    if not any(map(attrgetter("flaw"), copies)) and (not stamps or stamps[0] <= now):
        return range(len(copies))
    ranks = []
    rank = 0
    for copy, stamp in zip(copies, stamps, strict=True):
        counts = not copy.flaw and stamp <= now
        ranks.append(rank if counts else -1)
        rank += counts
    return ranks


def _notes(copies: Sequence[Candidate], ranks: Sequence[int], policy: Policy) -> tuple[str, ...]:
    notes = []
    if policy.is_empty:
        notes.append("No rule is set: everything is kept.")
    if isinstance(ranks, range):
        return tuple(notes)
    flaws = Counter(copy.flaw for copy in copies if copy.flaw)
    if flaws:
        listed = ", ".join(f"{number} {flaw}" for flaw, number in sorted(flaws.items()))
        notes.append(f"Not counted and not deleted: {listed}.")
    future = sum(1 for copy, rank in zip(copies, ranks, strict=True) if rank < 0 and not copy.flaw)
    if future:
        notes.append(f"Dated in the future, so not counted and not deleted: {future}. Check the clock.")
    if max(ranks) < 0:
        notes.append("There is no good copy: nothing is deleted.")
    return tuple(notes)


def _digest(
    copies: Sequence[Candidate],
    stamps: Sequence[int],
    keeps: Sequence[bool],
    ranks: Sequence[int],
    policy: Policy,
    floor: int,
    protected: Sequence[tuple[int, Candidate]],
) -> str:
    """SHA-256 of what was decided on and what was decided; `now` counts only through the copies dated after it."""
    document = {
        **columns(copies, stamps),
        "policy": policy.to_mapping(),
        "minimum_keep": floor,
        # Without their texts: who corrects a note does not make another plan.
        "protections": [
            [place, sorted((protection.kind, _until(protection)) for protection in copy.protections)]
            for place, copy in protected
        ],
        "delete": [place for place, keep in enumerate(keeps) if not keep],
        "uncounted": [] if isinstance(ranks, range) else [place for place, rank in enumerate(ranks) if rank < 0],
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _until(protection: Protection) -> str:
    return str(stamp_of(protection.until)) if protection.until else ""
