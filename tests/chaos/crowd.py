"""Real processes at one database, and what can be read afterwards: in the ledger, and from the witnesses."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backups.models import BackupRunTarget
from scheduling.choices import OPEN, RunStatus
from scheduling.registry import all_kinds

ROOT = Path(__file__).resolve().parent.parent.parent


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Seconds until `condition` held."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            pytest.fail(f"{what} did not happen within {seconds} s")
        time.sleep(0.02)
    return time.monotonic() - start


@dataclass(kw_only=True)
class Span:
    """One stretch of work, in nanoseconds of the monotonic clock; `end` is None while it goes on, or died."""

    job: str
    run: int
    pid: int
    start: int
    last: int
    end: int | None = None


@dataclass
class Crowd:
    """Processes that were started, where they write, and when they were killed (by pid)."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    killed: dict[int, int] = field(default_factory=dict)

    def start(self, command: str, *arguments: str, host: str = "", **environment: str) -> subprocess.Popen[bytes]:
        """A witness on the host of that name (its own data folder), or on the test's own."""
        env = {**os.environ, "WITNESS_FILE": str(self.folder / "witness"), **environment}
        if host:
            data = self.folder / f"host-{host}"
            data.mkdir(exist_ok=True, mode=0o700)
            env["KEEPWELL_DATA"] = str(data)
        number = len(self.processes)
        with (self.folder / f"process-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.witness", command, *arguments],
                cwd=ROOT,
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        self.killed[process.pid] = time.monotonic_ns()

    def stop(self, *processes: subprocess.Popen[bytes]) -> None:
        """Stop them in good order; those that were told nothing else, all."""
        chosen = [process for process in processes or self.processes if process.poll() is None]
        for process in chosen:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in chosen:
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill(process)

    def logs(self) -> str:
        return "".join(path.read_text("utf-8", "replace") for path in sorted(self.folder.glob("process-*.log")))

    def spans(self) -> list[Span]:
        """What the witnesses saw, in the order of its start. A run that began twice is there twice."""
        found: list[Span] = []
        at_work: dict[tuple[str, str], Span] = {}
        path = self.folder / "witness"
        for line in path.read_text().splitlines() if path.exists() else []:
            at, what, job, run, pid = line.split()
            key = (run, pid)
            if what == "start":
                at_work[key] = Span(job=job, run=int(run), pid=int(pid), start=int(at), last=int(at))
                found.append(at_work[key])
            at_work[key].last = int(at)
            if what == "end":
                at_work[key].end = int(at)
        return sorted(found, key=lambda span: span.start)


@contextmanager
def crowd(folder: Path) -> Iterator[Crowd]:
    folder.mkdir(exist_ok=True)
    made = Crowd(folder)
    try:
        yield made
    finally:
        for process in made.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def all_runs() -> list[Any]:
    return [run for kind in all_kinds() for run in kind.run_model._default_manager.order_by("pk")]


def open_runs() -> int:
    return sum(kind.run_model._default_manager.filter(status__in=OPEN).count() for kind in all_kinds())


def is_quiet() -> bool:
    return open_runs() == 0


def assert_consistent(crowd: Crowd) -> Counter[str]:
    """The ledger agrees with itself and with the witnesses; returns how many runs ended how."""
    runs = {(run.kind, run.pk): run for run in all_runs()}
    spans = crowd.spans()
    began = Counter((span.job.partition(":")[0], span.run) for span in spans)
    twice = {run: count for run, count in began.items() if count > 1}
    assert not twice, f"begun more than once: {twice}"
    assert set(began) <= set(runs), "at work without a row"
    for key, run in runs.items():
        assert run.status not in OPEN, f"{run} was never closed"
        assert run.fence == (1 if run.started_at else 0)
        if run.status == RunStatus.SUCCEEDED:
            assert began[key] == 1, f"{run} succeeded, and nobody saw it"
        assert run.status != RunStatus.SKIPPED or run.message
    slots = Counter((run.kind, run.job_id, run.slot) for run in runs.values() if run.slot)
    assert not [slot for slot, count in slots.items() if count > 1]
    assert not BackupRunTarget.objects.filter(active=True).exists()
    assert_no_overlap(crowd, spans)
    return Counter(str(run.status) for run in runs.values())


def assert_no_overlap(crowd: Crowd, spans: list[Span]) -> None:
    by_job: dict[str, list[Span]] = {}
    for span in spans:
        by_job.setdefault(span.job, []).append(span)
    for job, mine in by_job.items():
        for earlier, later in itertools.pairwise(mine):
            # One that was killed is over when it was last seen, which the kill came after.
            end = earlier.end or earlier.last
            assert end <= later.start, (
                f"two runs of {job} at work at once: {earlier} and {later}; killed: {crowd.killed.get(earlier.pid)}"
            )


def report(title: str, counts: Counter[str], **more: object) -> None:
    figures = ", ".join(f"{value} {name}" for name, value in [*sorted(counts.items()), *more.items()])
    print(f"\n{title}: {sum(counts.values())} runs: {figures}")  # noqa: T201 - the count is what it is for
