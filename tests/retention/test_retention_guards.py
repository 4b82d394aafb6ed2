"""The blast radius (R7), and the stops that the outside finds."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retention_samples import (
    LONG_AFTER,
    START,
    UNLIMITED_GUARDS,
    copy_at,
    daily_copies,
    kinds,
    policies,
    schedules,
)

from backups.retention import Candidate, Guards, Plan, Policy, Stop, StoragePart, plan, replay, storage_stops

DAY = timedelta(days=1)
CLOCK = Stop(kind="clock", text="The clock jumped by 3 days.", approvable=False)


def deleting(number: int, *, of: int, guards: Guards | int = UNLIMITED_GUARDS) -> Plan:
    """A plan that deletes the oldest `number` of so many copies of 1000 bytes."""
    return plan(daily_copies(of), Policy(keep_last=of - number), LONG_AFTER, guards)


def stop_kinds(made: Plan) -> list[str]:
    return [stop.kind for stop in made.stops]


@pytest.mark.parametrize(
    ("deletions", "of", "limits", "expected"),
    [
        (25, 100, {}, []),
        (26, 100, {}, ["pair_share"]),
        (25, 103, {}, []),
        (50, 200, {}, []),
        (51, 300, {}, ["pair_count"]),
        (60, 100, {}, ["pair_share", "pair_count"]),
        (1, 2, {}, []),
        (1, 2, {"max_share": 0}, []),
        (2, 3, {"max_share": 0}, []),
        (3, 4, {"max_share": 0}, ["pair_share"]),
        (60, 100, {"max_share": 100}, ["pair_count"]),
        (99, 100, {"max_share": None, "max_count": None}, []),
        (1, 2, {"max_count": 0}, ["pair_count"]),
        (2, 10, {"max_bytes": 2000}, []),
        (2, 10, {"max_bytes": 1999}, ["pair_bytes"]),
        (26, 100, {"arrivals": 1}, []),
        (27, 100, {"arrivals": 1}, ["pair_share"]),
        (60, 100, {"arrivals": 60, "max_bytes": 0, "max_count": 0}, []),
        (60, 100, {"arrivals": 99}, []),
        (5, 100, {"arrivals": 3, "max_bytes": 1999}, ["pair_bytes"]),
        (5, 100, {"arrivals": 3, "max_bytes": 2000}, []),
    ],
)
def test_r7_a_plan_over_the_blast_radius_of_its_pair_is_stopped(
    deletions: int, of: int, limits: dict[str, int | None], expected: list[str]
) -> None:
    made = deleting(deletions, of=of, guards=Guards(**limits))

    assert len(made.delete) == deletions
    assert stop_kinds(made) == expected
    assert all(stop.approvable for stop in made.stops)


def test_flawed_copies_and_those_from_the_future_do_not_widen_the_share() -> None:
    others = [copy_at(START - number * DAY, f"bad{number}", flaw="suspect") for number in range(1, 50)]
    others += [copy_at(LONG_AFTER + number * DAY, f"late{number}") for number in range(1, 50)]

    made = plan([*daily_copies(8), *others], Policy(keep_last=5), LONG_AFTER)

    assert stop_kinds(made) == ["pair_share"]


def test_bytes_are_those_of_the_largest_copies_beyond_the_arrivals() -> None:
    copies = [copy_at(START + number * DAY, size=number + 1) for number in range(10)]
    policy = Policy(keep_last=5)  # 1 + 2 + 3 + 4 + 5 bytes go

    for limit, expected in ((8, ["pair_bytes"]), (9, [])):
        made = plan(copies, policy, LONG_AFTER, Guards(max_share=None, max_bytes=limit, arrivals=3))
        assert stop_kinds(made) == expected


def test_a_stop_says_what_and_how_much_and_the_limit() -> None:
    guards = Guards(max_share=10, max_count=3, max_bytes=2048)

    assert [stop.text for stop in deleting(12, of=30, guards=guards).stops] == [
        "This would delete 12 of 30 good copies; the limit without approval is 3 (10 %).",
        "This would delete 12 of 30 good copies; the limit without approval is 3.",
        "This would delete 12 of 30 good copies, 11.7 KiB; the limit without approval is 2.0 KiB.",
    ]
    arrived = Guards(max_share=None, max_count=3, max_bytes=2048, arrivals=2)
    assert [stop.text for stop in deleting(12, of=30, guards=arrived).stops] == [
        "This would delete 12 of 30 good copies, 10 more than came in since the last cleanup; "
        "the limit without approval is 3.",
        "This would delete 12 of 30 good copies, 10 more than came in since the last cleanup, 9.8 KiB at most; "
        "the limit without approval is 2.0 KiB.",
    ]


def test_every_deletion_of_a_stopped_plan_lists_the_guard_last() -> None:
    made = deleting(12, of=30, guards=Guards(max_count=5)).with_stops(CLOCK)

    assert [reason.text for reason in made.delete[0].reasons][-3:] == [
        "waits for approval: This would delete 12 of 30 good copies; the limit without approval is 7 (25 %)",
        "waits for approval: This would delete 12 of 30 good copies; the limit without approval is 5",
        "not deleted now: The clock jumped by 3 days",
    ]
    assert all(kinds(verdict)[-3:] == ["guard"] * 3 for verdict in made.delete)
    assert not any("guard" in kinds(verdict) for verdict in made.keep)


def test_a_plan_that_deletes_nothing_has_no_stops() -> None:
    made = deleting(0, of=5, guards=Guards(stops=(CLOCK,)))

    assert made.stops == ()
    assert made.with_stops(CLOCK).stops == ()


def test_stops_of_the_outside_change_neither_verdicts_nor_digest() -> None:
    made = deleting(12, of=30)

    stopped = made.with_stops(CLOCK, CLOCK).with_stops(CLOCK)

    assert (made.stops, stopped.stops) == ((), (CLOCK,))
    assert stopped.digest == made.digest
    assert [verdict.keep for verdict in stopped.verdicts] == [verdict.keep for verdict in made.verdicts]
    assert stopped == deleting(12, of=30, guards=Guards(max_share=None, max_count=None, stops=(CLOCK,)))


def test_limits_arrivals_and_stops_are_no_part_of_the_digest() -> None:
    guards = [UNLIMITED_GUARDS, Guards(), Guards(max_bytes=1, arrivals=7, stops=(CLOCK,)), 1]

    assert len({deleting(12, of=30, guards=guard).digest for guard in guards}) == 1
    assert deleting(12, of=30, guards=Guards(minimum_keep=4)).digest != deleting(12, of=30).digest


def test_a_number_stands_for_guards_with_that_minimum() -> None:
    made = deleting(12, of=30, guards=20)

    assert (made.guards, made.minimum_keep, len(made.delete)) == (Guards(minimum_keep=20), 20, 10)
    assert deleting(1, of=3, guards=0).minimum_keep == 1


limits = st.one_of(st.none(), st.integers(0, 30))


@given(schedules(protected="ending"), policies(), limits, limits, st.one_of(st.none(), st.integers(0, 9000)), st.data())
def test_a_wider_limit_never_stops_more(
    copies: list[Candidate],
    policy: Policy,
    share: int | None,
    count: int | None,
    size: int | None,
    data: st.DataObject,
) -> None:
    arrivals = data.draw(st.integers(0, 5))
    narrow = Guards(max_share=share, max_count=count, max_bytes=size, arrivals=arrivals)

    def wider(limit: int | None, by: int) -> int | None:
        return None if limit is None else data.draw(st.one_of(st.none(), st.integers(limit, limit + by)))

    wide = Guards(
        max_share=wider(share, 70),
        max_count=wider(count, 20),
        max_bytes=wider(size, 9000),
        arrivals=arrivals + data.draw(st.integers(0, 5)),
    )

    narrow_plan, wide_plan = (plan(copies, policy, LONG_AFTER, guards) for guards in (narrow, wide))
    assert set(stop_kinds(wide_plan)) <= set(stop_kinds(narrow_plan))
    assert wide_plan.digest == narrow_plan.digest


# Storages


def stops_of(parts: list[StoragePart], **limits: int | None) -> list[str]:
    wanted: dict[str, int | None] = {"max_share": None, "max_count": None, "max_bytes": None}
    return [stop.kind for stop in storage_stops(parts, storage_name="nas", **wanted | limits)]


def test_r7_pairs_within_their_own_limits_may_be_over_that_of_their_storage() -> None:
    parts = [deleting(2, of=10).part for _ in range(10)]

    assert parts[0] == StoragePart(good=10, deletions=[1000, 1000], arrivals=0)
    assert stops_of(parts, max_share=20, max_count=20, max_bytes=20_000) == []
    assert stops_of(parts, max_share=19) == ["storage_share"]
    assert stops_of(parts, max_count=19) == ["storage_count"]
    assert stops_of(parts, max_bytes=19_999) == ["storage_bytes"]


def test_what_comes_in_for_one_pair_replaces_nothing_of_another() -> None:
    busy = StoragePart(good=100, deletions=[], arrivals=24)
    losing = StoragePart(good=100, deletions=[5] * 20, arrivals=0)

    assert stops_of([busy, losing], max_count=19) == ["storage_count"]
    assert stops_of([busy, StoragePart(good=100, deletions=[5] * 20, arrivals=1)], max_count=19) == []


def test_a_storage_of_one_pair_is_judged_as_the_pair_is() -> None:
    for number in range(12):
        guards = Guards(max_share=30, max_count=4, max_bytes=3500, arrivals=2)
        made = deleting(number, of=13, guards=guards)
        alike = storage_stops([made.part], max_share=30, max_count=4, max_bytes=3500, storage_name="nas")
        assert [stop.kind.removeprefix("storage") for stop in alike] == [
            stop.kind.removeprefix("pair") for stop in made.stops
        ]


def test_a_storage_is_named_in_its_stop() -> None:
    (stop,) = storage_stops(
        [StoragePart(good=1, deletions=[7])], max_share=None, max_count=0, max_bytes=None, storage_name="nas"
    )

    assert stop.text == "On storage nas this would delete 1 of 1 good copy; the limit without approval is 0."


def test_nothing_to_delete_stops_no_storage() -> None:
    assert stops_of([], max_count=0, max_share=0, max_bytes=0) == []
    assert stops_of([StoragePart(good=0, deletions=[])], max_count=0, max_share=0, max_bytes=0) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"minimum_keep": -1}, "minimum_keep is -1"),
        ({"max_share": 101}, "max_share is 101"),
        ({"max_share": -1}, "max_share is -1"),
        ({"max_count": -1}, "max_count is -1"),
        ({"max_bytes": -1}, "max_bytes is -1"),
        ({"arrivals": -1}, "arrivals is -1"),
    ],
    ids=str,
)
def test_impossible_guards_are_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Guards(**values)


# Replay

stops = st.builds(
    Stop,
    kind=st.sampled_from(("clock", "epoch", "changed", "busy")),
    text=st.text(max_size=20),
    approvable=st.booleans(),
)
some_guards = st.builds(
    Guards,
    minimum_keep=st.integers(0, 5),
    max_share=limits,
    max_count=limits,
    max_bytes=limits,
    arrivals=st.integers(0, 5),
    stops=st.lists(stops, max_size=2, unique=True).map(tuple),
)


@given(
    schedules(protected="ending"),
    policies(empty=True),
    st.datetimes(datetime(2025, 6, 1), datetime(2028, 6, 1)),
    some_guards,
    st.lists(stops, max_size=2),
)
def test_r14_a_plan_is_made_again_from_its_inputs(
    copies: list[Candidate], policy: Policy, wall: datetime, guards: Guards, more: list[Stop]
) -> None:
    made = plan(copies, policy, wall.replace(tzinfo=START.tzinfo), guards).with_stops(*more)
    inputs = made.inputs_mapping()
    written = json.loads(json.dumps(inputs))

    assert written == inputs
    for again in (replay(inputs), replay(written)):
        assert again == made
        assert again.to_mapping() == made.to_mapping()
        assert again.inputs_mapping() == inputs


def test_inputs_of_another_format_are_refused() -> None:
    with pytest.raises(ValueError, match="have format 2; this version reads 1"):
        replay(deleting(1, of=3).inputs_mapping() | {"format": 2})


def test_a_plans_record_has_its_stops_and_guards() -> None:
    written = json.loads(json.dumps(deleting(2, of=3, guards=Guards(max_share=None, max_count=1)).to_mapping()))

    text = "This would delete 2 of 3 good copies; the limit without approval is 1."
    assert written["stops"] == [{"kind": "pair_count", "text": text, "approvable": True}]
    assert written["guards"] == {
        "minimum_keep": 1,
        "max_share": None,
        "max_count": 1,
        "max_bytes": None,
        "arrivals": 0,
        "stops": [],
    }
