from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from scheduling.progress import STALLED_SECONDS, Progress

NOW = datetime(2026, 11, 27, tzinfo=UTC)


class Hand:
    """A clock whose hand is moved by hand."""

    at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def progress(hand: Hand) -> Progress:
    return Progress(clock=hand)


def second(progress: Progress, hand: Hand, **figures: Any) -> dict[str, Any] | None:
    hand.at += 1
    if figures:
        progress.update(**figures)
    return progress.snapshot(NOW)


def test_the_rate_and_the_time_left_come_from_what_was_done(progress: Progress, hand: Hand) -> None:
    second(progress, hand, step="etc", bytes=0, bytes_total=1000)
    found = second(progress, hand, bytes=100)
    assert found is not None
    assert (found["rate"], found["seconds_left"], found["at"]) == (100.0, 9, NOW.isoformat())


def test_items_have_a_rate_where_nothing_counts_bytes(progress: Progress, hand: Hand) -> None:
    second(progress, hand, items=0, items_total=100)
    found = second(progress, hand, items=20)
    assert found is not None
    assert (found["rate"], found["seconds_left"]) == (20.0, 4)


def test_a_new_step_starts_anew(progress: Progress, hand: Hand) -> None:
    second(progress, hand, step="etc", bytes=500, bytes_total=1000, estimated=True)
    assert second(progress, hand, step="home", bytes=1) == {"step": "home", "bytes": 1, "at": NOW.isoformat()}


def test_nothing_new_is_nothing_to_write_down(progress: Progress, hand: Hand) -> None:
    assert progress.snapshot(NOW) is None
    second(progress, hand, step="etc", bytes=0)
    assert second(progress, hand) is None


def test_what_stands_still_says_so_once_and_goes_on_at_its_own_speed(progress: Progress, hand: Hand) -> None:
    second(progress, hand, bytes=0, bytes_total=1000)
    second(progress, hand, bytes=100)
    seen = [found for _ in range(20) if (found := second(progress, hand)) is not None]
    assert [(found["rate"], "seconds_left" in found) for found in seen] == [(0.0, False)]
    assert hand.at > STALLED_SECONDS
    found = second(progress, hand, bytes=200)
    found = second(progress, hand, bytes=300)
    assert found is not None
    assert (found["rate"], found["seconds_left"]) == (100.0, 7)


def test_an_estimate_that_proves_too_small_is_dropped(progress: Progress, hand: Hand) -> None:
    second(progress, hand, bytes=0, bytes_total=100, files=1, files_total=10, estimated=True)
    found = second(progress, hand, bytes=101, files=10)
    assert found is not None
    assert "bytes_total" not in found
    assert "seconds_left" not in found
    assert found["files_total"] == 10


def test_a_known_total_stays_whatever_is_counted(progress: Progress, hand: Hand) -> None:
    found = second(progress, hand, items=11, items_total=10)
    assert found is not None
    assert found["items_total"] == 10


def test_figures_that_are_counted_anyway_are_asked_for_when_they_are_written_down(
    progress: Progress, hand: Hand
) -> None:
    counts = {"bytes": 0}
    with progress.following(lambda: dict(counts)):
        second(progress, hand)
        counts["bytes"] = 50
        found = second(progress, hand)
        assert found is not None
        assert (found["bytes"], found["rate"]) == (50, 50.0)
        assert second(progress, hand) is None
        counts["bytes"] = 70
    found = second(progress, hand)
    assert found is not None
    assert found["bytes"] == 70
