from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from backups.retention.guards import Guards, Stop, StoragePart
from backups.retention.ledger import Ledger
from backups.retention.periods import stamp_of
from backups.retention.policy import Policy
from backups.retention.verdicts import Candidate, Reason, Verdict

INPUTS_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Where the verdicts of one plan get their reasons: the rules, then what protects a copy or stops the plan."""

    ledger: Ledger
    now: datetime
    stops: tuple[Stop, ...]

    def reasons(self, verdict: Verdict) -> tuple[Reason, ...]:
        """Every reason for a verdict of this plan."""
        reasons = self.ledger.reasons(verdict)
        if not verdict.keep:
            return (*reasons, *map(_guard_reason, self.stops))
        protections = verdict.candidate.protections_at(self.now)
        if not protections:
            return reasons
        held = tuple(Reason(kind=protection.kind, text=protection.text) for protection in protections)
        if verdict.rank >= 0 and not self.ledger.kept[verdict.rank]:
            return (*held, Reason(kind="would_delete", text="no rule holds it"))
        return (*reasons, *held)


def _guard_reason(stop: Stop) -> Reason:
    state = "waits for approval" if stop.approvable else "not deleted now"
    return Reason(kind="guard", text=f"{state}: {stop.text.removesuffix('.')}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The verdicts on all backups of one pair, newest first, and the digest under which they may be executed.

    `stops` says which guards are in the way; it is empty when nothing is to be deleted. The digest covers the policy,
    `minimum_keep`, the candidates and the verdicts: not the limits, the arrivals, the stops or `now`.
    """

    verdicts: Sequence[Verdict]
    policy: Policy
    now: datetime
    guards: Guards
    notes: tuple[str, ...]
    digest: str
    stops: tuple[Stop, ...]
    ledger: Ledger = field(compare=False, repr=False)

    @property
    def minimum_keep(self) -> int:
        """The newest good copies that always stay, at least one."""
        return self.guards.floor

    @cached_property
    def keep(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.keep)

    @cached_property
    def delete(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if not verdict.keep)

    @property
    def part(self) -> StoragePart:
        """What this plan adds to the blast radius of its storage, for `storage_stops`."""
        sizes = [verdict.candidate.size for verdict in self.delete]
        return StoragePart(good=len(self.ledger.good), deletions=sizes, arrivals=self.guards.arrivals)

    def with_stops(self, *more: Stop) -> Plan:
        """The same verdicts under the same digest, with stops that the outside found after the pair was planned."""
        new = tuple(dict.fromkeys(stop for stop in more if stop not in self.stops))
        if not new or not self.delete:
            return self
        stops = (*self.stops, *new)
        explanation = Explanation(ledger=self.ledger, now=self.now, stops=stops)
        verdicts = tuple(verdict.explained_by(explanation) for verdict in self.verdicts)
        return replace(self, guards=self.guards.with_stops(*new), stops=stops, verdicts=verdicts)

    def to_mapping(self) -> dict[str, Any]:
        """Everything in plain JSON values, reasons included: what a cleanup's record stores."""
        return {
            "digest": self.digest,
            "now": self.now.astimezone(UTC).isoformat(),
            "policy": self.policy.to_mapping(),
            "minimum_keep": self.minimum_keep,
            "guards": self.guards.to_mapping(),
            "stops": [stop.to_mapping() for stop in self.stops],
            "notes": list(self.notes),
            "keep": len(self.keep),
            "delete": len(self.delete),
            "verdicts": [verdict.to_mapping() for verdict in self.verdicts],
        }

    def inputs_mapping(self) -> dict[str, Any]:
        """All that the plan was made from in plain JSON values, for `replay`; times in microseconds since 1970 in UTC.

        By columns, newest first; what few copies have is listed as `[place, ...]`.
        """
        copies = [verdict.candidate for verdict in self.verdicts]
        return {
            "format": INPUTS_FORMAT,
            "policy": self.policy.to_mapping(),
            "now": stamp_of(self.now),
            "guards": self.guards.to_mapping(),
            **columns(copies, [stamp_of(copy.created) for copy in copies]),
            "protections": [
                [
                    place,
                    protection.kind,
                    protection.text,
                    None if protection.until is None else stamp_of(protection.until),
                ]
                for place, copy in enumerate(copies)
                for protection in copy.protections
            ],
        }


def columns(copies: Sequence[Candidate], stamps: Sequence[int]) -> dict[str, list[Any]]:
    """The copies in plain JSON values, without their protections."""
    # By columns, and without the many blanks: ten times faster than an object for each copy.
    return {
        "uid": [copy.uid for copy in copies],
        "created": list(stamps),
        "size": [copy.size for copy in copies],
        "verified": [[place, stamp_of(at)] for place, copy in enumerate(copies) if (at := copy.verified_at)],
        "flaw": [[place, copy.flaw] for place, copy in enumerate(copies) if copy.flaw],
    }
