"""How far a running run is: figures that its work sets, written to its row about once a second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from scheduling.stopping import elapsed

# How much of the speed that is shown comes from the last second: the rest is what it was before.
FRESHNESS = 0.3
# Without anything new for this long, the speed is none.
STALLED_SECONDS = 5.0


class Progress:
    """The figures of one run. `update` may be called from any thread, as often as the work likes.

    A snapshot is a mapping of what is known: `step` (text), `bytes`, `bytes_total`, `files`, `files_total`, `items`,
    `items_total`, `estimated` (the totals are those of the copy before, and are dropped when they prove too small),
    `rate` (bytes a second, else items; 0 when nothing moves) and `seconds_left`.
    """

    def __init__(self, *, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._figures: dict[str, Any] = {}
        self._changed = False
        self._followed: Callable[[], Mapping[str, int]] | None = None
        self._rate: float | None = None
        self._seen: tuple[float, int] | None = None

    def update(self, **figures: str | int | bool | None) -> None:
        """Set some of the figures; None takes one away. A new `step` starts anew with figures of its own."""
        with self._lock:
            step = figures.get("step")
            if step is not None and step != self._figures.get("step"):
                self._figures, self._rate, self._seen = {}, None, None
            for name, value in figures.items():
                if value is None:
                    self._figures.pop(name, None)
                else:
                    self._figures[name] = value
            self._changed = True

    def add(self, **counts: int) -> None:
        """Count on: the figures named grow by so much."""
        with self._lock:
            for name, count in counts.items():
                self._figures[name] = int(self._figures.get(name, 0)) + count
            self._changed = True

    @contextmanager
    def following(self, figures: Callable[[], Mapping[str, int]]) -> Iterator[None]:
        """While the body runs, ask for figures when they are to be written down: for work that counts anyway."""
        self._followed = figures
        try:
            yield
        finally:
            self._followed = None
            self.update(**figures())

    def snapshot(self, now: datetime) -> dict[str, Any] | None:
        """What to write down; None when nothing changed since the last one."""
        followed = self._followed
        if followed is not None and (figures := followed()).items() - self._figures.items():
            self.update(**figures)
        with self._lock:
            unit = "bytes" if "bytes" in self._figures else "items"
            if not self._changed and not self._has_stalled():
                return None
            self._measure(unit)
            self._changed = False
            found, rate = dict(self._figures), self._rate
        if found.get("estimated"):
            _drop_outgrown(found)
        done, total = found.get(unit), found.get(f"{unit}_total")
        if rate is not None:
            found["rate"] = round(rate, 1)
        if rate and done is not None and total and total > done:
            found["seconds_left"] = round((total - done) / rate)
        found["at"] = now.isoformat()
        return found

    def _has_stalled(self) -> bool:
        return bool(self._rate) and self._seen is not None and self._clock() - self._seen[0] >= STALLED_SECONDS

    def _measure(self, unit: str) -> None:
        at, done = self._clock(), int(self._figures.get(unit, 0))
        if self._seen is None:
            self._seen = (at, done)
            return
        passed = at - self._seen[0]
        if not self._changed:
            self._rate, self._seen = 0.0, None
        elif passed >= 0.5:
            rate = max(0.0, (done - self._seen[1]) / passed)
            # After a standstill, as at the start, there is nothing to smooth it with.
            self._rate = self._rate * (1 - FRESHNESS) + rate * FRESHNESS if self._rate else rate
            self._seen = (at, done)


def _drop_outgrown(found: dict[str, Any]) -> None:
    """Take away estimated totals that were reached: there is more than there was in the copy before."""
    for unit in ("bytes", "files", "items"):
        if found.get(unit, 0) > found.get(f"{unit}_total", float("inf")):
            del found[f"{unit}_total"]
