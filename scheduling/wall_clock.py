"""The wall clock held against the machine's uptime: after a jump nothing is to be deleted until someone says that the
time is right, or the clock has come back.

Both are read from the machine, never from the clock that a run is given: a simulated history is no jump.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from scheduling import holders
from scheduling.models import ClockAnchor

logger = logging.getLogger(__name__)

# Innocent steps are smaller than this: a clock without a battery that starts with the time it was stopped at and is put
# right over the network (a night), a clock kept in the wrong zone (26 h at most), and whoever moves a clock on by a day
# to see tomorrow's run. What it lets pass makes no copy look older by two of its daily neighbours.
TOLERANCE = timedelta(hours=36)
# A machine that is switched off has no uptime to compare with: a holiday passes, a month is asked about.
LONGEST_OFF = timedelta(days=14)
# How long the anchor of the last boot stays after a start. Without a battery the time comes from the network after a
# while, and is then judged as what it is: time that the machine was off.
SETTLING = timedelta(minutes=10)
# The scheduler asks every few seconds; an anchor that is as young, and agrees so well, need not be written again.
FRESH_SECONDS = 30.0
AGREEING = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """What the machine's clocks say at one moment: `wall` aware, `uptime` in seconds, `boot_id` "" when unknown."""

    wall: datetime
    uptime: float
    boot_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockJump:
    """A wall clock that is not where it should be.

    `by` is positive when it is ahead; `since` is when that was noticed, by the wall clock itself, None when it has
    only just been; `text` is a sentence for people.
    """

    by: timedelta
    since: datetime | None
    text: str


def find_jump(anchor: Readings, current: Readings, noticed_at: datetime | None = None) -> ClockJump | None:
    """The jump between two moments; None when the later wall clock can be right. Pure.

    `noticed_at` is when a jump since the anchor was first noticed. Without it a restart would turn a jump of a few
    days into days that the machine was off.
    """
    by = current.wall - _expected(anchor, current)
    if _same_boot(anchor, current):
        if abs(by) <= TOLERANCE:
            return None
        text = (
            f"The clock jumped {_direction(by)} by {_amount(by)} (it says {_moment(current.wall)}; by the machine's "
            f"uptime it should be about {_moment(_expected(anchor, current))})."
        )
    elif by < -TOLERANCE:
        text = (
            f"The clock went back by {_amount(by)} while the machine was restarted (it says {_moment(current.wall)}; "
            f"it was last seen right at {_moment(anchor.wall)})."
        )
    else:
        jumped_ahead = noticed_at is not None and noticed_at > anchor.wall and current.wall > noticed_at - TOLERANCE
        if by <= (TOLERANCE if jumped_ahead else LONGEST_OFF):
            return None
        text = (
            f"Either the machine was off for {_amount(by)} or the clock is wrong (it says {_moment(current.wall)}; "
            f"before the machine was restarted it was last seen right at {_moment(anchor.wall)})."
        )
    return ClockJump(by=by, since=noticed_at, text=text)


def is_anchor_due(anchor: Readings, current: Readings) -> bool:
    """Whether an anchor that a right clock agrees with is to be put where the clock is now. Pure.

    Any tolerated step moves the anchor at once, and steps are not added up: somebody who moves a clock on night by
    night, to try a month of schedules in an hour, is not to be stopped on the second night. So a clock that creeps by
    a day at a time is not found.
    """
    if not _same_boot(anchor, current):
        return current.uptime >= SETTLING.total_seconds()
    return current.uptime - anchor.uptime >= FRESH_SECONDS or abs(current.wall - _expected(anchor, current)) >= AGREEING


def clock_jump() -> ClockJump | None:
    """The jump that the wall clock has made, None when it is where it should be.

    Keeps the anchor up to date with at most one write, and says once in the log that a jump was noticed.
    """
    return anchor_follow(read_machine())


def clock_state() -> ClockJump | None:
    """What `clock_jump` would say, without writing anything: for pages."""
    anchor = _anchor()
    return find_jump(_readings(anchor), read_machine(), anchor.noticed_at) if anchor else None


def clock_confirm(*, by: str) -> None:
    """Take the time as it is now for right, on the word of the user `by`."""
    anchor_confirm(read_machine(), by=by)


class ClockWatch:
    """Says in a loop, for a microsecond or two, whether the wall clock has jumped since the watch was made.

    Make it before asking `clock_jump`, so that no jump falls between the two.
    """

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = time.time() - _uptime()

    def jumped(self) -> bool:
        return abs(time.time() - _uptime() - self._offset) > _TOLERANCE_SECONDS


def anchor_follow(current: Readings) -> ClockJump | None:
    """Compare `current` with this data folder's anchor, which is made when there is none, and advanced when they agree.

    With a jump the anchor stays, so that the jump is still seen later, and is over by itself when the clock comes back.
    """
    anchor = _anchor()
    if anchor is None:
        # Of two processes that find none the first wins, and the other agrees with it.
        ClockAnchor.objects.bulk_create(
            [ClockAnchor(host=holders.host_id(), **_columns(current))], ignore_conflicts=True
        )
        return None
    jump = find_jump(_readings(anchor), current, anchor.noticed_at)
    if jump is not None:
        if anchor.noticed_at is not None:
            return jump
        if _change(anchor, noticed_at=current.wall):
            logger.warning("%s Nothing is deleted until someone confirms that the time is right.", jump.text)
        return replace(jump, since=current.wall)
    if anchor.noticed_at is not None:
        if _change(anchor, noticed_at=None, **_columns(current)):
            logger.info("the clock is where it should be again")
    elif is_anchor_due(_readings(anchor), current):
        _change(anchor, **_columns(current))
    return None


def anchor_confirm(current: Readings, *, by: str) -> None:
    """Put the anchor at `current`, whatever it said before."""
    confirmed = {**_columns(current), "noticed_at": None, "confirmed_by": by, "confirmed_at": current.wall}
    ClockAnchor.objects.update_or_create(host=holders.host_id(), defaults=confirmed)
    logger.info("the time was confirmed by %s", by)


def read_machine() -> Readings:
    return Readings(wall=datetime.fromtimestamp(time.time(), UTC), uptime=_uptime(), boot_id=_boot_id())


_TOLERANCE_SECONDS = TOLERANCE.total_seconds()


def _uptime() -> float:
    """Seconds since the machine was started, those it slept included.

    Read from a file, because what sets a process's clocks for it (libfaketime) does so by standing before the calls
    that ask for them, CLOCK_BOOTTIME's among them, and would move both sides of the comparison.
    """
    descriptor = _uptime_file()
    if descriptor is None:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return float(os.pread(descriptor, 64, 0).partition(b" ")[0])


@cache
def _uptime_file() -> int | None:
    """Opened once for the life of the process: to open it each time would be most of the cost."""
    try:
        return os.open("/proc/uptime", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _same_boot(anchor: Readings, current: Readings) -> bool:
    """Whether the two uptimes can be compared. A container may have an uptime of its own under its host's boot id."""
    return current.boot_id == anchor.boot_id != "" and current.uptime >= anchor.uptime


def _expected(anchor: Readings, current: Readings) -> datetime:
    """Where the wall clock should be; over a restart, the least that it should be."""
    if not _same_boot(anchor, current):
        return anchor.wall
    return anchor.wall + timedelta(seconds=current.uptime - anchor.uptime)


def _anchor() -> ClockAnchor | None:
    return ClockAnchor.objects.filter(host=holders.host_id()).first()


def _readings(anchor: ClockAnchor) -> Readings:
    return Readings(wall=anchor.wall, uptime=anchor.uptime, boot_id=anchor.boot_id)


def _columns(current: Readings) -> dict[str, Any]:
    return {"wall": current.wall, "uptime": current.uptime, "boot_id": current.boot_id}


def _change(anchor: ClockAnchor, **values: Any) -> bool:
    """Change the anchor if it is still what it was when it was read; False when another process was quicker."""
    unchanged = ClockAnchor.objects.filter(pk=anchor.pk, noticed_at=anchor.noticed_at, **_columns(_readings(anchor)))
    return bool(unchanged.update(**values))


def _direction(by: timedelta) -> str:
    return "forward" if by > timedelta(0) else "back"


def _amount(by: timedelta) -> str:
    hours = round(abs(by) / timedelta(hours=1))
    return f"{hours} hours" if hours < 72 else f"{round(hours / 24)} days"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
