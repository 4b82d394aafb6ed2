"""The guard against clock jumps in real processes whose clock is moved while they run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maintenance.models import MaintenanceJob
from scheduling.models import ClockAnchor, SchedulerState
from tests.faked_clock import FakedClock

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

ROOT = Path(__file__).resolve().parent.parent.parent
# Answers every line with what its clocks and the guard say, until its input ends.
CHILD = """
import json, sys, time
import django
django.setup()
from scheduling.wall_clock import ClockWatch, clock_confirm, clock_jump, clock_state
watch = ClockWatch()
for line in sys.stdin:
    if line == "confirm\\n":
        clock_confirm(by="anna")
    if line == "watch\\n":
        watch = ClockWatch()
    watched, state, jump = watch.jumped(), clock_state(), clock_jump()
    answer = {"wall": time.time(), "monotonic": time.monotonic(), "watched": watched}
    if jump is not None:
        assert state is not None
        answer |= {"days": round(jump.by.total_seconds() / 86400, 2), "text": jump.text}
    print(json.dumps(answer), flush=True)
"""
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(params=[False, True], ids=["wall clock only", "every clock"])
def clock(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> FakedClock:
    return FakedClock(tmp_path, monotonic=request.param)


@pytest.fixture
def ask(clock: FakedClock) -> Iterator[Ask]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        cwd=ROOT,
        env=clock.environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def request(what: str = "look") -> dict[str, Any]:
        stdin.write(f"{what}\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    yield request
    stdin.close()
    stdout.close()
    assert process.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("offset", "days", "words"), [("+400d", 400, "forward by 400 days"), ("-30d", -30, "back by 30 days")]
)
def test_a_jump_is_noticed_while_it_lasts(clock: FakedClock, ask: Ask, offset: str, days: float, words: str) -> None:
    before = ask()
    assert "days" not in before
    assert not before["watched"]
    clock.move(offset)
    jumped = ask()
    assert abs(jumped["wall"] - time.time() - days * 86400) < 60, "the clock of the child was moved"
    assert jumped["watched"]
    assert jumped["days"] == days
    assert words in jumped["text"]
    assert ask()["days"] == days
    anchor = ClockAnchor.objects.get()
    assert anchor.noticed_at is not None
    clock.move("+0")
    back = ask()
    assert "days" not in back
    assert not back["watched"]
    anchor.refresh_from_db()
    assert anchor.noticed_at is None


def test_what_moves_the_clocks_that_nobody_can_set_is_noticed_as_well(clock: FakedClock, ask: Ask) -> None:
    """The comparison would be blind with `time.monotonic`: here it moves along."""
    before = ask()
    clock.move("+400d")
    after = ask()
    moved = after["monotonic"] - before["monotonic"] > 300 * 86400
    assert moved is (clock.environment["FAKETIME_DONT_FAKE_MONOTONIC"] == "0")
    assert after["days"] == 400


def test_a_step_of_a_night_is_no_jump_however_often(clock: FakedClock, ask: Ask) -> None:
    for night in range(30):
        clock.move(f"+{night}d")
        answer = ask("watch")
        assert "days" not in answer
    assert ClockAnchor.objects.get().wall.timestamp() > time.time() + 28 * 86400


def test_a_confirmed_jump_is_over_and_the_way_back_is_another(clock: FakedClock, ask: Ask) -> None:
    ask()
    clock.move("+400d")
    assert ask()["days"] == 400
    assert "days" not in ask("confirm")
    clock.move("+0")
    assert ask()["days"] == -400


def test_the_scheduler_notices_a_jump_and_says_so_once(tmp_path: Path, database_url: str) -> None:
    MaintenanceJob.objects.all().delete()
    clock = FakedClock(tmp_path, monotonic=False)
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run_scheduler"],
        cwd=ROOT,
        env=clock.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        wait_for(lambda: ClockAnchor.objects.filter(noticed_at=None).exists(), "the first look at the clock")
        clock.move("+400d")
        wait_for(lambda: ClockAnchor.objects.filter(noticed_at__isnull=False).exists(), "the jump's notice")
        seen_at = SchedulerState.objects.get().seen_at
        wait_for(lambda: SchedulerState.objects.filter(seen_at__gt=seen_at).exists(), "another heartbeat")
        clock.move("+0")
        wait_for(lambda: ClockAnchor.objects.filter(noticed_at=None).exists(), "the end of the jump")
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert output.count("The clock jumped forward by 400 days") == 1, output
    assert output.count("the clock is where it should be again") == 1, output
    assert "Traceback" not in output


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come within {seconds} s")
        time.sleep(0.05)
