from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from backups.retention.periods import stamp_of

PROTECTIONS = ("pinned", "held", "in_use")


@dataclass(frozen=True, kw_only=True, slots=True)
class Protection:
    """Why a copy may not be deleted whatever the policy says: its `kind` is one of `PROTECTIONS`.

    It holds while the time is before `until`; None: until it is released. Raises ValueError for another kind or a time
    without a zone.
    """

    kind: str
    text: str
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.kind not in PROTECTIONS:
            raise ValueError(f"{self.kind!r} is not a protection; the kinds are {', '.join(PROTECTIONS)}")
        if self.until is not None and self.until.tzinfo is None:
            raise ValueError(f"the protection {self.text!r} ends at a time without a zone; pass an aware time")

    def holds_at(self, moment: datetime) -> bool:
        """Whether it still protects at this moment."""
        return self.until is None or stamp_of(moment) < stamp_of(self.until)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One backup of a pair as retention sees it; `size` in bytes, times aware.

    A `flaw` ("suspect", "missing", "quarantined", "failed") says why it is not a good copy. A copy with `protections`
    takes part in the rules like any other and is never deleted while one of them holds. The `uid` is blank for a copy
    that is expected and not made yet. Raises ValueError for a time without a zone.
    """

    uid: str
    created: datetime
    size: int
    verified_at: datetime | None = None
    flaw: str = ""
    protections: tuple[Protection, ...] = ()

    def __post_init__(self) -> None:
        if self.created.tzinfo is None or (self.verified_at is not None and self.verified_at.tzinfo is None):
            raise ValueError(f"backup {self.uid} has a time without a zone; pass aware times")
        # The two years at the ends have no neighbours in every zone.
        if not 2 <= self.created.year <= 9998:
            raise ValueError(f"backup {self.uid} was created in year {self.created.year}; correct its date")

    def protections_at(self, moment: datetime) -> tuple[Protection, ...]:
        """Those that hold at this moment."""
        return tuple(protection for protection in self.protections if protection.holds_at(moment))


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """One reason for a verdict: codes for programs, `text` for people.

    Reasons to keep have the kinds `rule` (newest of its `period`; slot `used` of `count`, -1 = no limit), `oldest` (the
    oldest takes a slot left over), `within`, `verified`, `minimum`, `no_rule`, `future`, `flaw`, and those of
    `PROTECTIONS`, followed by `would_delete` when nothing else keeps the copy. Reasons to delete: `replaced` (`by` is
    the uid of the newer copy of the same `period`), `exhausted` (all of `count` used, the last by copy `by` of
    `period`), `outside` (older than the rule's window), `hint` (the smallest raise, of `rule` to `count`, that would
    keep it), and `guard` for each guard that stops the plan. `rule` is a policy field without its `keep_`.
    """

    kind: str
    text: str
    rule: str = ""
    count: int | None = None
    used: int | None = None
    by: str = ""
    period: str = ""

    def to_mapping(self) -> dict[str, Any]:
        """Plain JSON values, without the fields that say nothing."""
        values = {name: getattr(self, name) for name in ("kind", "rule", "text", "count", "used", "by", "period")}
        return {name: value for name, value in values.items() if value not in (None, "")}


class Explainer(Protocol):
    """What a verdict asks for its reasons."""

    def reasons(self, verdict: Verdict) -> tuple[Reason, ...]: ...


class Verdict:
    """Keep or delete, for one backup. Its reasons are worked out when they are read: most of a large plan never are."""

    __slots__ = ("_explainer", "candidate", "keep", "rank")

    def __init__(self, candidate: Candidate, keep: bool, rank: int, explainer: Explainer) -> None:
        self.candidate = candidate
        self.keep = keep
        # Place among the good copies, newest first; -1 for a copy that is not counted.
        self.rank = rank
        self._explainer = explainer

    @property
    def uid(self) -> str:
        return self.candidate.uid

    @property
    def reasons(self) -> tuple[Reason, ...]:
        return self._explainer.reasons(self)

    def explained_by(self, explainer: Explainer) -> Verdict:
        """The same decision with its reasons from elsewhere."""
        return Verdict(self.candidate, self.keep, self.rank, explainer)

    @property
    def text(self) -> str:
        """All reasons in one line."""
        return "; ".join(reason.text for reason in self.reasons)

    def to_mapping(self) -> dict[str, Any]:
        """`{"uid", "keep", "reasons": [...]}` in plain JSON values."""
        return {"uid": self.uid, "keep": self.keep, "reasons": [reason.to_mapping() for reason in self.reasons]}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Verdict):
            return NotImplemented
        return (self.candidate, self.keep, self.reasons) == (other.candidate, other.keep, other.reasons)

    def __hash__(self) -> int:
        return hash((self.candidate, self.keep))

    def __repr__(self) -> str:
        return f"Verdict({self.uid!r}, {'keep' if self.keep else 'delete'}: {self.text})"
