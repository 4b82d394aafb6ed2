from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backups.models import BackupRun
from scheduling.choices import RunOutcome, RunStatus, RunTrigger
from scheduling.timeline import headline, run_timeline

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
NB = "\u00a0"


def timeline(**values: Any) -> list[str]:
    """Each moment in a line: `Queued 12:00 [done] by hand`."""
    run = BackupRun(**{"queued_at": NOON, "trigger": RunTrigger.MANUAL, **values})
    return [
        " ".join(
            part
            for part in (
                moment.name,
                f"{moment.at:%H:%M}" if moment.at else "",
                f"[{moment.state}]",
                moment.note,
                moment.late,
            )
            if part
        ).replace(NB, " ")
        for moment in run_timeline(run, NOON + timedelta(minutes=10))
    ]


def minutes(count: float) -> datetime:
    return NOON + timedelta(minutes=count)


@pytest.mark.parametrize(("served", "note"), [(True, "next"), (False, "when a worker serves the queue")])
def test_a_run_is_next_only_where_a_worker_serves_its_queue(served: bool, note: str) -> None:
    run = BackupRun(queued_at=NOON, trigger=RunTrigger.MANUAL)
    assert [moment.note for moment in run_timeline(run, NOON, served=served) if moment.name == "Starts"] == [note]


def test_a_scheduled_run_tells_how_late_it_was_and_how_long_it_took() -> None:
    assert timeline(
        trigger=RunTrigger.SCHEDULE,
        slot=minutes(-3),
        status=RunStatus.SUCCEEDED,
        started_at=minutes(1),
        finished_at=minutes(5),
    ) == [
        "Scheduled 11:57 [done]",
        "Queued 12:00 [done] by the schedule 3 min late",
        "Started 12:01 [done] waited 1 min",
        "Succeeded 12:05 [done] after 4 min",
    ]


def test_a_moment_is_no_lateness_and_no_wait() -> None:
    assert timeline(slot=minutes(-0.4), status=RunStatus.RUNNING, started_at=minutes(0.005), requested_by="ann") == [
        "Scheduled 11:59 [done]",
        "Queued 12:00 [done] by hand (ann)",
        "Started 12:00 [now] at once",
        "Finishes [ahead] going for 10 min",
    ]


@pytest.mark.parametrize(
    ("values", "last"),
    [
        ({"status": RunStatus.QUEUED}, ["Starts [ahead] next", "Finishes [ahead]"]),
        ({"status": RunStatus.QUEUED, "not_before": minutes(9)}, ["Starts 12:09 [ahead]", "Finishes [ahead]"]),
        (
            {"status": RunStatus.CANCELLING, "started_at": NOON},
            ["Started 12:00 [now] at once", "Stops [ahead] as soon as it can"],
        ),
        (
            {"status": RunStatus.CANCELLED, "finished_at": minutes(1)},
            ["Queued 12:00 [done] by hand", "Cancelled 12:01 [done] before it started"],
        ),
        ({"status": RunStatus.SKIPPED, "finished_at": NOON}, ["Queued 12:00 [done] by hand", "Skipped 12:00 [done]"]),
        (
            {"status": RunStatus.LOST, "started_at": NOON, "finished_at": minutes(2)},
            ["Started 12:00 [done] at once", "Found lost 12:02 [done] after 2 min"],
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_has_not_come_yet_is_ahead_and_an_ending_says_how(values: dict[str, Any], last: list[str]) -> None:
    assert timeline(**values)[-2:] == last


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    moments = timeline(status=RunStatus.FAILED, started_at=minutes(-5), finished_at=minutes(-9))
    assert moments[-2:] == ["Started 11:55 [done] at once", "Failed 11:51 [done] after 0.0 s"]


@pytest.mark.parametrize("status", RunStatus.values)
def test_every_state_has_its_words(status: str) -> None:
    assert headline(BackupRun(status=status)) not in ("", status.replace("_", " ")) or status in ("succeeded", "failed")


def test_a_warning_is_said_and_an_unknown_word_is_shown_as_it_is() -> None:
    warned = BackupRun(status=RunStatus.SUCCEEDED, outcome=RunOutcome.WARNING)
    assert headline(warned) == "succeeded with a warning"
    assert headline(BackupRun(status="half_done")) == "half done"
