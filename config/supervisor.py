"""Keeps a few child processes running until a signal asks to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

POLL_SECONDS = 0.2
STOP_SECONDS = 30.0
FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0
# A child that ran this long before it ended had started well: the next delay is the first one again.
SETTLED_SECONDS = 60.0

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run: `name` is for messages, `argv` starts with an absolute path."""

    name: str
    argv: tuple[str, ...]


class Child:
    """One command and the process that runs it at present, if any."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.start_at = 0.0
        self.delay = FIRST_DELAY_SECONDS

    def start(self, now: float) -> None:
        # A session of its own: Ctrl-C in the terminal reaches this process alone, which then stops its children.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "config.child", str(os.getpid()), *self.command.argv], start_new_session=True
        )
        self.started = now

    def ended(self, now: float) -> int | None:
        """The exit status when the process has just ended (negative: the signal); the next start is then due later."""
        status = self.process.poll() if self.process else None
        if status is None:
            return None
        self.process = None
        if now - self.started >= SETTLED_SECONDS:
            self.delay = FIRST_DELAY_SECONDS
        self.start_at = now + self.delay
        self.delay = min(self.delay * 2, LONGEST_DELAY_SECONDS)
        return status


class Supervisor:
    """Starts the commands, starts each again when it ends, and stops them all on SIGTERM, SIGINT or SIGHUP.

    A second signal does not wait any longer. `say` gets a line for each thing worth knowing.
    """

    def __init__(self, commands: Sequence[Command], say: Callable[[str], None]) -> None:
        self.children = [Child(command) for command in commands]
        self.say = say
        self.signals = 0

    def run(self, *, is_ready: Callable[[], bool], when_ready: Callable[[], None], ready_seconds: float) -> int:
        """Run until stopped and return the exit status.

        `when_ready` is called once, as soon as `is_ready` says so. A child that ends before that, or readiness that
        takes longer than `ready_seconds`, stops everything with status 1: trying again does not mend a wrong setting.
        """
        previous = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        try:
            for child in self.children:
                child.start(time.monotonic())
            if not self._wait_until_ready(is_ready, ready_seconds):
                return 0 if self.signals else 1
            when_ready()
            while not self.signals:
                self._restart_ended(time.monotonic())
                time.sleep(POLL_SECONDS)
            return 0
        finally:
            self.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Ask every child to end, wait, and kill what is left after 30 seconds or at a second signal."""
        running = [(child, child.process) for child in self.children if child.process]
        for _, process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while any(process.poll() is None for _, process in running):
            if time.monotonic() > deadline or self.signals > 1:
                break
            time.sleep(POLL_SECONDS / 2)
        for child, process in running:
            if process.poll() is None:
                self.say(f"{child.command.name} did not stop in time and is killed.")
                process.kill()
                process.wait()
            child.process = None

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1

    def _wait_until_ready(self, is_ready: Callable[[], bool], ready_seconds: float) -> bool:
        deadline = time.monotonic() + ready_seconds
        while not self.signals:
            now = time.monotonic()
            for child in self.children:
                status = child.ended(now)
                if status is not None:
                    self.say(f"{child.command.name} did not start ({ending(status)}). What it said is above.")
                    return False
            if is_ready():
                return True
            if now > deadline:
                self.say(f"Keepwell did not answer within {ready_seconds:.0f} seconds and is stopped.")
                return False
            time.sleep(POLL_SECONDS / 4)
        return False

    def _restart_ended(self, now: float) -> None:
        for child in self.children:
            status = child.ended(now)
            if status is not None:
                delay = child.start_at - now
                self.say(f"{child.command.name} ended ({ending(status)}). It is started again in {delay:.0f} s.")
            elif child.process is None and now >= child.start_at:
                child.start(now)


def ending(status: int) -> str:
    """An exit status in words: "status 1" or "signal SIGKILL"."""
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
