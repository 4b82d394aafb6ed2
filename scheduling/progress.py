"""How far a running run is: figures that its work sets, written to its row about once a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from scheduling.stopping import elapsed

# How much of the speed that is shown comes from the last second: the rest is what it was before.
FRESHNESS = 0.3


class Progress:
    """The figures of one run. `update` may be called from any thread, as often as the work likes.

    A snapshot is a mapping of what is known: `step` (text), `bytes`, `bytes_total`, `files`, `files_total`, `items`,
    `items_total`, `estimated` (the totals are those of the copy before), `rate` (bytes a second, else items) and
    `seconds_left`.
    """

    def __init__(self, *, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._figures: dict[str, Any] = {}
        self._changed = False
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

    def snapshot(self, now: datetime) -> dict[str, Any] | None:
        """What to write down; None when nothing changed since the last one."""
        with self._lock:
            if not self._changed:
                return None
            self._changed = False
            found = dict(self._figures)
            self._measure("bytes" if "bytes" in found else "items")
        unit = "bytes" if "bytes" in found else "items"
        done, total = found.get(unit), found.get(f"{unit}_total")
        if self._rate:
            found["rate"] = round(self._rate, 1)
            if done is not None and total and total > done:
                found["seconds_left"] = round((total - done) / self._rate)
        found["at"] = now.isoformat()
        return found

    def _measure(self, unit: str) -> None:
        at, done = self._clock(), int(self._figures.get(unit, 0))
        if self._seen is None:
            self._seen = (at, done)
            return
        passed = at - self._seen[0]
        if passed >= 0.5:
            rate = max(0.0, (done - self._seen[1]) / passed)
            self._rate = rate if self._rate is None else self._rate * (1 - FRESHNESS) + rate * FRESHNESS
            self._seen = (at, done)
