from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.progress_bar import SILENT, progress_bar

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NB = "\u00a0"

NAMES = ("bytes", "bytes_total", "files", "files_total", "items", "items_total", "rate", "seconds_left", "at", "step")
JUNK = (
    st.none() | st.booleans() | st.text(max_size=5) | st.floats() | st.integers() | st.lists(st.integers(), max_size=2)
)


def bar(**figures: Any) -> Any:
    return progress_bar(figures, NOW)


@given(st.dictionaries(st.sampled_from([*NAMES, "estimated", "colour"]), JUNK))
def test_whatever_a_row_holds_is_shown_or_left_out(figures: dict[str, Any]) -> None:
    shown = progress_bar(figures, NOW)
    if shown is not None:
        assert shown.percent is None or 0 <= shown.percent <= 100
        assert shown.words


@given(st.integers(0, 10**15), st.integers(1, 10**15), st.booleans())
def test_only_what_is_done_is_a_hundred_percent(done: int, total: int, estimated: bool) -> None:
    percent = bar(bytes=done, bytes_total=total, estimated=estimated).percent
    if estimated:
        # Past its estimate the run is at an unknown place, and at its estimate not sure to be done.
        assert (percent is None) if done > total else (percent is not None and percent <= 99)
    else:
        assert (percent == 100) is (done >= total)


@pytest.mark.parametrize(
    ("figures", "amounts"),
    [
        ({"bytes": 2**30, "bytes_total": 2**31, "files": 1}, (f"1.0{NB}GiB of 2.0{NB}GiB", "1 file")),
        ({"bytes": 2**30, "bytes_total": 2**31, "estimated": True}, (f"1.0{NB}GiB of about 2.0{NB}GiB",)),
        ({"items": 3, "items_total": 1204}, ("3 of 1,204 items",)),
        ({"files": 12_000, "files_total": 48_000, "estimated": True}, ("12,000 of about 48,000 files",)),
        ({"step": "x"}, ()),
    ],
    ids=str,
)
def test_amounts_say_how_much_of_how_much(figures: dict[str, Any], amounts: tuple[str, ...]) -> None:
    assert bar(**figures).amounts == amounts


def test_rate_and_time_left_have_their_units() -> None:
    assert (bar(bytes=1, rate=2**20).rate, bar(items=1, rate=40).rate) == (f"1.0{NB}MiB/s", "40 a second")
    assert (bar(items=1, seconds_left=90).left, bar(items=1, seconds_left=0).left) == (
        f"1{NB}min 30{NB}s left",
        f"0{NB}s left",
    )
    assert bar(items=1, seconds_left=90, estimated=True).left == f"about 1{NB}min 30{NB}s left"


def test_a_bar_says_when_nothing_new_has_come_for_a_while() -> None:
    assert bar(items=1, at=(NOW - SILENT).isoformat()).silent_for == f"30{NB}s"
    assert bar(items=1, at=(NOW - SILENT + timedelta(seconds=1)).isoformat()).silent_for == ""
    # A time without a zone says nothing that could be compared.
    assert bar(items=1, at="2026-11-24T11:00:00").silent_for == ""


@pytest.mark.parametrize("figures", [None, {}, [], "x", 3], ids=str)
def test_a_run_that_said_nothing_has_no_figures(figures: Any) -> None:
    assert progress_bar(figures, NOW) is None
