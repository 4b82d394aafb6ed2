from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import OperationalError

from maintenance.models import MaintenanceRun, MaintenanceRunLogLine
from scheduling import run_log as module
from scheduling.choices import LogLevel, RunStatus
from scheduling.context import RunContext, RunFailedError, RunResult
from scheduling.executing import execute_run
from scheduling.registry import get_kind, register_kind
from scheduling.run_log import HEAD_BYTES, HEAD_LINES, MAX_LINE_LENGTH, TAIL_BYTES, TAIL_LINES, RunLog
from tests.factories import MaintenanceRunFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def run() -> MaintenanceRun:
    return MaintenanceRunFactory()


@pytest.fixture
def log(run: MaintenanceRun) -> RunLog:
    return RunLog(log_model=MaintenanceRunLogLine, run_id=run.pk)


def lines(run: MaintenanceRun) -> list[str]:
    return list(run.log_lines.order_by("seq").values_list("text", flat=True))


def numbers(run: MaintenanceRun) -> list[int]:
    return list(run.log_lines.order_by("seq").values_list("seq", flat=True))


def assert_bounded(run: MaintenanceRun) -> None:
    sizes = [len(text.encode()) for text in lines(run)]
    assert len(sizes) <= HEAD_LINES + 1 + TAIL_LINES
    assert sum(sizes) <= HEAD_BYTES + TAIL_BYTES + 3 * MAX_LINE_LENGTH


@pytest.fixture
def performing(db: None) -> Iterator[Callable[[Callable[[Any, RunContext], RunResult]], None]]:
    kind = get_kind("maintenance")
    yield lambda perform: register_kind(replace(kind, perform=perform))
    register_kind(kind)


def test_a_log_that_fits_is_kept_as_it_is(run: MaintenanceRun, log: RunLog) -> None:
    for number in range(HEAD_LINES + TAIL_LINES):
        log.add(LogLevel.INFO, str(number))
        if number % 700 == 0:
            log.flush()
    log.flush()
    assert lines(run) == [str(number) for number in range(HEAD_LINES + TAIL_LINES)]


def test_of_a_long_log_the_beginning_and_the_end_are_kept(run: MaintenanceRun, log: RunLog) -> None:
    total = HEAD_LINES + TAIL_LINES + 500
    for number in range(total):
        log.add(LogLevel.INFO, str(number))
    log.flush()
    kept = lines(run)
    assert kept[:HEAD_LINES] == [str(number) for number in range(HEAD_LINES)]
    assert kept[HEAD_LINES] == "500 lines left out here. A log keeps its beginning and its end."
    assert kept[HEAD_LINES + 1 :] == [str(number) for number in range(total - TAIL_LINES, total)]


def test_the_end_moves_on_while_the_log_is_written_and_numbers_only_rise(run: MaintenanceRun, log: RunLog) -> None:
    highest = 0
    for number in range(HEAD_LINES + 5 * TAIL_LINES):
        log.add(LogLevel.INFO, str(number))
        if number % 333 == 0:
            log.flush()
            shown = numbers(run)
            # A page that has shown all up to the highest number misses nothing that comes after.
            assert shown[-1] > highest
            highest = shown[-1]
            assert_bounded(run)
    log.flush()
    kept = lines(run)
    assert kept[-TAIL_LINES:] == [
        str(number) for number in range(HEAD_LINES + 4 * TAIL_LINES, HEAD_LINES + 5 * TAIL_LINES)
    ]
    assert f"{4 * TAIL_LINES:,} lines left out here" in kept[HEAD_LINES]
    assert len(kept) == HEAD_LINES + 1 + TAIL_LINES


def test_a_flood_costs_little_memory_and_time_and_keeps_its_end(run: MaintenanceRun, log: RunLog) -> None:
    ended = threading.Event()

    def flood() -> None:
        for number in range(1_000_000):
            log.add(LogLevel.INFO, f"/home/anna/passwords/file-{number}: Cannot open: Permission denied")
        ended.set()

    thread = threading.Thread(target=flood)
    began, held = time.process_time(), 0
    thread.start()
    while not ended.wait(0.2):
        with log._lock:
            held = max(held, sum(line.size for line in (*log._head, *log._tail)))
        log.flush()
    thread.join()
    log.flush()
    taken = time.process_time() - began
    assert 0 < held < HEAD_BYTES + TAIL_BYTES
    assert taken < 15
    assert lines(run)[-1].startswith("/home/anna/passwords/file-999999:")
    assert_bounded(run)


def test_a_log_is_bounded_in_bytes_too(run: MaintenanceRun, log: RunLog) -> None:
    for number in range(8000):
        log.add(LogLevel.INFO, f"{number} " + "é" * 5000)
    assert sum(line.size for line in log._tail) <= TAIL_BYTES
    log.flush()
    kept = lines(run)
    assert_bounded(run)
    assert kept[0].startswith("0 é")
    assert kept[-1].startswith("7999 é")
    assert all(len(text) <= MAX_LINE_LENGTH for text in kept)


def test_one_enormous_text_loses_its_middle(run: MaintenanceRun, log: RunLog) -> None:
    log.add(LogLevel.ERROR, "first\n" + "x\n" * 5_000_000 + "last")
    log.flush()
    kept = lines(run)
    assert (kept[0], kept[-1]) == ("first", "last")
    assert_bounded(run)


def test_lines_that_cannot_be_written_are_not_lost_and_not_too_many(
    run: MaintenanceRun, log: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(module.RunLog, "_write", away)
        for number in range(HEAD_LINES + 3 * TAIL_LINES):
            log.add(LogLevel.INFO, str(number))
            if number % 1000 == 0:
                with pytest.raises(OperationalError):
                    log.flush()
        held = len(log._batch) + len(log._head) + len(log._tail)
    assert held <= HEAD_LINES + 2 * TAIL_LINES
    log.flush()
    kept = lines(run)
    assert kept[:HEAD_LINES] == [str(number) for number in range(HEAD_LINES)]
    assert kept[-1] == str(HEAD_LINES + 3 * TAIL_LINES - 1)
    assert_bounded(run)


def test_what_was_left_out_is_counted_exactly(run: MaintenanceRun, log: RunLog) -> None:
    total = HEAD_LINES + 7777
    for number in range(total):
        log.add(LogLevel.INFO, str(number))
        if number % 2500 == 0:
            log.flush()
    log.flush()
    kept = lines(run)
    said = re.match(r"([\d,]+) lines left out", kept[HEAD_LINES])
    assert said is not None
    assert int(said[1].replace(",", "")) == total - (len(kept) - 1)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("\u202a\u202b\u202c\u202d\u2066\u2067\u2068\u2069", r"\u202a\u202b\u202c\u202d\u2066\u2067\u2068\u2069"),
        ("\u200b\u200e\u200f\ufeff", r"\u200b\u200e\u200f\ufeff"),
        ("nul\0 bell\a back\b", r"nul\x00 bell\x07 back\x08"),
        ("\x9b31m", r"\x9b31m"),
        ("\udcff", r"\xff"),
        ("Größe 5 €", "Größe 5 €"),
    ],
)
def test_what_could_forge_a_line_or_a_terminal_is_escaped(
    raw: str, shown: str, run: MaintenanceRun, log: RunLog
) -> None:
    log.add(LogLevel.INFO, raw)
    log.flush()
    assert lines(run) == [shown]


def test_echo_and_log_say_the_same_and_neither_says_a_secret(run: MaintenanceRun) -> None:
    heard: list[str] = []
    log = RunLog(log_model=MaintenanceRunLogLine, run_id=run.pk, echo=lambda _level, text: heard.append(text))
    log.mask.hide("hunter2000")
    log.add(LogLevel.INFO, "using hunter2000 at postgres://anna:secret@db\nnext \x1b")
    log.flush()
    assert heard == lines(run) == ["using *** at postgres://anna:***@db", r"next \x1b"]


def test_a_secret_that_is_named_after_its_line_is_masked_in_the_tail(run: MaintenanceRun, log: RunLog) -> None:
    for _ in range(HEAD_LINES):
        log.add(LogLevel.INFO, "x")
    log.add(LogLevel.INFO, "hunter2000")
    log.mask.hide("hunter2000")
    log.flush()
    assert lines(run)[-1] == "***"


def hidden(context: RunContext) -> None:
    context.hide("hunter2000")


def test_a_failed_runs_message_and_figures_hide_what_was_named(performing: Any, run: MaintenanceRun) -> None:
    def perform(_run: Any, context: RunContext) -> RunResult:
        hidden(context)
        raise RunFailedError("cannot log in with hunter2000", {"tried": ["hunter2000", "/etc/x"], "token": "abc"})

    performing(perform)
    ended = execute_run("maintenance", run.pk)
    assert ended is not None
    assert (ended.status, ended.message) == (RunStatus.FAILED, "cannot log in with ***")
    assert ended.result_json == {"tried": ["***", "/etc/x"], "token": "***"}
    assert lines(run)[-1] == "cannot log in with ***"


def test_a_traceback_hides_what_was_named_everywhere(
    performing: Any, run: MaintenanceRun, caplog: pytest.LogCaptureFixture
) -> None:
    def perform(_run: Any, context: RunContext) -> RunResult:
        hidden(context)
        raise OSError("connection to postgres://anna:swordfish@db failed for hunter2000")

    performing(perform)
    ended = execute_run("maintenance", run.pk)
    assert ended is not None
    everything = "\n".join([ended.message, *lines(run), caplog.text])
    assert "OSError: connection to postgres://anna:***@db failed for ***" in everything
    assert "Traceback" in caplog.text
    assert "swordfish" not in everything
    assert "hunter2000" not in everything
