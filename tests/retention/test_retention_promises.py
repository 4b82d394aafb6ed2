"""What a cleanup must never do, as far as the plan decides it, and what retention promises as a whole."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retention_samples import (
    LONG_AFTER,
    START,
    copy_at,
    counts,
    daily_copies,
    deleted,
    durations,
    kept,
    kinds,
    policies,
    schedules,
    verdict_on,
)

from backups.retention import Candidate, Duration, Plan, Policy, plan
from backups.retention.policy import COUNT_FIELDS, DURATION_FIELDS, UNLIMITED

DAY = timedelta(days=1)
floors = st.integers(0, 4)


# R2


@pytest.mark.parametrize(
    "mapping",
    [{}, {"keep_last": 0}, {"keep_daily": None, "keep_within": ""}, {"keep_within": "0d"}, {"timezone": "Asia/Tokyo"}],
    ids=str,
)
def test_r2_a_policy_without_a_rule_keeps_everything_and_says_so(mapping: dict[str, object]) -> None:
    copies = daily_copies(50)

    made = plan(copies, Policy.from_mapping(mapping), LONG_AFTER)

    assert made.delete == ()
    assert made.notes == ("No rule is set: everything is kept.",)
    assert {reason.text for verdict in made.verdicts for reason in verdict.reasons} == {"no rule: everything is kept"}


# R3


@pytest.mark.parametrize(("minimum", "stay"), [(0, 1), (1, 1), (3, 3), (10, 10), (99, 10)])
def test_r3_the_newest_good_copies_stay_up_to_the_minimum(minimum: int, stay: int) -> None:
    copies = daily_copies(10)
    bad = copy_at(copies[-1].created + DAY, "bad", flaw="suspect")

    made = plan([*copies, bad], Policy(keep_within=Duration(hours=1)), LONG_AFTER, minimum)

    assert kept(made) == {copy.uid for copy in copies[-stay:]} | {"bad"}
    assert all("minimum" in kinds(verdict_on(made, copy)) for copy in copies[-stay:])


@given(schedules(), policies(empty=True), floors)
def test_r3_a_pair_never_has_fewer_good_copies_than_the_minimum(
    copies: list[Candidate], policy: Policy, minimum: int
) -> None:
    made = plan(copies, policy, LONG_AFTER, minimum)

    good = [copy for copy in copies if not copy.flaw]
    assert sum(1 for verdict in made.keep if not verdict.candidate.flaw) >= min(len(good), max(1, minimum))


def test_r3_without_a_good_copy_nothing_is_deleted() -> None:
    flawed = [copy_at(START + number * DAY, flaw="quarantined") for number in range(5)]

    made = plan(flawed, Policy(keep_last=1), LONG_AFTER)

    assert made.delete == ()
    assert "There is no good copy: nothing is deleted." in made.notes


# R4


@pytest.mark.parametrize("flaw", ["suspect", "missing", "quarantined", "failed"])
def test_r4_a_flawed_copy_uses_no_slot_and_is_not_deleted(flaw: str) -> None:
    copies = daily_copies(5)
    noon = timedelta(hours=9)
    flawed = [copy_at(copy.created + noon, f"bad-{copy.uid}", flaw=flaw) for copy in copies]

    made = plan([*copies, *flawed], Policy(keep_last=1, keep_daily=3), LONG_AFTER)

    assert kept(made) == {copy.uid for copy in (*copies[-3:], *flawed)}
    assert verdict_on(made, flawed[0]).text == f"not counted: {flaw}"
    assert verdict_on(made, copies[-1]).reasons[0].text == "last 1 of 1"
    assert made.notes == (f"Not counted and not deleted: 5 {flaw}.",)


def test_r4_the_oldest_copy_is_the_oldest_good_one() -> None:
    copies = daily_copies(5, datetime(2026, 3, 10, tzinfo=UTC))
    flawed = copy_at(copies[0].created - DAY, "bad", flaw="missing")

    made = plan([flawed, *copies], Policy(keep_yearly=2), LONG_AFTER)

    assert verdict_on(made, copies[0]).text == "oldest yearly"


@given(schedules(), policies(), floors)
def test_r4_flawed_copies_change_nothing_for_the_good_ones(
    copies: list[Candidate], policy: Policy, minimum: int
) -> None:
    good = [copy for copy in copies if not copy.flaw]

    assert deleted(plan(copies, policy, LONG_AFTER, minimum)) == deleted(plan(good, policy, LONG_AFTER, minimum))


# R5


def test_r5_the_newest_verified_copy_stays_though_newer_ones_fill_every_slot() -> None:
    copies = daily_copies(30)
    verified = [copy_at(copy.created, copy.uid, verified_at=copy.created + DAY) for copy in copies[3:6]]
    copies[3:6] = verified

    made = plan(copies, Policy(keep_last=2), LONG_AFTER)

    assert kept(made) == {copies[-1].uid, copies[-2].uid, verified[-1].uid}
    assert verdict_on(made, verified[-1]).text == "the newest verified copy always stays"


def test_r5_a_verified_copy_that_went_bad_since_does_not_stand_in_for_a_good_one() -> None:
    copies = daily_copies(5)
    copies[0] = copy_at(copies[0].created, "good", verified_at=LONG_AFTER)
    copies[2] = copy_at(copies[2].created, "bad", verified_at=LONG_AFTER, flaw="quarantined")

    assert kept(plan(copies, Policy(keep_last=1), LONG_AFTER)) == {"good", "bad", copies[-1].uid}


@given(schedules(), policies(), floors)
def test_r5_the_newest_verified_good_copy_is_never_deleted(
    copies: list[Candidate], policy: Policy, minimum: int
) -> None:
    verified = [copy for copy in copies if copy.verified_at and not copy.flaw]
    newest = max((copy.created for copy in verified), default=None)

    made = plan(copies, policy, LONG_AFTER, minimum)

    assert newest is None or any(copy.created == newest and copy.uid in kept(made) for copy in verified)


# R6


def test_r6_sixty_daily_copies_survive_400_nights_without_a_new_one_as_after_the_first() -> None:
    copies = daily_copies(60)
    policy = Policy.from_mapping(
        {"keep_last": 3, "keep_daily": 7, "keep_weekly": 4, "keep_within": "14d", "keep_within_monthly": "1y"}
    )
    night = copies[-1].created + timedelta(minutes=30)
    first = kept(plan(copies, policy, night))
    assert 14 < len(first) < 30

    left = copies
    for number in range(400):
        survivors = kept(plan(left, policy, night + number * DAY))
        left = [copy for copy in left if copy.uid in survivors]
        assert survivors == first


@pytest.mark.parametrize(
    "rules",
    [{"keep_last": 2}, {"keep_daily": 2}, {"keep_within": "36h"}, {"keep_within_daily": "36h"}],
    ids=str,
)
def test_r6_copies_from_the_future_are_kept_and_neither_counted_nor_an_anchor(rules: dict[str, object]) -> None:
    copies = daily_copies(10)
    now = copies[-1].created + timedelta(hours=1)
    future = [copy_at(now + number * 400 * DAY, f"future-{number}") for number in (1, 2, 3)]

    made = plan([*copies, *future], Policy.from_mapping(rules), now)

    assert kept(made) == {copy.uid for copy in (*copies[-2:], *future)}
    assert kinds(verdict_on(made, future[0])) == ["future"]
    assert verdict_on(made, copies[-1]).reasons[0].used in {1, None}
    assert made.notes == ("Dated in the future, so not counted and not deleted: 3. Check the clock.",)


def test_r6_a_copy_made_at_this_very_moment_counts() -> None:
    copies = daily_copies(3)

    assert kept(plan(copies, Policy(keep_last=1), copies[-1].created)) == {copies[-1].uid}


def test_r6_with_a_clock_set_back_before_all_copies_nothing_is_deleted() -> None:
    made = plan(daily_copies(10), Policy(keep_last=1), START - DAY)

    assert made.delete == ()
    assert "There is no good copy: nothing is deleted." in made.notes


def test_r6_windows_begin_at_the_newest_good_copy() -> None:
    copies = daily_copies(10)
    flawed = copy_at(copies[-1].created + 30 * DAY, "bad", flaw="suspect")

    made = plan([*copies, flawed], Policy(keep_within=Duration(days=3)), LONG_AFTER)

    assert kept(made) == {copy.uid for copy in (*copies[-3:], flawed)}


# The properties


@given(schedules(protected="for ever"), policies(empty=True), st.randoms(use_true_random=False), floors)
def test_the_order_of_the_candidates_changes_nothing(
    copies: list[Candidate], policy: Policy, chance: random.Random, minimum: int
) -> None:
    shuffled = copies.copy()
    chance.shuffle(shuffled)

    assert plan(shuffled, policy, LONG_AFTER, minimum) == plan(copies, policy, LONG_AFTER, minimum)


@given(schedules(protected="for ever"), policies(empty=True), floors, st.lists(st.integers(0, 10**6), max_size=3))
def test_cleaning_up_again_changes_nothing_however_much_later(
    copies: list[Candidate], policy: Policy, minimum: int, hours: list[int]
) -> None:
    now = max((copy.created for copy in copies), default=START)
    first = kept(plan(copies, policy, now, minimum))
    left = [copy for copy in copies if copy.uid in first]

    for later in (0, *hours):
        assert kept(plan(left, policy, now + timedelta(hours=later), minimum)) == first


def cleaned_nightly(copies: list[Candidate], policy: Policy, minimum: int) -> Plan:
    """The last plan, when every new copy (oldest first) was followed by a cleanup."""
    left: list[Candidate] = []
    made = plan(left, policy, START, minimum)
    for copy in copies:
        left.append(copy)
        made = plan(left, policy, copy.created, minimum)
        left = [verdict.candidate for verdict in reversed(made.keep)]
    return made


@given(schedules(protected="for ever"), policies(windows=False, empty=True), floors)
def test_cleaning_up_nightly_ends_where_cleaning_up_once_does(
    copies: list[Candidate], policy: Policy, minimum: int
) -> None:
    once = plan(copies, policy, LONG_AFTER, minimum)

    assert kept(cleaned_nightly(copies, policy, minimum)) == kept(once)


@given(schedules(protected="for ever"), policies(), floors)
def test_with_windows_by_period_nightly_may_keep_one_copy_more_and_never_one_less(
    copies: list[Candidate], policy: Policy, minimum: int
) -> None:
    once = plan(copies, policy, LONG_AFTER, minimum)
    nightly = cleaned_nightly(copies, policy, minimum)

    assert kept(once) <= kept(nightly)
    # restic keeps the oldest copy that is there when it lies in such a window; once, that is another, older one.
    more = [verdict for verdict in nightly.keep if verdict.uid in kept(nightly) - kept(once)]
    assert len(more) <= 1
    assert all(reason.kind == "oldest" and "within" in reason.rule for verdict in more for reason in verdict.reasons)


def test_the_one_copy_more_after_nightly_cleanups_is_the_oldest_left() -> None:
    copies = [copy_at(START + timedelta(hours=hours)) for hours in (0, 47, 48, 49)]
    policy = Policy(keep_last=2, keep_within_daily=Duration(hours=48))

    assert kept(plan(copies, policy, LONG_AFTER)) == {copies[2].uid, copies[3].uid}
    assert kept(cleaned_nightly(copies, policy, 1)) == {copies[1].uid, copies[2].uid, copies[3].uid}


@given(
    schedules(protected="for ever"), policies(), floors, st.sampled_from((*COUNT_FIELDS, *DURATION_FIELDS)), st.data()
)
def test_adding_a_rule_or_raising_one_never_deletes_more(
    copies: list[Candidate], policy: Policy, minimum: int, field: str, data: st.DataObject
) -> None:
    values = {name: getattr(policy, name) for name in Policy.__dataclass_fields__}
    before = values[field]
    if field in COUNT_FIELDS:
        more = data.draw(counts)
        raised = UNLIMITED if UNLIMITED in (before, more) else before + more
    else:
        raised = data.draw(durations)
        if before:
            parts = ("years", "months", "days", "hours")
            raised = Duration(**{part: getattr(before, part) + getattr(raised, part) for part in parts})

    fewer = deleted(plan(copies, Policy(**values | {field: raised}), LONG_AFTER, minimum + data.draw(floors)))

    assert fewer <= deleted(plan(copies, policy, LONG_AFTER, minimum))
