from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from backups.retention.guards import DEFAULT_GUARDS, Guards
from backups.retention.periods import period_name, stamp_of, wall_hours
from backups.retention.planner import plan
from backups.retention.plans import Plan
from backups.retention.policy import Policy
from backups.retention.simulation import Fate, Schedule, Timeline, expected_copies, simulate
from backups.retention.verdicts import Candidate, Verdict


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What one policy would do to a pair that another would not; only existing copies are listed, sizes in bytes.

    The plans are those of tonight: of the first cleanup, else of now. They hold the copies expected until then, whose
    uid is blank. `months_lost` are the months ("2025-11", in the new policy's zone) that hold a good copy now, and
    after tonight only under the old policy.
    """

    old: Timeline
    new: Timeline
    old_plan: Plan
    new_plan: Plan
    tonight_deletes: tuple[Verdict, ...]
    tonight_bytes: int
    by_until_deletes: tuple[Fate, ...]
    by_until_bytes: int
    months_lost: tuple[str, ...]


def compare(
    candidates: Iterable[Candidate],
    old_policy: Policy,
    new_policy: Policy,
    schedule: Schedule,
    now: datetime,
    until: datetime,
    guards: Guards = DEFAULT_GUARDS,
    *,
    size: int | None = None,
    trash_hours: int = 72,
) -> Comparison:
    """Play the same schedule under both policies. Arguments and errors are those of `simulate`."""
    copies = list(candidates)
    old, new = (
        simulate(copies, policy, schedule, now, until, guards, size=size, trash_hours=trash_hours)
        for policy in (old_policy, new_policy)
    )
    tonight = next(iter(schedule.between(now, until).cleanups), now)
    expected = expected_copies(copies, schedule.between(now, tonight).backups, now, size)
    good = [(stamp_of(copy.created), copy) for copy in copies if not copy.flaw]
    dated = sum(1 for stamp, _ in good if stamp_of(now) < stamp <= stamp_of(tonight))
    arrived = replace(guards, arrivals=guards.arrivals + len(expected) + dated)
    old_plan, new_plan = (plan([*copies, *expected], policy, tonight, arrived) for policy in (old_policy, new_policy))

    spared = {verdict.uid for verdict in old_plan.keep}
    tonight_deletes = tuple(verdict for verdict in new_plan.delete if verdict.uid and verdict.uid in spared)
    by_until = tuple(fate for fate in new.fates.values() if fate.deleted_at and old.fates[fate.uid].deleted_at is None)
    return Comparison(
        old=old,
        new=new,
        old_plan=old_plan,
        new_plan=new_plan,
        tonight_deletes=tonight_deletes,
        tonight_bytes=sum(verdict.candidate.size for verdict in tonight_deletes),
        by_until_deletes=by_until,
        by_until_bytes=sum(fate.size for fate in by_until),
        months_lost=months_lost(copies, old_plan, new_plan, new_policy, now),
    )


def months_lost(
    copies: Iterable[Candidate], old_plan: Plan, new_plan: Plan, new_policy: Policy, now: datetime
) -> tuple[str, ...]:
    """The months that hold a good copy now, under the old plan also afterwards, and under the new one none any more."""

    def months(found: Iterable[Candidate]) -> set[str]:
        hours = wall_hours([stamp_of(copy.created) for copy in found], new_policy.zone)
        return {period_name("monthly", hour) for hour in hours}

    hold_now = months(copy for copy in copies if not copy.flaw and stamp_of(copy.created) <= stamp_of(now))
    hold_old, hold_new = (
        months(verdict.candidate for verdict in made.keep if verdict.rank >= 0) for made in (old_plan, new_plan)
    )
    return tuple(sorted(hold_now & hold_old - hold_new))
