from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
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
    policies,
    restic_matches,
    schedules,
    verdict_on,
)

from backups.retention import Candidate, Policy, plan
from backups.retention.policy import COUNT_RULES, PERIODS

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def texts(rules: dict[str, object], copies: list[Candidate], copy: Candidate) -> list[str]:
    made = plan(copies, Policy.from_mapping(rules), LONG_AFTER, UNLIMITED_GUARDS)
    return [reason.text for reason in verdict_on(made, copy).reasons]


def test_verdicts_come_newest_first_and_equal_times_by_uid() -> None:
    copies = [copy_at(START, "b"), copy_at(START + DAY, "c"), copy_at(START, "a")]

    made = plan(copies, Policy(keep_last=2), LONG_AFTER)

    assert [(verdict.uid, verdict.keep) for verdict in made.verdicts] == [("c", True), ("a", True), ("b", False)]
    assert [verdict.uid for verdict in made.keep] == ["c", "a"]
    assert [verdict.uid for verdict in made.delete] == ["b"]


def test_reasons_to_keep_name_the_slot_of_every_rule() -> None:
    copies = daily_copies(10, datetime(2026, 3, 10, tzinfo=UTC))  # Tuesday 10 to Thursday 19 March
    rules: dict[str, object] = {"keep_last": 3, "keep_daily": 7, "keep_weekly": 4, "keep_yearly": -1}
    rules |= {"keep_within": "3d", "keep_within_weekly": "1m"}

    assert texts(rules, copies, copies[-2]) == ["within 3d of the newest", "last 2 of 3", "daily 2 of 7"]
    assert texts(rules, copies, copies[-5]) == ["daily 5 of 7", "weekly 2 of 4", "weekly within 1m of the newest"]
    assert texts(rules, copies, copies[0]) == [
        "oldest weekly",
        "oldest yearly",
        "oldest weekly within 1m of the newest",
    ]
    assert texts(rules, copies, copies[-1])[-4:] == [
        "weekly 1 of 4",
        "yearly 1, no limit",
        "weekly within 1m of the newest",
        "the newest good copy always stays",
    ]


def test_reasons_to_delete_say_what_took_the_place_in_the_zone_of_the_policy() -> None:
    start = datetime(2026, 10, 5, 21, 0, tzinfo=UTC)  # a Monday, 23:00 in Berlin
    earlier = copy_at(start - HOUR)
    copies = [copy_at(start - 30 * DAY), earlier, *daily_copies(29, start)]
    rules: dict[str, object] = {"keep_last": 1, "keep_daily": 30, "keep_weekly": 4, "timezone": "Europe/Berlin"}
    rules |= {"keep_within": "7d", "keep_within_daily": "1m"}

    assert texts(rules, copies, earlier) == [
        "within 7d: it begins after 2026-10-26 22:00",
        "last: the one used, the oldest is 2026-11-02 22:00",
        "daily: 2026-10-05 23:00 is newer in the same day",
        "weekly: all 4 used, the oldest is week 2026-W42",
        "daily within 1m: 2026-10-05 23:00 is newer in the same day",
        "would stay with keep_last 30",
    ]


def test_reasons_carry_codes_for_programs() -> None:
    copies = daily_copies(10, datetime(2026, 3, 10, tzinfo=UTC))

    made = plan(copies, Policy(keep_daily=2, keep_weekly=2), LONG_AFTER, UNLIMITED_GUARDS)

    assert [reason.to_mapping() for reason in verdict_on(made, copies[-5]).reasons] == [
        {"kind": "rule", "rule": "weekly", "text": "weekly 2 of 2", "count": 2, "used": 2, "period": "2026-W11"}
    ]
    codes = [
        {key: value for key, value in reason.to_mapping().items() if key != "text"}
        for reason in verdict_on(made, copies[0]).reasons
    ]
    used, newer = copies[-2].uid, copies[-5].uid
    assert codes == [
        {"kind": "exhausted", "rule": "daily", "count": 2, "used": 2, "by": used, "period": "2026-03-18"},
        {"kind": "replaced", "rule": "weekly", "by": newer, "period": "2026-W11"},
        {"kind": "hint", "rule": "weekly", "count": 3},
    ]


@pytest.mark.parametrize(
    ("rules", "day", "hint"),
    [
        ({"keep_weekly": 4}, 1, "would stay with keep_weekly 5"),
        ({"keep_daily": 28, "keep_weekly": 4}, 1, "would stay with keep_daily 29"),
        ({"keep_daily": 7}, 1, "would stay with keep_weekly 5"),
        ({"keep_daily": 26, "keep_last": 26}, 2, "would stay with keep_last 28"),
        ({"keep_daily": 26}, 2, "would stay with keep_daily 28"),
    ],
    ids=str,
)
def test_a_deletion_names_the_smallest_raise_that_would_keep_it(rules: dict[str, object], day: int, hint: str) -> None:
    copies = daily_copies(60, datetime(2026, 1, 1, tzinfo=UTC))  # ends on Sunday 1 March; 1 February is one, too

    assert texts(rules, copies, copies[30 + day])[-1] == hint


@given(schedules(), policies())
def test_a_hint_is_true_and_no_smaller_raise_would_do(copies: list[Candidate], policy: Policy) -> None:
    values = {field: getattr(policy, field) for field in Policy.__dataclass_fields__}

    def keeps(uid: str, rule: str, count: int) -> bool:
        return uid in kept(plan(copies, Policy(**values | {f"keep_{rule}": count}), LONG_AFTER))

    for verdict in plan(copies, policy, LONG_AFTER, UNLIMITED_GUARDS).delete[:3]:
        hint = verdict.reasons[-1]
        assert hint.kind == "hint"
        assert hint.count is not None
        assert keeps(verdict.uid, hint.rule, hint.count)
        smaller = hint.count - policy.count(hint.rule) - 1
        limited = [rule for rule in COUNT_RULES if policy.count(rule) >= 0]
        assert not any(keeps(verdict.uid, rule, policy.count(rule) + smaller) for rule in limited)


@given(schedules(), policies())
def test_every_rule_that_is_on_explains_a_deletion(copies: list[Candidate], policy: Policy) -> None:
    made = plan(copies, policy, LONG_AFTER, UNLIMITED_GUARDS)
    rules_on = [field.removeprefix("keep_") for field in policy.to_mapping() if field != "timezone"]

    assert all(verdict.reasons for verdict in made.verdicts)
    for verdict in made.delete:
        assert sorted(reason.rule for reason in verdict.reasons if reason.kind != "hint") == sorted(rules_on)
        assert {reason.by for reason in verdict.reasons if reason.by} <= kept(made)


def matches_one_by_one(copies: list[Candidate], policy: Policy) -> dict[str, list[str]]:
    """restic's loop, copy by copy and rule by rule: slow, and in another way than the planner's."""
    zone = ZoneInfo(policy.timezone)
    good = sorted((copy for copy in copies if not copy.flaw), key=lambda copy: copy.uid)
    good.sort(key=lambda copy: copy.created, reverse=True)
    left = {rule: policy.count(rule) for rule in COUNT_RULES}
    last_period: dict[str, Any] = {}
    answer: dict[str, list[str]] = {}
    for number, copy in enumerate(good):
        wall = copy.created.astimezone(zone)
        periods = {
            "last": number,
            "hourly": f"{wall:%Y%m%d%H}",
            "daily": wall.date(),
            "weekly": wall.isocalendar()[:2],
            "monthly": (wall.year, wall.month),
            "yearly": wall.year,
        }
        is_oldest = number == len(good) - 1
        found = []

        def inside(rule: str, copy: Candidate = copy) -> bool:
            length = policy.duration(rule)
            return length is not None and copy.created > length.before(good[0].created, zone)

        if inside("within"):
            found.append(f"within {policy.keep_within}")
        for rule in COUNT_RULES:
            changed = last_period.get(rule) != periods[rule]
            if left[rule] and (changed or is_oldest):
                found.append(f"{'' if changed else 'oldest '}{rule} snapshot")
                last_period[rule] = periods[rule]
                left[rule] -= left[rule] > 0
        for rule in PERIODS:
            name = f"within_{rule}"
            changed = last_period.get(name) != periods[rule]
            if inside(name) and (changed or is_oldest):
                found.append(f"{'' if changed else 'oldest '}{rule} within {policy.duration(name)}")
                last_period[name] = periods[rule]
        answer[copy.uid] = found
    return answer


@given(schedules(), policies())
def test_plan_agrees_with_going_through_copy_by_copy(copies: list[Candidate], policy: Policy) -> None:
    made = plan(copies, policy, LONG_AFTER)

    expected = matches_one_by_one(copies, policy)
    assert {
        verdict.uid: restic_matches(policy, verdict) for verdict in made.verdicts if not verdict.candidate.flaw
    } == expected
    always = {
        verdict.uid
        for verdict in made.verdicts
        if any(reason.kind in {"flaw", "minimum", "verified"} for reason in verdict.reasons)
    }
    assert kept(made) == {uid for uid, found in expected.items() if found} | always


def test_the_zone_decides_which_day_it_is() -> None:
    before, evening, night = (
        datetime(2026, 5, 31, 12, tzinfo=UTC),
        datetime(2026, 6, 1, 21, 30, tzinfo=UTC),
        datetime(2026, 6, 1, 22, 30, tzinfo=UTC),
    )
    copies = [copy_at(before), copy_at(evening), copy_at(night)]

    assert deleted(plan(copies, Policy(keep_daily=2), LONG_AFTER)) == {copies[1].uid}
    # In Berlin the last one is of 2 June already.
    assert deleted(plan(copies, Policy(keep_daily=2, timezone="Europe/Berlin"), LONG_AFTER)) == {copies[0].uid}


def test_a_year_ends_with_december() -> None:
    november, december, january = (
        copy_at(datetime(*day, tzinfo=UTC)) for day in ((2025, 11, 30), (2025, 12, 31), (2026, 1, 1))
    )
    oldest = copy_at(datetime(2024, 12, 31, tzinfo=UTC))

    made = plan([november, december, january, oldest], Policy(keep_yearly=3), LONG_AFTER)

    assert deleted(made) == {november.uid}
    assert verdict_on(made, december).text == "yearly 2 of 3"


@pytest.mark.parametrize(
    ("zone", "first", "hours", "replaced"),
    [
        ("Europe/Berlin", "2026-10-24T22:30+00:00", 25, ["2026-10-25T00:30+00:00"]),
        ("Europe/Berlin", "2026-03-28T23:30+00:00", 23, []),
        ("America/New_York", "2026-11-01T04:30+00:00", 25, ["2026-11-01T05:30+00:00"]),
        # There the clock goes back by half an hour at 02:00 (15:00 UTC): 01:45 comes once more, half an hour later.
        ("Australia/Lord_Howe", "2026-04-04T13:45+00:00", 24, ["2026-04-04T14:45+00:00"]),
    ],
)
def test_an_hour_that_comes_twice_counts_once(zone: str, first: str, hours: int, replaced: list[str]) -> None:
    start = datetime.fromisoformat(first)
    copies = [copy_at(start + number * HOUR) for number in range(hours)]
    if zone == "Australia/Lord_Howe":
        copies.append(copy_at(start + timedelta(minutes=90)))

    made = plan(copies, Policy(keep_hourly=-1, timezone=zone), LONG_AFTER)

    assert [verdict.candidate.created for verdict in made.delete] == [datetime.fromisoformat(text) for text in replaced]


def test_a_day_of_25_hours_is_one_day() -> None:
    start = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)  # 00:30 on 25 October in Berlin
    copies = [copy_at(start - HOUR), *(copy_at(start + number * HOUR) for number in range(25))]

    made = plan(copies, Policy(keep_daily=2, timezone="Europe/Berlin"), LONG_AFTER)

    assert kept(made) == {copies[0].uid, copies[-1].uid}


def test_copies_are_compared_by_moment_and_not_by_wall_clock() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first = copy_at(datetime(2026, 10, 25, 2, 45, tzinfo=berlin), "first")
    second = copy_at(datetime(2026, 10, 25, 2, 15, fold=1, tzinfo=berlin), "second")
    elsewhere = copy_at(datetime(2026, 10, 25, 5, 0, tzinfo=timezone(5 * HOUR)), "elsewhere")

    made = plan([first, second, elsewhere], Policy(keep_last=1), LONG_AFTER)

    assert [verdict.uid for verdict in made.verdicts] == ["second", "first", "elsewhere"]


def test_a_plan_is_written_as_json_with_its_reasons() -> None:
    copies = [*daily_copies(3), copy_at(START - DAY, "bad", flaw="suspect")]
    made = plan(copies, Policy(keep_last=1), datetime(2026, 2, 1, tzinfo=UTC))

    written = json.loads(json.dumps(made.to_mapping()))

    assert {key: written[key] for key in ("policy", "minimum_keep", "now", "keep", "delete", "notes")} == {
        "policy": {"keep_last": 1, "timezone": "UTC"},
        "minimum_keep": 1,
        "now": "2026-02-01T00:00:00+00:00",
        "keep": 2,
        "delete": 2,
        "notes": ["Not counted and not deleted: 1 suspect."],
    }
    assert written["digest"] == made.digest
    assert [verdict["uid"] for verdict in written["verdicts"]] == [verdict.uid for verdict in made.verdicts]
    assert written["verdicts"][-1]["reasons"] == [{"kind": "flaw", "text": "not counted: suspect"}]


def test_no_copies_make_an_empty_plan() -> None:
    made = plan(
        [], Policy(keep_daily=7, keep_within=Policy.from_mapping({"keep_within": "1d"}).keep_within), LONG_AFTER
    )

    assert (made.verdicts, made.keep, made.delete, made.notes) == ((), (), (), ())


@given(schedules(smallest=1), st.data())
def test_the_digest_is_of_inputs_and_verdicts(copies: list[Candidate], data: st.DataObject) -> None:
    policy = Policy(keep_daily=2)
    digest = plan(copies, policy, LONG_AFTER).digest
    assert plan(reversed(copies), policy, LONG_AFTER + DAY).digest == digest

    place = data.draw(st.integers(0, len(copies) - 1))
    copy = copies[place]
    values = {field: getattr(copy, field) for field in Candidate.__dataclass_fields__}
    changes = [{"size": copy.size + 1}, {"verified_at": LONG_AFTER}, {"flaw": "failed"}, {"uid": "other"}]
    changes.append({"created": copy.created + timedelta(microseconds=1)})
    for change in changes:
        changed = [*copies[:place], Candidate(**values | change), *copies[place + 1 :]]
        assert plan(changed, policy, LONG_AFTER).digest != digest, change
    assert plan(copies, Policy(keep_daily=3), LONG_AFTER).digest != digest
    assert plan(copies, policy, LONG_AFTER, 2).digest != digest
    assert plan(copies, policy, copies[0].created - DAY).digest != digest or all(copy.flaw for copy in copies)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"created": datetime(2026, 1, 1)}, "time without a zone"),
        ({"verified_at": datetime(2026, 1, 1)}, "time without a zone"),
        ({"created": datetime(1, 1, 1, tzinfo=UTC)}, "year 1"),
    ],
)
def test_a_copy_with_an_unusable_time_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"backup x .*{message}"):
        Candidate(**{"uid": "x", "created": START, "size": 1} | change)


def test_unusable_arguments_are_refused() -> None:
    copies = [copy_at(START, "a"), copy_at(START + DAY, "b")]
    with pytest.raises(ValueError, match="now has no time zone"):
        plan(copies, Policy(), datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="minimum_keep is -1"):
        plan(copies, Policy(), LONG_AFTER, -1)
    with pytest.raises(ValueError, match="backup a occurs twice"):
        plan([*copies, copies[0]], Policy(), LONG_AFTER)


def test_several_copies_that_are_not_made_yet_may_be_without_a_uid() -> None:
    copies = [Candidate(uid="", created=START + number * DAY, size=1) for number in range(3)]

    made = plan([*copies, copy_at(START, "a")], Policy(keep_last=1), LONG_AFTER)

    assert [verdict.candidate for verdict in made.keep] == copies[-1:]
    with pytest.raises(ValueError, match="backup a occurs twice"):
        plan([*copies, copy_at(START, "a"), copy_at(START, "a")], Policy(), LONG_AFTER)
