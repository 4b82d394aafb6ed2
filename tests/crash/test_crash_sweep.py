"""Kill Keepwell, or let the disk fail, at every system call that changes something; then recover, and count copies."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SEED = 20261124
SAMPLE = 100
OPERATIONS = ("cleanup", "purge", "undo", "publish")
FAULTS = ("KILL", "EIO", "ENOSPC")
# A disk that fails for good, from one call on.
LASTING = ("EIO+", "ENOSPC+")
# What a file system may not know: Linux's rename without overwriting, and hard links.
LACKING = (("renameat2",), ("renameat2", "linkat"))
MOVES = ("renameat2", "linkat", "unlinkat")
DATABASE = ("pwrite64", "fdatasync", "ftruncate")
# What a recovery does; many of these are never reached, because there was little to recover.
RECOVERY_CALLS = ("openat", "pwrite64", "fsync", "renameat2", "unlink", "unlinkat")


@dataclass(frozen=True, kw_only=True)
class Point:
    operation: str
    fault: str
    call: str
    number: int
    threads: bool = False
    lacking: tuple[str, ...] = ()
    recovery: tuple[str, int] | None = None
    again: bool = False

    def __str__(self) -> str:
        extra = " ".join(
            [
                *(["counted in all threads"] if self.threads else []),
                *([f"without {' and '.join(self.lacking)}"] if self.lacking else []),
                *([f"recovery killed at {self.recovery[0]} {self.recovery[1]}"] if self.recovery else []),
            ]
        )
        return f"{self.operation}: {self.fault} at {self.call} {self.number} {extra}".rstrip()


@dataclass
class Crashes:
    """The process that crashes children, and what it answered."""

    process: subprocess.Popen[str]
    points: int = 0
    reached: int = 0
    recoveries: int = 0
    wrong: list[str] = field(default_factory=list)

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            pytest.fail("the process that is to crash its children died itself; its error output is above")
        return json.loads(answer)

    def all_points(self, operation: str, faults: Sequence[str], lacking: tuple[str, ...] = ()) -> list[Point]:
        """Each system call of the operation that an uninterrupted run made, once with each fault."""
        whole = self.ask(operation=operation, lacking=lacking)
        assert (whole["ended"], whole["faults"]) == ("", [])
        return [
            Point(operation=operation, fault=fault, call=call, number=number, threads=threads, lacking=lacking)
            for fault in faults
            for call, counts in whole["counts"].items()
            if call not in lacking
            for threads, count in zip((False, True), counts, strict=True)
            for number in range(1, count + 1)
        ]

    def sweep(self, points: Sequence[Point]) -> None:
        for point in points:
            answer = self.ask(**vars(point))
            self.points += 1
            self.reached += bool(answer["where"])
            self.recoveries += bool(answer.get("recovery_where"))
            if answer["faults"]:
                told = "\n    ".join([f"where: {answer['where']}", f"ended: {answer['ended']}", *answer["faults"]])
                self.wrong.append(f"{point}\n    {told}")

    def report(self) -> None:
        sys.stdout.write(
            f"{self.points} points, {self.reached} reached, {self.recoveries} recoveries killed as well, "
            f"{len(self.wrong)} wrong\n"
        )
        assert not self.wrong, "\n".join(self.wrong)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not here to interrupt system calls (apt install strace)")
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")
    root = tmp_path_factory.mktemp("crash")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KEEPWELL_", "DATABASE_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.server", root],
        cwd=ROOT,
        env={
            **environment,
            "KEEPWELL_DATA": str(root / "live" / "data"),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONWARNINGS": "ignore",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n", "the world to crash could not be made; see the error output above"
    yield process
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


@pytest.fixture
def crashes(server: subprocess.Popen[str]) -> Crashes:
    return Crashes(server)


def with_dying_recovery(points: Sequence[Point], chance: random.Random) -> list[Point]:
    """The same points, the recovery killed somewhere as well, and the operation done once more at the end."""
    return [
        replace(point, recovery=(chance.choice(RECOVERY_CALLS), chance.randint(1, 6)), again=True) for point in points
    ]


def test_a_hundred_crashes_lose_no_copy_and_leave_nothing_behind(crashes: Crashes) -> None:
    chance = random.Random(SEED)
    points = [point for operation in OPERATIONS for point in crashes.all_points(operation, FAULTS)]
    # Whatever moves or removes a copy's files is few among the database's writes, and is what matters most.
    moves = [point for point in points if point.fault == "KILL" and point.call in MOVES]
    sample = moves + chance.sample([point for point in points if point not in moves], SAMPLE - len(moves))
    chance.shuffle(sample)
    quarter = set(sample[::4])
    crashes.sweep([point for point in sample if point not in quarter])
    crashes.sweep(with_dying_recovery(sample[::4], chance))
    assert crashes.points == SAMPLE
    assert crashes.reached > SAMPLE * 9 // 10, "most of the points must interrupt something"
    crashes.report()


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_crash_loses_a_copy_or_leaves_anything_behind(operation: str, fault: str, crashes: Crashes) -> None:
    points = crashes.all_points(operation, [fault])
    crashes.sweep(points)
    assert crashes.points >= 90
    assert crashes.reached >= crashes.points * 0.95
    crashes.report()


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_disk_that_fails_for_good_loses_no_copy_once_it_is_back(operation: str, crashes: Crashes) -> None:
    chance = random.Random(f"{SEED} lasting {operation}")
    points = crashes.all_points(operation, LASTING)
    # Where the database cannot be written, the end of a run is tried for seconds: a few of those are enough.
    storage = [point for point in points if point.call not in DATABASE]
    database = [point for point in points if point.call in DATABASE]
    crashes.sweep(chance.sample(storage, 50) + chance.sample(database, 4))
    crashes.report()


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_recovery_that_is_killed_is_completed_by_the_next(operation: str, crashes: Crashes) -> None:
    chance = random.Random(f"{SEED} recovery {operation}")
    points = crashes.all_points(operation, ["KILL"])
    crashes.sweep(with_dying_recovery(chance.sample(points, 60), chance))
    assert crashes.recoveries > 20
    crashes.report()


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("lacking", LACKING, ids=" and ".join)
def test_no_crash_loses_a_copy_on_a_poorer_file_system(
    lacking: tuple[str, ...], operation: str, crashes: Crashes
) -> None:
    points = crashes.all_points(operation, ["KILL", "EIO"], lacking)
    # The database's own writes are the same everywhere.
    crashes.sweep([point for point in points if point.call not in DATABASE])
    crashes.report()
