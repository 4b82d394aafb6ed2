"""The log of a run: bounded in lines and in bytes, without secrets, and with its end, which matters most."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from scheduling.choices import LogLevel
from scheduling.masking import Mask, mask_key_blocks
from scheduling.printable import printable
from scheduling.units import counted

if TYPE_CHECKING:
    from scheduling.context import Echo, Now
    from scheduling.models import LogLine

# The first lines of a log stay, and the last ones; what is between them goes.
HEAD_LINES = 4000
HEAD_BYTES = 2 << 20
TAIL_LINES = 1000
TAIL_BYTES = 1 << 19
MAX_LINE_LENGTH = 2000
# What is longer is cut before anything else is done with it: masks need a little of what follows.
RAW_LINE_LENGTH = 4 * MAX_LINE_LENGTH
# A text of many lines, such as a traceback, that is longer than this loses its middle.
MAX_TEXT_LENGTH = 1 << 18


@dataclass(slots=True)
class _Line:
    """A line on its way. One of the tail stays as it came until it is written: most lines of a flood never are."""

    at: datetime
    level: LogLevel
    text: str
    size: int
    is_tail: bool
    seq: int = 0


class RunLog:
    """The log of one run. Lines are buffered; `flush` writes them, in a few statements however many they are.

    Kept are the first lines (`HEAD_LINES`) and the last ones (`TAIL_LINES`), with a line between them that says how
    many were left out. Numbers only ever rise; lines of the tail that go later leave gaps. What has many lines, such
    as a traceback, is kept as lines of its own.
    """

    def __init__(
        self,
        *,
        log_model: type[LogLine],
        run_id: int,
        echo: Echo | None = None,
        now: Now = timezone.now,
        mask: Mask | None = None,
    ) -> None:
        self.mask = mask or Mask()
        self._log_model: Any = log_model
        self._run_id = run_id
        self._echo = echo
        self._now = now
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._head: list[_Line] = []
        self._head_lines = 0
        self._head_bytes = 0
        self._tail: deque[_Line] = deque()
        self._tail_bytes = 0
        self._left_out = 0
        # What follows is `flush`'s alone. A batch stays until it is known to be written.
        self._batch: list[_Line] = []
        self._seq = 0
        self._gap = 0
        self._written: deque[tuple[int, int]] = deque()
        self._written_bytes = 0
        self._said = 0

    def add(self, level: LogLevel, text: str) -> None:
        now = self._now()
        for line in _lines(text):
            clean = None if self._is_head_full and self._echo is None else self.clean(line)
            with self._lock:
                self._take(now, level, line, clean)
            if self._echo is not None and clean is not None:
                self._echo(level, clean)

    def clean(self, text: str) -> str:
        """One line as it is kept: without secrets, printable, and not too long."""
        shown = printable(self.mask.text(text[:RAW_LINE_LENGTH]))
        return shown if len(shown) <= MAX_LINE_LENGTH else shown[: MAX_LINE_LENGTH - 1] + "…"

    def flush(self) -> None:
        """Write what is pending. Lines that could not be written stay pending, and the error is raised."""
        with self._write_lock:
            while self._batch or self._take_batch():
                self._write(self._batch)
                self._batch = []
            self._drop_oldest()
            self._say_what_was_left_out()

    @property
    def _is_head_full(self) -> bool:
        return self._head_lines >= HEAD_LINES or self._head_bytes >= HEAD_BYTES

    def _take(self, now: datetime, level: LogLevel, raw: str, clean: str | None) -> None:
        if not self._is_head_full:
            text = self.clean(raw) if clean is None else clean
            line = _Line(now, level, text, _bytes(text), is_tail=False)
            self._head.append(line)
            self._head_lines += 1
            self._head_bytes += line.size
            return
        raw = raw[:RAW_LINE_LENGTH]
        line = _Line(now, level, raw, _bytes(raw), is_tail=True)
        self._tail.append(line)
        self._tail_bytes += line.size
        while len(self._tail) > TAIL_LINES or self._tail_bytes > TAIL_BYTES:
            self._tail_bytes -= self._tail.popleft().size
            self._left_out += 1

    def _take_batch(self) -> bool:
        """Take what is pending, and give it its numbers; False when nothing is."""
        with self._lock:
            self._batch = [*self._head, *self._tail]
            self._head = []
            self._tail.clear()
            self._tail_bytes = 0
        for line in self._batch:
            self._seq += 1
            if line.is_tail:
                if not self._gap:
                    # Kept free for the line that says how many are missing.
                    self._gap = self._seq
                    self._seq += 1
                line.text = self.clean(line.text)
                line.size = _bytes(line.text)
            line.seq = self._seq
        return bool(self._batch)

    def _write(self, batch: Sequence[_Line]) -> None:
        self._log_model.objects.bulk_create(
            [
                self._log_model(run_id=self._run_id, seq=line.seq, at=line.at, level=line.level, text=line.text)
                for line in batch
            ],
            batch_size=500,
            # A write whose answer was lost is repeated; its lines may be there already.
            ignore_conflicts=True,
        )
        for line in batch:
            if line.is_tail:
                self._written.append((line.seq, line.size))
                self._written_bytes += line.size

    def _drop_oldest(self) -> None:
        """Remove of the tail that was written what is too much by now."""
        count, size = 0, self._written_bytes
        while len(self._written) - count > TAIL_LINES or size > TAIL_BYTES:
            size -= self._written[count][1]
            count += 1
        if not count:
            return
        last = self._written[count - 1][0]
        self._log_model.objects.filter(run_id=self._run_id, seq__gt=self._gap, seq__lte=last).delete()
        for _ in range(count):
            self._written.popleft()
        self._written_bytes = size
        with self._lock:
            self._left_out += count

    def _say_what_was_left_out(self) -> None:
        left_out = self._left_out
        if left_out == self._said:
            return
        text = f"{counted(left_out, 'line')} left out here. A log keeps its beginning and its end."
        said = self._log_model.objects.filter(run_id=self._run_id, seq=self._gap)
        if not said.update(text=text):
            self._log_model.objects.create(
                run_id=self._run_id, seq=self._gap, at=self._now(), level=LogLevel.WARNING, text=text
            )
        self._said = left_out


def _lines(text: str) -> list[str]:
    text = mask_key_blocks(text)
    if len(text) > MAX_TEXT_LENGTH:
        half = MAX_TEXT_LENGTH // 2
        missing = f"… {len(text) - 2 * half:,} characters left out …"
        text = f"{text[:half]}\n{missing}\n{text[-half:]}"
    return text.splitlines() or [""]


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
