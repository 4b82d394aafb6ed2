from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

# A supervisor over two small programs. Each appends its process id to its file; a file that ends in "stubborn" marks
# a program that ignores SIGTERM.
PROGRAM = """
import sys
from pathlib import Path
from config import supervisor
from config.supervisor import Command, Supervisor

supervisor.FIRST_DELAY_SECONDS = 0.1
supervisor.STOP_SECONDS = 1.0
child = '''
import os, signal, sys, time
if sys.argv[1].endswith("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1].endswith("broken"):
    sys.exit(3)
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\\\\n")
time.sleep(120)
'''
files = [Path(name) for name in sys.argv[1:]]
commands = [Command(name=file.name, argv=(sys.executable, "-c", child, str(file))) for file in files]
sys.exit(
    Supervisor(commands, lambda text: print(text, flush=True)).run(
        is_ready=lambda: all(file.exists() and file.read_text().endswith("\\n") for file in files),
        when_ready=lambda: print("ready", flush=True),
        ready_seconds=20,
    )
)
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(*names: str, ready: bool = True) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *(str(tmp_path / name) for name in names)],
            cwd=settings.BASE_DIR,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        if ready:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    for file in tmp_path.glob("*"):
        for pid in pids(file) if file.is_file() else []:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)


def pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_stop_signal_stops_both_children(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    process = start("web", "scheduler")
    process.send_signal(number)
    assert process.wait(timeout=10) == 0
    assert not any(is_running(pid) for name in ("web", "scheduler") for pid in pids(tmp_path / name))


def test_a_child_that_dies_is_started_again_with_a_message(start: Start, tmp_path: Path) -> None:
    process = start("web", "scheduler")
    first = pids(tmp_path / "scheduler")[0]
    os.kill(first, signal.SIGKILL)
    assert until(lambda: len(pids(tmp_path / "scheduler")) == 2)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("scheduler ended (signal SIGKILL). It is started again in")
    assert len(pids(tmp_path / "web")) == 1, "the other child is left alone"


def test_no_child_outlives_a_killed_supervisor(start: Start, tmp_path: Path) -> None:
    process = start("web", "scheduler")
    process.kill()
    children = pids(tmp_path / "web") + pids(tmp_path / "scheduler")
    assert until(lambda: not any(is_running(pid) for pid in children))


def test_a_child_that_ignores_the_request_to_stop_is_killed(start: Start, tmp_path: Path) -> None:
    process = start("web", "stubborn")
    process.terminate()
    said, _ = process.communicate(timeout=10)
    assert "stubborn did not stop in time and is killed." in said
    assert not is_running(pids(tmp_path / "stubborn")[0])


def test_a_child_that_cannot_start_stops_everything_with_status_1(start: Start, tmp_path: Path) -> None:
    process = start("web", "broken", ready=False)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "broken did not start (status 3)" in said
    assert not (tmp_path / "web").exists() or not is_running(pids(tmp_path / "web")[0])
