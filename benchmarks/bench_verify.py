"""Verifying artifacts as a restore does, against the same bytes through `hashlib.file_digest`, read once.

    .venv/bin/python benchmarks/bench_verify.py [--small] [--rounds N] [--work FOLDER]

Keepwell's side opens each artifact through its storage and hashes it with `backups.archive.sha256_file`, counting
progress; the baseline opens the same file by its path. Files are warm, and both sides take turns artifact by artifact,
so that what else the machine does meets both. The ratio is the baseline's time over Keepwell's: 1.0 is as fast.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from project import ROOT, load

sys.path.insert(0, str(ROOT))

from backups.archive import sha256_file
from backups.storage import ArtifactName, LocalStorage, OpenStorage, Sidecar, new_uid

BAR = 0.9
START = datetime(2026, 1, 1, tzinfo=UTC)


def publish(storage: OpenStorage, count: int, size: int) -> list[ArtifactName]:
    """Real artifacts with sidecars, of `size` random bytes each."""
    names = []
    for number in range(count):
        created = START + timedelta(minutes=number)
        name = ArtifactName(folder="bench", created=created, uid=new_uid(), suffix=".tar.zst")
        raw = os.urandom(size)
        with storage.stage(name, 1, 1) as staged:
            view = memoryview(raw)
            while view:
                view = view[staged.file.write(view) :]
            sha256 = hashlib.sha256(raw).hexdigest()
            sidecar = Sidecar(name=name, target="bench", kind="files", job="bench", run="1", size=size, sha256=sha256)
            staged.publish(sidecar.to_mapping())
        names.append(name)
    return names


def timed(work: Callable[[], str]) -> tuple[float, str]:
    begun = time.perf_counter()
    found = work()
    return time.perf_counter() - begun, found


def one_round(place: Path, storage: OpenStorage, names: list[ArtifactName], number: int) -> tuple[float, float]:
    """Seconds of the baseline and of Keepwell for all artifacts; who begins changes with each."""
    stop = threading.Event()
    read = 0

    def count(more: int) -> None:
        nonlocal read
        read += more

    def ours() -> str:
        with storage.open_artifact(name) as file:
            return sha256_file(file, stop, count)

    def baseline() -> str:
        with (place / name.relative).open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    base = mine = 0.0
    for position, name in enumerate(names):
        if (position + number) % 2:
            (a, first), (b, second) = timed(baseline), timed(ours)
        else:
            (b, second), (a, first) = timed(ours), timed(baseline)
        assert first == second, f"{name.relative} has two hashes"
        base, mine = base + a, mine + b
    return base, mine


def compare(label: str, place: Path, count: int, size: int, rounds: int) -> bool:
    backend = LocalStorage.initialise(place, "benchmark", created=START)
    with backend.open() as storage:
        names = publish(storage, count, size)
        times = [one_round(place, storage, names, number) for number in range(rounds + 1)][1:]
    base, mine = (statistics.median(side) for side in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    speed = count * size / mine / 1e6
    print(
        f"{label:26} keepwell {mine:6.3f} s ({speed:5.0f} MB/s)  baseline {base:6.3f} s  ratio {ratio:5.2f}  "
        f"(at least {BAR})",
        flush=True,
    )
    return ratio >= BAR


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tenth of the artifacts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder for the artifacts (default: a temporary one)")
    options = parser.parse_args()
    part = 10 if options.small else 1
    cases = [(100 // part, 10_000_000), (2_000 // part, 100_000)]
    with tempfile.TemporaryDirectory(prefix="keepwell-bench-", dir=options.work) as work:
        results = [
            compare(f"{count:,} artifacts of {size / 1e6:g} MB", Path(work) / str(size), count, size, options.rounds)
            for count, size in cases
        ]
    print(f"{'within' if all(results) else 'NOT within'} the promise ({load()})")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
