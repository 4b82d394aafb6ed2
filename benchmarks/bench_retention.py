"""Planning retention for 100 000 backups of 10 pairs, as a ratio to one `sorted` over the same timestamps."""

from __future__ import annotations

import gc
import random
import resource
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backups.retention import Candidate, Policy, plan

PAIRS = 10
BACKUPS_PER_PAIR = 10_000
ROUNDS = 5
LIMIT = 10.0
MEMORY_LIMIT = 300.0


def made_backups(seed: int) -> list[list[Candidate]]:
    """Hourly backups with a little jitter, each pair shuffled, a tenth of them verified."""
    chance = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    start = datetime(2025, 1, 1, tzinfo=UTC)
    pairs = []
    for pair in range(PAIRS):
        copies = []
        for number in range(BACKUPS_PER_PAIR):
            created = start + timedelta(hours=number, microseconds=chance.randrange(900_000_000))
            verified = created + timedelta(days=1) if chance.random() < 0.1 else None
            uid = f"{pair:04x}{number:012x}"
            copies.append(Candidate(uid=uid, created=created, size=chance.randrange(2**30), verified_at=verified))
        chance.shuffle(copies)
        pairs.append(copies)
    return pairs


def best_of(rounds: int, work: Callable[[], object]) -> float:
    """The shortest of several runs, in seconds."""
    times = []
    for _ in range(rounds):
        gc.collect()
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def measure(timezone: str) -> tuple[float, float]:
    """Seconds for `sorted` and for the plans (digests included), best of `ROUNDS`."""
    pairs = made_backups(seed=1)
    policy = Policy.from_mapping(
        {
            "keep_last": 3,
            "keep_hourly": 24,
            "keep_daily": 7,
            "keep_weekly": 4,
            "keep_monthly": 12,
            "keep_yearly": -1,
            "keep_within_daily": "2m",
            "timezone": timezone,
        }
    )
    now = datetime(2026, 12, 1, tzinfo=UTC)
    moments = [copy.created for copies in pairs for copy in copies]
    baseline = best_of(ROUNDS, lambda: sorted(moments))
    ours = best_of(ROUNDS, lambda: [plan(copies, policy, now) for copies in pairs])
    return baseline, ours


def peak_memory() -> float:
    """The most memory this process has had, candidates and all, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> int:
    """Print one line for each zone; 1 when a ratio or the memory is over its limit."""
    worst = 0.0
    for timezone in ("UTC", "Europe/Berlin", "Asia/Kolkata"):
        baseline, ours = measure(timezone)
        worst = max(worst, ours / baseline)
        print(
            f"retention plan, {PAIRS * BACKUPS_PER_PAIR} backups, {timezone}: {ours * 1000:.0f} ms, "
            f"{ours / baseline:.1f} times sorted ({baseline * 1000:.0f} ms), at most {LIMIT:.0f}"
        )
    print(f"retention plan, memory of the process: {peak_memory():.0f} MB, at most {MEMORY_LIMIT:.0f}")
    return 0 if worst <= LIMIT and peak_memory() <= MEMORY_LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
