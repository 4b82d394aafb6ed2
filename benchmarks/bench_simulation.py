"""Simulating a year of one pair: the time on one core and the memory, for jobs that are hard to simulate."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backups.retention import Candidate, Policy, Schedule, simulate

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
ROUNDS = 3
LIMIT = 1.0
MEMORY_LIMIT = 30.0

RICH = {
    "keep_last": 5,
    "keep_hourly": 48,
    "keep_daily": 30,
    "keep_weekly": 26,
    "keep_monthly": 24,
    "keep_yearly": -1,
    "keep_within": "7d",
    "keep_within_daily": "3m",
    "timezone": "Europe/Berlin",
}
EVERY_DAY = RICH | {"keep_daily": 1000}
EVERYTHING = {"keep_hourly": -1, "timezone": "Europe/Berlin"}


def every(step: timedelta, days: int, start: datetime) -> list[datetime]:
    """Moments from one step after `start`."""
    return [start + number * step for number in range(1, days * DAY // step + 1)]


def history(step: timedelta, days: int) -> list[Candidate]:
    """Copies up to now, a tenth of them verified."""
    return [
        Candidate(uid=f"{number:08x}", created=moment, size=2**20, verified_at=None if number % 10 else moment)
        for number, moment in enumerate(every(step, days, NOW - days * DAY))
    ]


CASES: dict[str, tuple[dict[str, int | str], timedelta, int, timedelta]] = {
    "daily, 3 years of copies": (RICH, DAY, 3 * 365, DAY),
    "daily, 3 years of copies, all stay for long": (EVERY_DAY, DAY, 3 * 365, DAY),
    "hourly, cleaned up daily": (RICH, HOUR, 30, DAY),
    "hourly, cleaned up hourly": (RICH, HOUR, 30, HOUR),
    "hourly, nothing is ever deleted": (EVERYTHING, HOUR, 30, DAY),
}


def best_of(rounds: int, work: Callable[[], object]) -> float:
    """The shortest of several runs, in seconds of processor time."""
    times = []
    for _ in range(rounds):
        gc.collect()
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def peak_memory(work: Callable[[], object]) -> float:
    """The most that is allocated while it works, in MB."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def main() -> int:
    """Print one line for each case; 1 when a time or the memory is over its limit."""
    missed = False
    for name, (rules, step, days, cleaned) in CASES.items():
        copies = history(step, days)
        policy = Policy.from_mapping(rules)
        schedule = Schedule(backups=every(step, 365, NOW), cleanups=every(cleaned, 365, NOW + HOUR / 2))

        def work() -> object:
            return simulate(copies, policy, schedule, NOW, NOW + 365 * DAY)  # noqa: B023 - called before the next case

        seconds, memory = best_of(ROUNDS, work), peak_memory(work)
        missed = missed or seconds > LIMIT or memory > MEMORY_LIMIT
        print(
            f"simulate a year, {name}: {seconds * 1000:.0f} ms, at most {LIMIT * 1000:.0f}; "
            f"{memory:.1f} MB, at most {MEMORY_LIMIT:.0f}"
        )
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
