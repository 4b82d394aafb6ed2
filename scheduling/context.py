"""What a running run sees of the machinery: its log, its stop signal, and the ways it can end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from scheduling.choices import LogLevel, RunOutcome
from scheduling.progress import Progress
from scheduling.stopping import StopSignal

if TYPE_CHECKING:
    from scheduling.models import Run
    from scheduling.run_log import RunLog


Echo = Callable[[str, str], None]
Now = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How the work of a run ended: a sentence, figures for `result_json`, and whether it was a failure.

    `interrupted`: nobody asked it to stop, the process had to.
    """

    message: str
    figures: dict[str, Any] = field(default_factory=dict)
    outcome: RunOutcome = RunOutcome.OK
    failed: bool = False
    interrupted: bool = False


class RunFailedError(Exception):
    """The work found a problem it can name; the message is shown to people as it is."""

    def __init__(self, message: str, figures: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.figures = figures or {}


class RunStoppedError(Exception):
    """The run was asked to stop and did; `figures` and the sentence `done` say what it had done until then."""

    def __init__(self, figures: dict[str, Any] | None = None, *, done: str = "") -> None:
        super().__init__()
        self.figures = figures or {}
        self.done = done


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Handed to `RunKind.perform`.

    `log` and `progress` may be used from any thread; `stop` is set when the run should end early; `now` is its clock.
    """

    run: Run
    stop: StopSignal
    run_log: RunLog
    progress: Progress = field(default_factory=Progress)
    now: Now = timezone.now

    def log(self, level: str, text: str) -> None:
        self.run_log.add(LogLevel(level), text)

    def hide(self, secret: str) -> None:
        """Keep a secret out of the log, the message and the figures from now on, however it comes to be in them."""
        self.run_log.mask.hide(secret)

    def info(self, text: str) -> None:
        self.log(LogLevel.INFO, text)

    def warning(self, text: str) -> None:
        self.log(LogLevel.WARNING, text)

    def error(self, text: str) -> None:
        self.log(LogLevel.ERROR, text)

    def checkpoint(self) -> None:
        """Raise `RunStoppedError` when the run was asked to stop; call it between steps."""
        if self.stop.is_set():
            raise RunStoppedError
