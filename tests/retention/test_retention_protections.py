"""Copies that are pinned, held or in use (R8, R19): as far as the plan decides it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retention_samples import (
    LONG_AFTER,
    START,
    UNLIMITED_GUARDS,
    copy_at,
    daily_copies,
    deleted,
    kept,
    kinds,
    policies,
    schedules,
    verdict_on,
)

from backups.retention import Candidate, Policy, Protection, plan

DAY = timedelta(days=1)
PINNED = Protection(kind="pinned", text="pinned by anna: tax records")
IN_USE = Protection(kind="in_use", text="being restored since 2026-01-04 02:30")


def protected(copy: Candidate, *protections: Protection) -> Candidate:
    values = {field: getattr(copy, field) for field in Candidate.__dataclass_fields__}
    return Candidate(**values | {"protections": protections})


@pytest.mark.parametrize("kind", ["pinned", "held", "in_use"])
def test_a_protected_copy_stays_and_says_that_nothing_else_keeps_it(kind: str) -> None:
    copies = daily_copies(10)
    copies[2] = protected(copies[2], Protection(kind=kind, text="why"))

    made = plan(copies, Policy(keep_last=2), LONG_AFTER)

    assert kept(made) == {copies[2].uid, copies[-1].uid, copies[-2].uid}
    assert [(reason.kind, reason.text) for reason in verdict_on(made, copies[2]).reasons] == [
        (kind, "why"),
        ("would_delete", "no rule holds it"),
    ]


def test_a_copy_that_rules_keep_as_well_lists_the_rules_first_and_then_every_protection() -> None:
    copies = daily_copies(3)
    copies[-2] = protected(copies[-2], PINNED, IN_USE)

    verdict = verdict_on(plan(copies, Policy(keep_last=2), LONG_AFTER), copies[-2])

    assert verdict.text == f"last 2 of 2; {PINNED.text}; {IN_USE.text}"
    assert kinds(verdict) == ["rule", "pinned", "in_use"]


def test_a_protected_copy_uses_its_slot_like_any_other() -> None:
    copies = daily_copies(5)
    copies[-1] = protected(copies[-1], PINNED)

    assert kept(plan(copies, Policy(keep_last=2), LONG_AFTER)) == {copies[-1].uid, copies[-2].uid}


def test_a_flawed_copy_and_one_from_the_future_list_their_protections_too() -> None:
    flawed = copy_at(START, "bad", flaw="suspect", protections=(PINNED,))
    future = copy_at(LONG_AFTER + DAY, "late", protections=(PINNED,))

    made = plan([flawed, future, copy_at(START + DAY)], Policy(keep_last=1), LONG_AFTER)

    assert kinds(verdict_on(made, flawed)) == ["flaw", "pinned"]
    assert kinds(verdict_on(made, future)) == ["future", "pinned"]


def test_without_a_rule_a_protection_is_still_listed() -> None:
    copy = copy_at(START, protections=(PINNED,))

    assert kinds(verdict_on(plan([copy], Policy(), LONG_AFTER), copy)) == ["no_rule", "pinned"]


def test_a_protection_holds_until_the_moment_at_which_it_ends() -> None:
    ends = START + 30 * DAY
    held = Protection(kind="held", text="audit", until=ends)
    copies = daily_copies(10)
    copies[0] = protected(copies[0], held)
    policy = Policy(keep_last=1)

    before = plan(copies, policy, ends - timedelta(microseconds=1), UNLIMITED_GUARDS)
    after = plan(copies, policy, ends, UNLIMITED_GUARDS)

    assert copies[0].uid in kept(before)
    assert copies[0].uid in deleted(after)
    assert kinds(verdict_on(after, copies[0])) == ["exhausted", "hint"]
    assert before.digest != after.digest


def test_a_protection_that_ends_in_the_hour_that_comes_twice_ends_at_its_own_moment() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    held = Protection(kind="held", text="audit", until=datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=berlin))

    assert held.holds_at(datetime(2026, 10, 25, 2, 50, tzinfo=berlin))
    assert not held.holds_at(datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=berlin))
    assert not held.holds_at(datetime(2026, 10, 25, 1, 10, tzinfo=timezone.utc))  # noqa: UP017 - not the very same UTC


@given(schedules(protected="ending"), policies(empty=True), st.integers(0, 60 * 24 * 900))
def test_r19_nothing_protected_is_deleted(copies: list[Candidate], policy: Policy, minutes: int) -> None:
    now = START + timedelta(minutes=minutes)

    for verdict in plan(copies, policy, now).delete:
        assert not any(held.until is None or held.until > now for held in verdict.candidate.protections)


@given(schedules(protected="ending"), policies(empty=True), st.integers(0, 60 * 24 * 900))
def test_protections_change_nothing_for_the_other_copies(copies: list[Candidate], policy: Policy, minutes: int) -> None:
    now = START + timedelta(minutes=minutes)
    free = [protected(copy) for copy in copies]

    without = deleted(plan(free, policy, now))

    assert deleted(plan(copies, policy, now)) == without - {copy.uid for copy in copies if copy.protections_at(now)}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"text": "pinned by anna: taxes of 2025"}, True),
        ({"kind": "held"}, False),
        ({"until": LONG_AFTER + DAY}, False),
    ],
    ids=str,
)
def test_the_digest_covers_a_protections_kind_and_end_and_not_its_words(change: dict[str, object], same: bool) -> None:
    values = {"kind": "pinned", "text": "pinned by anna"}
    digests = [
        plan([copy_at(START, protections=(Protection(**held),))], Policy(keep_last=1), LONG_AFTER).digest
        for held in (values, values | change)
    ]

    assert (digests[0] == digests[1]) is same
    assert plan([copy_at(START)], Policy(keep_last=1), LONG_AFTER).digest not in digests


def test_the_order_of_protections_is_no_part_of_the_digest() -> None:
    one, other = (
        plan([copy_at(START, protections=held)], Policy(keep_last=1), LONG_AFTER).digest
        for held in ((PINNED, IN_USE), (IN_USE, PINNED))
    )

    assert one == other


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "guarded", "text": "x"}, "'guarded' is not a protection"),
        ({"kind": "held", "text": "audit", "until": datetime(2026, 1, 1)}, "'audit' ends at a time without a zone"),
    ],
)
def test_an_unusable_protection_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Protection(**values)
