from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from heapq import nlargest
from typing import Any, Self

from scheduling.units import binary_size

NO_SHARE = 100
"""The share, in percent, that limits nothing."""

SHARE_FLOOR = 2
"""So many deletions are always within the share: a quarter of a handful says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """Why a plan may not be executed as it is; `text` is one sentence: what, how much, the limit.

    Kinds: `pair_share`, `pair_count`, `pair_bytes`, the same three with `storage_`, and what only the outside can find:
    `clock`, `epoch`, `changed`, `busy`. One that is not `approvable` stays until its cause is gone.
    """

    kind: str
    text: str
    approvable: bool = True

    def to_mapping(self) -> dict[str, Any]:
        """Plain JSON values; `from_mapping` reads them back."""
        return {"kind": self.kind, "text": self.text, "approvable": self.approvable}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Read what `to_mapping` wrote. Raises KeyError for a missing key."""
        return cls(kind=mapping["kind"], text=mapping["text"], approvable=mapping["approvable"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Guards:
    """What limits the plan of one pair, whatever its policy says. Raises ValueError for impossible numbers.

    The blast radius is the `excess`: the deletions beyond the `arrivals` (good copies that came in since the pair was
    last cleaned up; each may replace one older copy). Over `max_share` percent of the good copies, over `max_count`, or
    with its largest copies over `max_bytes` bytes, the plan is stopped; None limits nothing, and `SHARE_FLOOR`
    deletions are always within the share. `stops` are those that the outside found.
    """

    minimum_keep: int = 1
    max_share: int | None = 25
    max_count: int | None = 50
    max_bytes: int | None = None
    arrivals: int = 0
    stops: tuple[Stop, ...] = ()

    def __post_init__(self) -> None:
        for name in ("minimum_keep", "max_share", "max_count", "max_bytes", "arrivals"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}; it must be 0 or more")
        if self.max_share is not None and self.max_share > NO_SHARE:
            raise ValueError(f"max_share is {self.max_share}; it is a percentage, at most {NO_SHARE}")

    @property
    def floor(self) -> int:
        """The newest good copies that always stay: one at least."""
        return max(1, self.minimum_keep)

    def with_stops(self, *more: Stop) -> Guards:
        """These guards with more stops from outside; one that is there already is not repeated."""
        new = dict.fromkeys(stop for stop in more if stop not in self.stops)
        return replace(self, stops=(*self.stops, *new))

    def to_mapping(self) -> dict[str, Any]:
        """Plain JSON values; `from_mapping` reads them back."""
        mapping = {field.name: getattr(self, field.name) for field in fields(self)}
        return mapping | {"stops": [stop.to_mapping() for stop in self.stops]}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Read what `to_mapping` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(**dict(mapping) | {"stops": tuple(map(Stop.from_mapping, mapping["stops"]))})


DEFAULT_GUARDS = Guards()


@dataclass(frozen=True, kw_only=True, slots=True)
class StoragePart:
    """What one pair adds to the blast radius of its storage: its good copies, and the sizes of those to delete."""

    good: int
    deletions: Sequence[int]
    arrivals: int = 0


def pair_stops(part: StoragePart, guards: Guards) -> tuple[Stop, ...]:
    """The limits of `guards` that the plan of one pair is over."""
    return _stops("pair", "This", [part], guards.max_share, guards.max_count, guards.max_bytes)


def storage_stops(
    parts: Iterable[StoragePart],
    *,
    max_share: int | None,
    max_count: int | None,
    max_bytes: int | None,
    storage_name: str,
) -> tuple[Stop, ...]:
    """The limits that the plans of all pairs of one storage are over together; units as in `Guards`.

    Excesses are added up pair by pair: what came in for one pair replaces nothing of another.
    """
    return _stops("storage", f"On storage {storage_name} this", list(parts), max_share, max_count, max_bytes)


def _stops(
    scope: str,
    subject: str,
    parts: Sequence[StoragePart],
    max_share: int | None,
    max_count: int | None,
    max_bytes: int | None,
) -> tuple[Stop, ...]:
    excesses = [max(0, len(part.deletions) - part.arrivals) for part in parts]
    excess = sum(excesses)
    if not excess:
        return ()
    good = sum(part.good for part in parts)
    deletions = sum(len(part.deletions) for part in parts)
    what = f"{subject} would delete {deletions:,} of {good:,} good {'copy' if good == 1 else 'copies'}"
    if excess < deletions:
        what += f", {excess:,} more than came in since the last cleanup"
    stops = []
    if max_share is not None and max_share < NO_SHARE:
        limit = max(SHARE_FLOOR, good * max_share // 100)
        if excess > limit:
            text = f"{what}; the limit without approval is {limit:,} ({max_share} %)."
            stops.append(Stop(kind=f"{scope}_share", text=text))
    if max_count is not None and excess > max_count:
        stops.append(Stop(kind=f"{scope}_count", text=f"{what}; the limit without approval is {max_count:,}."))
    if max_bytes is not None:
        largest = sum(sum(nlargest(number, part.deletions)) for number, part in zip(excesses, parts, strict=True))
        if largest > max_bytes:
            which = f", {binary_size(largest)}" if excess == deletions else f", {binary_size(largest)} at most"
            text = f"{what}{which}; the limit without approval is {binary_size(max_bytes)}."
            stops.append(Stop(kind=f"{scope}_bytes", text=text))
    return tuple(stops)
