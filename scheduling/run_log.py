from __future__ import annotations

import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from scheduling.choices import LogLevel
from scheduling.printable import printable

if TYPE_CHECKING:
    from scheduling.context import Echo, Now
    from scheduling.models import LogLine

MAX_LINES = 5000
MAX_LINE_LENGTH = 2000


def printable_line(text: str) -> str:
    """`text` made printable and cut to `MAX_LINE_LENGTH` characters."""
    escaped = printable(text)
    return escaped if len(escaped) <= MAX_LINE_LENGTH else escaped[: MAX_LINE_LENGTH - 1] + "…"


class RunLog:
    """The bounded log of one run. Lines are buffered; `flush` writes them in one statement.

    At most `MAX_LINES` lines are kept; a last line says that there were more. A traceback is kept as lines of its own.
    """

    def __init__(
        self, *, log_model: type[LogLine], run_id: int, echo: Echo | None = None, now: Now = timezone.now
    ) -> None:
        self._log_model: Any = log_model
        self._run_id = run_id
        self._echo = echo
        self._now = now
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._pending: list[tuple[int, datetime, LogLevel, str]] = []
        self._seq = 0

    def add(self, level: LogLevel, text: str) -> None:
        now = self._now()
        for line in text.splitlines() or [""]:
            clean = printable_line(line)
            with self._lock:
                self._seq += 1
                if self._seq <= MAX_LINES:
                    self._pending.append((self._seq, now, level, clean))
                elif self._seq == MAX_LINES + 1:
                    closing = f"The log is full: lines after the first {MAX_LINES} are not kept."
                    self._pending.append((self._seq, now, LogLevel.WARNING, closing))
            if self._echo is not None:
                self._echo(level, clean)

    def flush(self) -> None:
        """Write what is pending. Lines that could not be written stay pending, and the error is raised."""
        with self._write_lock:
            with self._lock:
                batch = list(self._pending)
            if not batch:
                return
            self._log_model.objects.bulk_create(
                [
                    self._log_model(run_id=self._run_id, seq=seq, at=at, level=level, text=text)
                    for seq, at, level, text in batch
                ],
                batch_size=500,
                # A write whose answer was lost is repeated; its lines may be there already.
                ignore_conflicts=True,
            )
            with self._lock:
                del self._pending[: len(batch)]
