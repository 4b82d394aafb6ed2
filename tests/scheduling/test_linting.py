"""Advice about schedules: what is unwise is said with its next step, and what is wise is left alone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.cron import parse_cron
from scheduling.durations import percentile
from scheduling.linting import CROWD, Advice, Neighbour, Subject, closest, lint
from scheduling.rules import Rules, blackouts_parse
from tests.scheduling import cron_oracle as oracle

BERLIN = "Europe/Berlin"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def minutes(number: int) -> timedelta:
    return timedelta(minutes=number)


def subject(schedule: str, *, zone: str = "UTC", **changes: Any) -> Subject:
    window, days = changes.pop("window", None), changes.pop("blackouts", [])
    rules = Rules(zone=zone, window=window, blackouts=blackouts_parse(days))
    return Subject(cron=parse_cron(schedule), rules=rules, **changes)


def other(schedule: str, *, name: str = "photos", zone: str = "UTC", **changes: Any) -> Neighbour:
    return Neighbour(name=name, cron=parse_cron(schedule), zone=zone, **{"nearby": True, "copies": True, **changes})


def advice(of: Subject, *others: Neighbour, now: datetime = NOW) -> dict[str, Advice]:
    return {each.code: each for each in lint(of, others, now)}


def test_a_lone_nightly_job_needs_no_advice() -> None:
    assert advice(subject("30 2 * * *", takes=minutes(20))) == {}


@pytest.mark.parametrize(
    ("of", "others", "says", "use"),
    [
        pytest.param(
            subject("30 2 * * *"),
            [other("0 2 * * *", takes=minutes(48))],
            "On Tue 24 Nov at 02:30 photos may still be at work, since 02:00 and for up to 48 min, on the same "
            "storage. 02:50 is free.",
            "50 2 * * *",
            id="what came before still runs",
        ),
        pytest.param(
            subject("30 2 * * *", takes=minutes(40)),
            [other("0 3 * * *", takes=minutes(5))],
            "On Tue 24 Nov at 02:30 it may still be at work, for up to 40 min, when photos starts at 03:00, on the "
            "same storage. 02:20 is free.",
            "20 2 * * *",
            id="it still runs when another starts",
        ),
        pytest.param(
            subject("30 2 * * *"),
            [other("30 2 * * 0", count=3)],
            "On Sun 29 Nov at 02:30 photos and 2 more start as well, on the same storage. 02:40 is free.",
            "40 2 * * *",
            id="at the same minute once a week",
        ),
        pytest.param(
            subject("30 2 * * *"),
            [other("30 2 * * *", name="bad", count=3), other("30 2 * * 0", name="home")],
            "On Tue 24 Nov at 02:30 bad and 2 more start as well, on the same storage. At some of its times it meets "
            "1 other job there as well. 02:40 is free.",
            "40 2 * * *",
            id="others at some of its times",
        ),
        pytest.param(
            subject("0 3 * * 0", zone=BERLIN),
            [other("0 2 * * 0", takes=minutes(10)), other("0 3 * * 0", name="home", takes=minutes(5))],
            "On Sun 29 Nov at 03:00 photos starts as well, on the same storage. 03:10 is free.",
            "10 3 * * 0",
            id="the same instant by another clock",
        ),
        pytest.param(
            subject("0 3 * * *"),
            [other("0 3 29 2 *")],
            "On Tue 29 Feb at 03:00 photos starts as well, on the same storage. 03:10 is free.",
            "10 3 * * *",
            id="long after its own next times",
        ),
        pytest.param(subject("0 3 * * 1"), [other("0 3 29 2 *")], "", "", id="rare, and on another weekday"),
        pytest.param(subject("30 2 * * *"), [other("*/5 * * * *", takes=minutes(11))], "", "", id="what always runs"),
        pytest.param(
            subject("30 2 * * *"),
            [other("0 2 * * *", takes=minutes(48), nearby=False)],
            "",
            "",
            id="on another storage",
        ),
        pytest.param(
            subject("30 2 * * *"), [other("0 2 * * *", takes=minutes(30))], "", "", id="what ends as it starts"
        ),
    ],
)
def test_two_jobs_at_work_on_one_storage(of: Subject, others: list[Neighbour], says: str, use: str) -> None:
    found = advice(of, *others).get("overlap")
    assert (found.text, found.use) == (says, use) if found else (says, use) == ("", "")


def test_a_free_time_outside_the_run_window_is_not_offered() -> None:
    found = advice(subject("30 2 * * *", window=(time(2), time(2, 35))), other("30 2 * * *"))["overlap"]
    assert "02:40 is free, but outside its run window" in found.text
    assert found.use == ""


def test_a_cleanup_before_the_backups_of_the_night_is_told_to_run_after_them() -> None:
    found = advice(
        subject("0 1 * * *", deletes=True),
        other("30 2 * * *", name="nightly", takes=minutes(12), count=3),
        other("0 2 * * *", name="photos"),
    )["cleanup"]
    assert found.text == (
        "It cleans up at 01:00 on Tue 24 Nov, before nightly and 2 more make that night’s copy at 02:30, the last of "
        "4 jobs. Choose “Run after” nightly in place of a time, or a time from 02:45 on."
    )
    assert found.use == "45 2 * * *"


def test_a_backup_after_the_cleanup_of_the_night_is_told_so() -> None:
    cleanup = other("0 3 * * *", name="Nightly cleanup", copies=False, deletes=True)
    found = advice(subject("30 4 * * *", takes=minutes(22)), cleanup)["cleanup"]
    assert found.text == (
        "Nightly cleanup cleans up at 03:00 on Tue 24 Nov, before this job makes that night’s copy at 04:30. Let "
        "Nightly cleanup run after this job, or from 04:55 on."
    )


@pytest.mark.parametrize(
    ("cleanup", "backup"),
    [
        pytest.param("0 3 * * *", "30 2 * * *", id="just after the backup"),
        pytest.param("0 3 * * *", "0 * * * *", id="backups all day"),
        pytest.param("0 3 * * *", "0 12 * * *", id="half a day apart"),
        pytest.param("0 3 * * *", "0 4 1 1 *", id="a yearly backup, not tonight"),
        pytest.param("0 3 * * *", "0 0,8,16 * * *", id="nearer to the backup before it"),
    ],
)
def test_a_cleanup_that_is_in_time_is_left_alone(cleanup: str, backup: str) -> None:
    assert "cleanup" not in advice(subject(cleanup, deletes=True), other(backup))
    assert "cleanup" not in advice(subject(backup), other(cleanup, copies=False, deletes=True))


def test_a_job_that_takes_longer_than_its_pause_is_slowed_down() -> None:
    found = advice(subject("*/5 * * * *", takes=minutes(12)))["often"]
    assert "starts again after 5 min but takes up to 12 min" in found.text
    assert found.use == "*/15 * * * *"
    assert "often" not in advice(subject("*/5 * * * *", takes=minutes(5)))
    assert advice(subject("0 2,3 * * *", takes=minutes(90)))["often"].use == ""


def test_a_schedule_that_is_never_in_its_window_is_pointed_at_it() -> None:
    found = advice(subject("30 12 * * *", window=(time(22), time(6))))["window"]
    assert "None of its next 20 times lies in its run window, 22:00 until 06:00" in found.text
    assert found.use == "0 22 * * *"
    assert "window" not in advice(subject("30 23 * * *", window=(time(22), time(6))))


def test_a_schedule_on_blackout_dates_alone_is_said_to_be_in_vain() -> None:
    found = advice(subject("0 3 24 12 *", blackouts=[f"{year}-12-24" for year in range(2026, 2046)]))["blackout"]
    assert "are all on blackout dates" in found.text
    assert "blackout" not in advice(subject("0 3 * 12 *", blackouts=["2026-12-24"]))


def test_many_jobs_at_one_minute_are_told_of_a_quieter_one() -> None:
    crowd = [other("0 2 * * *", count=CROWD, nearby=False), other("*/10 * * * *", count=2, nearby=False)]
    found = advice(subject("0 2 * * *"), *crowd)["crowd"]
    assert found.text.startswith("12 other jobs start at the same minute, 02:00")
    assert (found.text.endswith("At 02:05 it is none."), found.use) == (True, "5 2 * * *")
    assert "crowd" not in advice(subject("0 2 * * *"), other("0 2 * * *", count=CROWD - 1, nearby=False))
    assert "crowd" not in advice(subject("30 2 * * *"), *crowd)


@pytest.mark.parametrize(
    ("schedule", "zone", "says", "use"),
    [
        pytest.param(
            "30 2 * * *",
            BERLIN,
            "On Sun 28 Mar 2027 the clocks go forward and 02:30 does not come: it runs at 03:00. On Sun 31 Oct 2027 "
            "the clocks go back and 02:30 comes twice: it runs once, at the first.",
            "0 3 * * *",
            id="left out and repeated",
        ),
        pytest.param("30 2 * 3-5 *", BERLIN, "On Sun 28 Mar 2027 the clocks go forward", "0 3 * 3-5 *", id="left out"),
        pytest.param("30 2 * * 1-5", BERLIN, "", "", id="never on the Sunday"),
        pytest.param("30 2 * * *", "UTC", "", "", id="no change"),
        pytest.param("*/10 * * * *", BERLIN, "", "", id="by its pace"),
        pytest.param(
            "0 0 * * *", "Asia/Beirut", "On Sun 28 Mar 2027 the clocks go forward and 00:00", "0 1 * * *", id="midnight"
        ),
    ],
)
def test_times_that_a_change_of_the_clocks_moves(schedule: str, zone: str, says: str, use: str) -> None:
    found = advice(subject(schedule, zone=zone)).get("clocks")
    assert found is not None if says else found is None
    if found is not None:
        assert found.text.startswith(says)
        assert found.use == use


SCHEDULES = st.sampled_from(
    ["30 2 * * *", "0 0 * * *", "*/5 * * * *", "0 * * * *", "0 3 * * 0", "0 0 29 2 *", "15 */6 * * *", "0 2 1 * *"]
)
TAKES = st.one_of(st.none(), st.integers(0, 60 * 30).map(lambda number: timedelta(minutes=number)))
OTHERS = st.builds(
    other,
    SCHEDULES,
    zone=st.sampled_from(oracle.changing_zones()),
    takes=TAKES,
    count=st.integers(1, 30),
    nearby=st.booleans(),
    copies=st.booleans(),
    deletes=st.booleans(),
)


@given(
    SCHEDULES,
    st.sampled_from(oracle.changing_zones()),
    TAKES,
    st.booleans(),
    st.lists(OTHERS, max_size=6),
    st.sampled_from([None, (time(22), time(4)), (time(2), time(2, 30))]),
    st.integers(0, 700),
)
def test_every_advice_is_one_sentence_or_few_with_a_schedule_that_can_be_used(
    schedule: str,
    zone: str,
    takes: timedelta | None,
    deletes: bool,
    others: list[Neighbour],
    window: tuple[time, time] | None,
    days: int,
) -> None:
    of = subject(schedule, zone=zone, takes=takes, deletes=deletes, window=window)
    found = lint(of, others, oracle.SPAN[0] + timedelta(days=days))
    assert len({each.code for each in found}) == len(found)
    for each in found:
        assert re.fullmatch(r"[A-Zpf0-9].+\.", each.text)
        assert not each.use or parse_cron(each.use)


@given(st.lists(OTHERS, max_size=8))
def test_the_closest_are_those_that_start_shortly_before(others: list[Neighbour]) -> None:
    of = subject("30 2 * * *")
    ordered = closest(of, others, NOW)
    assert sorted(map(id, ordered)) == sorted(map(id, others))


@given(st.lists(st.integers(0, 500), min_size=1, max_size=60))
def test_ninety_five_of_a_hundred_took_no_longer(lengths: list[int]) -> None:
    found = percentile([minutes(length) for length in lengths], 95)
    assert found is not None
    assert sum(minutes(length) <= found for length in lengths) * 100 >= 95 * len(lengths)
    shorter = [length for length in lengths if minutes(length) < found]
    assert len(shorter) * 100 < 95 * len(lengths)
    assert percentile([], 95) is None


def test_four_hundred_neighbours_are_looked_at_while_somebody_types() -> None:
    crowd = [other(f"{number % 60} {number // 60 % 24} * * *", takes=minutes(10)) for number in range(400)]
    start = datetime.now(UTC)
    lint(subject("30 2 * * *", zone=BERLIN, takes=minutes(20)), crowd, NOW)
    assert (datetime.now(UTC) - start).total_seconds() < 1
