from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from scheduling import stopping
from scheduling.stopping import StopReason, StopSignal, elapsed

# Ignores SIGTERM, as does its child; says both pids once both do.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    print(os.getpid(), child, flush=True)
time.sleep(60)
"""
OBEDIENT = "import os, time; print(os.getpid(), 0, flush=True); time.sleep(60)"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "TERMINATE_AFTER_SECONDS", 0.2)
    monkeypatch.setattr(stopping, "KILL_AFTER_SECONDS", 0.6)


def child(program: str) -> tuple[subprocess.Popen[str], int]:
    """A process in a group of its own, and the pid of its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline().split()[1])


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def escalate_until_it_ends(stop: StopSignal, process: subprocess.Popen[str]) -> float:
    """What the keeper does; seconds until the process had ended."""
    start = time.monotonic()
    while process.poll() is None:
        assert time.monotonic() - start < 20, "it did not end"
        stop.escalate()
        time.sleep(0.02)
    return time.monotonic() - start


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie that nobody has waited for yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - read as one piece
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_first_reason_stands() -> None:
    shutdown = threading.Event()
    stop = StopSignal(shutdown=shutdown, time_limit=0)
    stop.ask(StopReason.CANCEL)
    shutdown.set()
    assert stop.is_set()
    assert stop.reason == StopReason.CANCEL
    stop.ask(StopReason.LEASE)
    assert stop.reason == StopReason.CANCEL


def test_nothing_has_asked_at_first() -> None:
    stop = StopSignal(shutdown=threading.Event(), time_limit=60)
    stop.renewed(elapsed())
    assert not stop.is_set()
    assert stop.reason is None
    assert not stop.is_overdue


def test_a_shutdown_a_time_limit_and_an_old_lease_are_seen_without_anyones_help() -> None:
    shutdown = threading.Event()
    shutdown.set()
    late = StopSignal()
    late.renewed(elapsed() - stopping.SELF_STOP_SECONDS - 1)
    for stop, reason in (
        (StopSignal(shutdown=shutdown), StopReason.SHUTDOWN),
        (StopSignal(time_limit=0), StopReason.TIME_LIMIT),
        (late, StopReason.LEASE),
    ):
        assert stop.is_set()
        assert stop.reason == reason


def test_waiting_ends_when_the_process_shuts_down_or_the_time_is_over() -> None:
    shutdown = threading.Event()
    threading.Timer(0.3, shutdown.set).start()
    assert StopSignal(shutdown=shutdown).wait(20)
    assert StopSignal(time_limit=0.3).wait()
    start = time.monotonic()
    assert not StopSignal().wait(0.3)
    assert 0.3 <= time.monotonic() - start < 2
    assert not StopSignal().wait(0)


def test_a_lease_that_is_renewed_is_not_overdue_and_one_that_is_not_is_before_it_ends() -> None:
    stop = StopSignal()
    for age, overdue in ((0, False), (stopping.SELF_STOP_SECONDS + 1, False), (stopping.LEASE_SECONDS - 1, True)):
        stop.renewed(elapsed() - age)
        assert stop.is_overdue is overdue
    assert stopping.RENEW_SECONDS * 3 <= stopping.SELF_STOP_SECONDS < stopping.LEASE_SECONDS


def test_a_process_that_was_stopped_sees_its_lease_gone_before_it_does_anything_else() -> None:
    """SIGSTOP past the lease, then SIGCONT: the clock that counts has gone on meanwhile."""
    program = (
        "import os, django; django.setup()\n"
        "from scheduling import stopping\n"
        "stopping.SELF_STOP_SECONDS = 1.0\n"
        "stop = stopping.StopSignal()\n"
        "stop.renewed(stopping.elapsed())\n"
        "print(stop.is_set(), flush=True)\n"
        "input()\n"
        "print(stop.is_set(), stop.reason, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "False\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=20)
    assert output == "True lease\n"


def test_child_processes_are_left_alone_until_someone_asks(soon: None, children: list[subprocess.Popen[str]]) -> None:
    stop = StopSignal()
    process, _ = child(OBEDIENT)
    children.append(process)
    with stop.child_group(process.pid):
        stop.escalate()
        assert process.poll() is None


def test_a_child_that_minds_sigterm_gets_no_more(soon: None, children: list[subprocess.Popen[str]]) -> None:
    stop = StopSignal()
    process, _ = child(OBEDIENT)
    children.append(process)
    stop.ask(StopReason.CANCEL)
    with stop.child_group(process.pid):
        stop.escalate()
        assert process.poll() is None, "it was given no time to end by itself"
        assert escalate_until_it_ends(stop, process) < 0.55
    assert process.returncode == -signal.SIGTERM


def test_a_group_that_ignores_sigterm_is_killed_with_all_its_children(
    soon: None, children: list[subprocess.Popen[str]]
) -> None:
    stop = StopSignal()
    process, grandchild = child(STUBBORN)
    children.append(process)
    stop.ask(StopReason.TIME_LIMIT)
    with stop.child_group(process.pid):
        assert escalate_until_it_ends(stop, process) >= 0.5
    assert process.returncode == -signal.SIGKILL
    until = time.monotonic() + 5
    while is_alive(grandchild):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_child_that_starts_after_the_stop_is_ended_as_well(soon: None, children: list[subprocess.Popen[str]]) -> None:
    stop = StopSignal()
    stop.ask(StopReason.CANCEL)
    time.sleep(0.7)
    process, _ = child(STUBBORN)
    children.append(process)
    with stop.child_group(process.pid):
        assert escalate_until_it_ends(stop, process) < 0.5


def test_a_group_that_is_over_gets_no_signal(soon: None, children: list[subprocess.Popen[str]]) -> None:
    """Its number may be another's by now."""
    stop = StopSignal()
    process, _ = child(OBEDIENT)
    children.append(process)
    with stop.child_group(process.pid):
        pass
    stop.ask(StopReason.CANCEL)
    time.sleep(0.7)
    stop.escalate()
    assert process.poll() is None
    with stop.child_group(2**22 - 1):  # no such group
        stop.escalate()
