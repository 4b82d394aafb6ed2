"""The guard against clock jumps, on readings that are given; test_hard_wall_clock.py moves a real process's clock."""

from __future__ import annotations

import logging
import time
import timeit
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling import wall_clock
from scheduling.models import ClockAnchor
from scheduling.scheduler_process import SchedulerProcess
from scheduling.wall_clock import (
    ClockWatch,
    Readings,
    anchor_confirm,
    anchor_follow,
    clock_confirm,
    clock_jump,
    clock_state,
    find_jump,
    is_anchor_due,
    read_machine,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ANCHOR = Readings(wall=NOON, uptime=5000.0, boot_id="one")


def later(wall: timedelta, uptime: timedelta | None = None, *, start: Readings = ANCHOR) -> Readings:
    """The same boot, with the wall clock moved by one time and the uptime by another; by a minute, if not given."""
    passed = timedelta(minutes=1) if uptime is None else uptime
    return Readings(wall=start.wall + wall, uptime=start.uptime + passed.total_seconds(), boot_id=start.boot_id)


def restarted(wall: timedelta, *, up: timedelta = HOUR) -> Readings:
    """Another boot, the wall clock moved on from the anchor."""
    return Readings(wall=NOON + wall, uptime=up.total_seconds(), boot_id="two")


# --- Judging ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wall", "uptime"),
    [
        (timedelta(0), timedelta(0)),
        (400 * DAY, 400 * DAY),
        (36 * HOUR, timedelta(0)),
        (-36 * HOUR, timedelta(0)),
        (30 * DAY + 35 * HOUR, 30 * DAY),
    ],
    ids=["at once", "after a year of uptime", "a night late", "a night early", "late after a month"],
)
def test_a_clock_that_goes_with_the_uptime_has_not_jumped(wall: timedelta, uptime: timedelta) -> None:
    assert find_jump(ANCHOR, later(wall, uptime)) is None


@pytest.mark.parametrize(
    ("wall", "uptime", "by"),
    [
        (400 * DAY, timedelta(0), 400 * DAY),
        (-30 * DAY, timedelta(0), -30 * DAY),
        (37 * HOUR, timedelta(0), 37 * HOUR),
        (-37 * HOUR, timedelta(0), -37 * HOUR),
        (timedelta(0), 2 * DAY, -2 * DAY),
        (12 * DAY, 10 * DAY, 2 * DAY),
    ],
    ids=["400 days ahead", "30 days back", "just too far", "just too far back", "stood still", "ahead after ten days"],
)
def test_a_clock_that_leaves_the_uptime_behind_has_jumped(wall: timedelta, uptime: timedelta, by: timedelta) -> None:
    jump = find_jump(ANCHOR, later(wall, uptime))
    assert jump is not None
    assert jump.by == by


@pytest.mark.parametrize(
    ("current", "text"),
    [
        (
            later(400 * DAY, timedelta(0)),
            "The clock jumped forward by 400 days (it says 2027-12-29 12:00 UTC; by the machine's uptime it should be "
            "about 2026-11-24 12:00 UTC).",
        ),
        (
            later(-40 * HOUR, timedelta(0)),
            "The clock jumped back by 40 hours (it says 2026-11-22 20:00 UTC; by the machine's uptime it should be "
            "about 2026-11-24 12:00 UTC).",
        ),
        (
            restarted(40 * DAY),
            "Either the machine was off for 40 days or the clock is wrong (it says 2027-01-03 12:00 UTC; before the "
            "machine was restarted it was last seen right at 2026-11-24 12:00 UTC).",
        ),
        (
            restarted(-30 * DAY),
            "The clock went back by 30 days while the machine was restarted (it says 2026-10-25 12:00 UTC; it was last "
            "seen right at 2026-11-24 12:00 UTC).",
        ),
    ],
    ids=["forward", "back", "off for long", "back over a restart"],
)
def test_a_jump_says_how_far_and_what_the_time_should_be(current: Readings, text: str) -> None:
    jump = find_jump(ANCHOR, current)
    assert jump is not None
    assert jump.text == text


@pytest.mark.parametrize("days", [0, 1, 13.9, 14], ids=str)
def test_a_machine_that_was_off_for_up_to_two_weeks_has_not_jumped(days: float) -> None:
    assert find_jump(ANCHOR, restarted(days * DAY)) is None


def test_a_machine_that_starts_with_the_time_of_its_last_stop_has_not_jumped() -> None:
    assert find_jump(ANCHOR, restarted(-HOUR, up=timedelta(seconds=20))) is None


def test_a_machine_that_starts_in_1970_has_jumped() -> None:
    jump = find_jump(ANCHOR, Readings(wall=datetime(1970, 1, 1, tzinfo=UTC), uptime=20.0, boot_id="two"))
    assert jump is not None
    assert jump.by < -50 * 365 * DAY


def test_an_uptime_that_began_anew_is_another_boot_under_the_same_id() -> None:
    """A container that was started again on a machine that was not."""
    current = Readings(wall=NOON + 5 * DAY, uptime=60.0, boot_id=ANCHOR.boot_id)
    assert find_jump(ANCHOR, current) is None


def test_without_a_boot_id_uptimes_are_not_compared() -> None:
    anchor = Readings(wall=NOON, uptime=5000.0, boot_id="")
    assert find_jump(anchor, Readings(wall=NOON + 5 * DAY, uptime=6000.0, boot_id="")) is None
    assert find_jump(anchor, Readings(wall=NOON + 15 * DAY, uptime=6000.0, boot_id="")) is not None


def test_a_restart_does_not_make_a_noticed_jump_of_a_few_days_into_days_off() -> None:
    ahead = NOON + 10 * DAY
    jump = find_jump(ANCHOR, restarted(10 * DAY + HOUR), noticed_at=ahead)
    assert jump is not None
    assert jump.since == ahead
    assert find_jump(ANCHOR, restarted(2 * DAY), noticed_at=ahead) is None, "put right while it was restarted"


# --- The anchor ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "due"),
    [
        (later(timedelta(seconds=29), timedelta(seconds=29)), False),
        (later(timedelta(seconds=30), timedelta(seconds=30)), True),
        (later(timedelta(seconds=70), timedelta(seconds=5)), True),
        (restarted(HOUR, up=timedelta(minutes=9)), False),
        (restarted(HOUR, up=timedelta(minutes=10)), True),
    ],
    ids=["fresh", "half a minute old", "fresh and a minute off", "just started", "settled"],
)
def test_the_anchor_moves_when_there_is_something_to_write(current: Readings, due: bool) -> None:
    assert is_anchor_due(ANCHOR, current) is due


@pytest.fixture
def anchor(db: None) -> ClockAnchor:
    assert anchor_follow(ANCHOR) is None
    return ClockAnchor.objects.get()


def readings(anchor: ClockAnchor) -> Readings:
    anchor.refresh_from_db()
    return Readings(wall=anchor.wall, uptime=anchor.uptime, boot_id=anchor.boot_id)


def writes(work: Callable[[], object]) -> int:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        work()
    return sum(query["sql"].split()[0] in ("INSERT", "UPDATE", "DELETE") for query in queries)


def test_the_first_look_makes_the_anchor(anchor: ClockAnchor) -> None:
    assert readings(anchor) == ANCHOR
    assert (anchor.noticed_at, anchor.confirmed_by, anchor.confirmed_at) == (None, "", None)


def test_a_clock_that_agrees_takes_the_anchor_along(anchor: ClockAnchor) -> None:
    current = later(10 * DAY, 10 * DAY)
    assert anchor_follow(current) is None
    assert readings(anchor) == current


def test_a_jump_leaves_the_anchor_and_remembers_when_it_was_noticed(anchor: ClockAnchor) -> None:
    noticed = later(400 * DAY)
    jump = anchor_follow(noticed)
    assert jump is not None
    assert jump.since == noticed.wall
    assert readings(anchor) == ANCHOR
    assert anchor.noticed_at == noticed.wall
    again = anchor_follow(later(401 * DAY, DAY))
    assert again is not None
    assert again.since == noticed.wall


def test_a_clock_that_comes_back_ends_the_jump(anchor: ClockAnchor) -> None:
    anchor_follow(later(-30 * DAY))
    back = later(timedelta(seconds=5), timedelta(seconds=5))
    assert anchor_follow(back) is None
    assert readings(anchor) == back
    assert anchor.noticed_at is None


def test_a_confirmed_time_is_the_right_one_from_then_on(anchor: ClockAnchor) -> None:
    ahead = later(400 * DAY)
    assert anchor_follow(ahead) is not None
    anchor_confirm(ahead, by="anna")
    assert readings(anchor) == ahead
    assert (anchor.noticed_at, anchor.confirmed_by, anchor.confirmed_at) == (None, "anna", ahead.wall)
    assert anchor_follow(later(HOUR, HOUR, start=ahead)) is None
    assert anchor_follow(ANCHOR) is not None, "back to the time before"


def test_the_time_can_be_confirmed_before_it_was_ever_looked_at(db: None) -> None:
    anchor_confirm(ANCHOR, by="anna")
    assert readings(ClockAnchor.objects.get()) == ANCHOR


def test_nights_that_are_played_through_in_seconds_do_not_trip(anchor: ClockAnchor) -> None:
    """Each a step of a day, for a year; the uptime hardly moves."""
    for night in range(1, 366):
        assert anchor_follow(later(night * DAY, timedelta(milliseconds=10 * night))) is None


def test_a_correction_soon_after_the_start_is_time_that_the_machine_was_off(anchor: ClockAnchor) -> None:
    """A machine without a battery that was off for five days: it starts where it stopped, then the network tells it."""
    assert anchor_follow(restarted(timedelta(minutes=1), up=timedelta(minutes=1))) is None
    assert anchor_follow(restarted(5 * DAY, up=timedelta(minutes=2))) is None
    settled = restarted(5 * DAY + HOUR, up=HOUR)
    assert anchor_follow(settled) is None
    assert readings(anchor) == settled
    assert anchor_follow(Readings(wall=NOON + 10 * DAY, uptime=7200.0, boot_id="two")) is not None


def test_a_wrong_time_at_the_start_is_over_when_the_network_has_told_the_right_one(anchor: ClockAnchor) -> None:
    assert anchor_follow(Readings(wall=datetime(1970, 1, 1, tzinfo=UTC), uptime=20.0, boot_id="two")) is not None
    assert anchor_follow(restarted(DAY, up=timedelta(minutes=2))) is None
    assert readings(anchor).boot_id == "two"


def test_each_data_folder_has_its_own_anchor(anchor: ClockAnchor) -> None:
    ClockAnchor.objects.update(host="another")
    assert anchor_follow(later(400 * DAY)) is None
    assert ClockAnchor.objects.count() == 2


# --- Writing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        (later(timedelta(seconds=5), timedelta(seconds=5)), 0),
        (later(HOUR, HOUR), 1),
        (later(400 * DAY), 1),
        (restarted(HOUR), 1),
    ],
    ids=["fresh", "agreeing", "jumped", "restarted"],
)
def test_a_look_writes_once_at_most_and_not_again_for_the_same(
    anchor: ClockAnchor, current: Readings, expected: int
) -> None:
    assert writes(lambda: anchor_follow(current)) == expected
    assert writes(lambda: anchor_follow(current)) == 0


def test_pages_ask_without_writing(anchor: ClockAnchor) -> None:
    assert writes(clock_state) == 0
    ClockAnchor.objects.all().delete()
    assert writes(lambda: clock_state() is None) == 0
    assert not ClockAnchor.objects.exists()


@pytest.mark.parametrize("current", [later(400 * DAY), later(HOUR, HOUR)], ids=["jumped", "agreeing"])
def test_a_look_that_is_overtaken_by_a_confirmation_does_not_undo_it(
    anchor: ClockAnchor, current: Readings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, ahead = wall_clock.find_jump, later(400 * DAY)

    def slow(*args: Any) -> Any:
        anchor_confirm(ahead, by="anna")
        return real(*args)

    monkeypatch.setattr(wall_clock, "find_jump", slow)
    anchor_follow(current)
    assert readings(anchor) == ahead
    assert anchor.noticed_at is None


def test_a_jump_is_in_the_log_once(anchor: ClockAnchor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="scheduling.wall_clock"):
        for minutes in range(3):
            anchor_follow(later(400 * DAY, timedelta(minutes=minutes)))
        anchor_follow(later(HOUR, HOUR))
        anchor_follow(later(2 * HOUR, 2 * HOUR))
    assert [(record.levelname, record.message[:33]) for record in caplog.records] == [
        ("WARNING", "The clock jumped forward by 400 d"),
        ("INFO", "the clock is where it should be a"),
    ]


# --- This machine -------------------------------------------------------------------------------------------------


def test_the_machine_is_read() -> None:
    first = read_machine()
    time.sleep(0.05)
    second = read_machine()
    assert abs(second.wall.timestamp() - time.time()) < 5
    assert abs(second.uptime - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
    assert 0.02 <= second.uptime - first.uptime < 5
    assert first.boot_id == second.boot_id != ""


@pytest.mark.django_db
def test_this_machines_clock_has_not_jumped() -> None:
    assert clock_jump() is None
    assert clock_jump() is None
    assert clock_state() is None
    assert not ClockWatch().jumped()


@pytest.mark.django_db
def test_an_anchor_from_which_the_clock_has_jumped_is_seen_until_someone_confirms() -> None:
    clock_jump()
    anchor = ClockAnchor.objects.get()
    ClockAnchor.objects.update(wall=anchor.wall - 400 * DAY)
    state, jump = clock_state(), clock_jump()
    assert state is not None
    assert jump is not None
    assert (state.since, state.text) == (None, jump.text)
    assert round(jump.by / DAY) == 400
    clock_confirm(by="anna")
    assert clock_jump() is None
    assert ClockAnchor.objects.get().confirmed_by == "anna"


def test_a_machine_without_proc_tells_its_uptime_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wall_clock, "_uptime_file", lambda: None)
    assert abs(read_machine().uptime - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
    assert not ClockWatch().jumped()


def test_a_watch_costs_a_loop_next_to_nothing() -> None:
    watch = ClockWatch()
    assert min(timeit.repeat(watch.jumped, number=1000, repeat=5)) / 1000 < 20e-6


@pytest.mark.django_db
def test_the_schedulers_heartbeat_notices_a_jump() -> None:
    clock_jump()
    ClockAnchor.objects.update(wall=read_machine().wall - 400 * DAY)
    SchedulerProcess(size=1)._beat()
    assert ClockAnchor.objects.get().noticed_at is not None
