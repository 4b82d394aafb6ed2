"""Verdicts in one sentence, from the reasons that the planner gives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backups.retention import Candidate, Policy, Protection, Schedule, plan, simulate
from backups.verdict_words import delete_words, going_words, keep_words, reasons_of

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
"""A Wednesday."""


def copies(*days_ago: float, **values: Any) -> list[Candidate]:
    return [
        Candidate(uid=f"{number:016x}", created=NOON - timedelta(days=days), size=1, **values)
        for number, days in enumerate(days_ago)
    ]


def said(candidates: list[Candidate], place: int, **policy: Any) -> str:
    """What is said of the candidate at `place` under a policy, with the word of its verdict."""
    verdicts = plan(candidates, Policy.from_mapping(policy), NOON).verdicts
    verdict = next(verdict for verdict in verdicts if verdict.uid == candidates[place].uid)
    reasons = [reason.to_mapping() for reason in verdict.reasons]
    return f"keep: {keep_words(reasons)}" if verdict.keep else f"delete: {delete_words(reasons)}"


PINNED = (Protection(kind="pinned", text="pinned for ever by anna: tax"),)


@pytest.mark.parametrize(
    ("candidates", "place", "policy", "words"),
    [
        (copies(0, 1, 2), 0, {"keep_daily": 3}, "keep: it is the newest good copy"),
        (copies(0, 1, 2), 1, {"keep_daily": 3}, "keep: it is the newest of its day (daily 2 of 3)"),
        (copies(0, 7), 1, {"keep_daily": 9, "keep_weekly": 4}, "keep: it is the newest of its week (weekly 2 of 4)"),
        (copies(0, 0.1), 1, {"keep_last": 2}, "keep: it is one of the newest (last 2 of 2)"),
        (copies(0, 1), 1, {"keep_within": "7d"}, "keep: it was taken within 7d of the newest"),
        (
            copies(0, 1),
            1,
            {"keep_within_daily": "7d"},
            "keep: it is the newest of its day (daily within 7d of the newest)",
        ),
        (
            copies(0, 0.1),
            1,
            {"keep_yearly": 3},
            "keep: it is the oldest copy, and the rule has a place left (oldest yearly)",
        ),
        (copies(0, 1), 1, {}, "keep: no rule is set, so everything is kept"),
        (copies(0, -1), 1, {"keep_last": 1}, "keep: it is dated in the future, so it does not count"),
        (
            [*copies(0), Candidate(uid="f" * 16, created=NOON - timedelta(days=1), size=0, flaw="suspect")],
            1,
            {"keep_last": 1},
            "keep: it is suspect, and what is not good is neither counted nor deleted",
        ),
        (
            copies(0, 1, verified_at=NOON)[1:] + copies(0),
            0,
            {"keep_last": 1},
            "keep: it is the newest verified copy",
        ),
        (
            copies(0) + copies(0, 1, protections=PINNED)[1:],
            1,
            {"keep_last": 1},
            "keep: no rule holds it, but it is pinned for ever by anna: tax",
        ),
        # One place more would hold it: whatever else is said of it, that is why it goes.
        (
            copies(0, 1, 2, 3, 800),
            3,
            {"keep_daily": 3, "keep_monthly": 5},
            "delete: all 3 daily places are used by newer copies",
        ),
        (copies(0, 1), 1, {"keep_daily": 1}, "delete: the one daily place is used by a newer copy"),
        (copies(0, 1), 1, {"keep_last": 1}, "delete: a newer copy is there"),
        (copies(0, 1, 2, 3), 3, {"keep_last": 3}, "delete: 3 newer copies are there"),
        (
            copies(0, 0.1, 1),
            1,
            {"keep_daily": 7},
            "delete: 2026-11-25 12:00 is newer in the same day",
        ),
        (
            copies(0, 40),
            1,
            {"keep_within": "7d"},
            "delete: it is older than the rule reaches (within 7d: it begins after 2026-11-18 12:00)",
        ),
    ],
)
def test_a_verdict_in_one_sentence(candidates: list[Candidate], place: int, policy: dict[str, Any], words: str) -> None:
    assert said(candidates, place, timezone="UTC", **policy) == words


def going(policy: dict[str, Any], *days_ago: float, place: int = 0, days: int = 800) -> str:
    """What lets a copy go when one is made every noon and cleaned up at one."""
    noons = [NOON + timedelta(days=day) for day in range(1, days)]
    schedule = Schedule(backups=noons, cleanups=[noon + timedelta(hours=1) for noon in noons])
    until = NOON + timedelta(days=days)
    found = copies(*days_ago)
    timeline = simulate(found, Policy.from_mapping({"timezone": "UTC", **policy}), schedule, NOON, until)
    fate = timeline.fates[found[place].uid]
    assert fate.deleted_at is not None
    words = going_words(
        [reason.to_mapping() for reason in fate.reasons],
        created=fate.created,
        deleted_at=fate.deleted_at,
        by_at=fate.by_at,
        zone=UTC,
    )
    return f"{fate.deleted_at:%d.%m.}: {words}"


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"keep_weekly": 4}, "26.11.: when the copy of 26 November takes its place as the newest of week 48"),
        ({"keep_monthly": 4}, "26.11.: when the copy of 26 November takes its place as the newest of November 2026"),
        ({"keep_yearly": 4}, "26.11.: when the copy of 26 November takes its place as the newest of 2026"),
        ({"keep_daily": 7}, "02.12.: when all 7 daily places are used by newer copies"),
        (
            {"keep_last": 3, "keep_daily": 7, "keep_weekly": 4},
            "02.12.: when all 7 daily places are used by newer copies",
        ),
        ({"keep_within": "30d"}, "25.12.: when it is older than the rule reaches (within 30d of the newest)"),
        (
            {"keep_within": "30d", "keep_daily": 7},
            "25.12.: when it is older than the rule reaches (within 30d of the newest)",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_lets_a_copy_go(policy: dict[str, Any], words: str) -> None:
    # The oldest takes what places are left; it is not what is asked about.
    assert going(policy, 0, 900) == words


def test_the_oldest_copy_goes_when_its_rule_has_no_place_left() -> None:
    assert going({"keep_weekly": 4}, 0) == "14.12.: because 2026-11-29 12:00 is newer in the same week"


@pytest.mark.parametrize("verdict", [None, {}, [], "text", {"reasons": None}, {"reasons": [1, {"x": 1}]}], ids=repr)
def test_what_is_no_verdict_has_no_reasons(verdict: object) -> None:
    assert reasons_of(verdict) == []
    assert delete_words([]) == keep_words([]) == ""
