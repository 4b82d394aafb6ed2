"""What becomes of each time of a schedule: changes of the clocks, run windows, blackout dates."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.fire_list import fire_list
from scheduling.rules import Rules, blackouts_parse
from tests.scheduling import cron_oracle as oracle

BERLIN = "Europe/Berlin"
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC)
SPRING = datetime(2027, 3, 27, 12, tzinfo=UTC)


def notes(schedule: str, now: datetime, count: int, rules: Rules | None = None) -> list[str]:
    found = fire_list(schedule, rules or Rules(zone=BERLIN), now, count)
    assert not found.problem
    return [fire.clocks or fire.effect for fire in found.fires]


@pytest.mark.parametrize(
    ("schedule", "now", "said"),
    [
        pytest.param(
            "30 2 * * *", AUTUMN, ["the clocks go back: 02:30 comes twice, it runs at the first", ""], id="comes twice"
        ),
        pytest.param(
            "30 2 * * *",
            SPRING,
            ["the clocks go forward: 02:30 does not come, it runs at 03:00", ""],
            id="does not come",
        ),
        pytest.param("0 6 * * *", AUTUMN, ["the clocks go back 1 h at 03:00", ""], id="a day of a change"),
        pytest.param(
            "0 13 * * *",
            datetime(2026, 10, 24, 6, tzinfo=UTC),
            ["", "the clocks go back 1 h at 03:00", ""],
            id="and no other day",
        ),
        pytest.param(
            "30 * * * *",
            datetime(2026, 10, 24, 23, 45, tzinfo=UTC),
            [
                "the clocks go back: 02:30 comes twice, this is the first",
                "the clocks go back: 02:30 comes twice, this is the second",
                "",
            ],
            id="every hour runs at both",
        ),
    ],
)
def test_a_change_of_the_clocks_is_said_in_words(schedule: str, now: datetime, said: list[str]) -> None:
    assert notes(schedule, now, len(said)) == said


def test_what_comes_outside_its_window_waits() -> None:
    rules = Rules(zone=BERLIN, window=(time(22), time(23, 30)))
    said = notes("0 21,22,23 * * *", datetime(2026, 11, 24, 12, tzinfo=UTC), 4, rules)
    assert said == ["waits until 22:00", "", "", "waits until 22:00"]


def test_what_waits_for_the_same_opening_is_one_run() -> None:
    rules = Rules(zone=BERLIN, window=(time(1), time(3)))
    said = notes("0 22,23 * * *", datetime(2026, 11, 24, 12, tzinfo=UTC), 2, rules)
    assert said == ["waits until Wed 01:00", "joins the run that waits until Wed 01:00"]


def test_what_comes_on_a_blackout_date_is_skipped() -> None:
    rules = Rules(zone=BERLIN, window=(time(1), time(3)), blackouts=blackouts_parse(["2026-12-24..2026-12-26"]))
    said = notes("0 2,22 * * *", datetime(2026, 12, 23, 12, tzinfo=UTC), 3, rules)
    assert said == [
        "skipped: its window opens on a blackout date",
        "skipped: 2026-12-24..2026-12-26 is a blackout date",
        "skipped: 2026-12-24..2026-12-26 is a blackout date",
    ]


@pytest.mark.parametrize(
    ("schedule", "zone", "problem"),
    [
        ("30 2 30 2 *", BERLIN, "cannot be read or never happens"),
        ("x", BERLIN, "has 1 fields"),
        ("30 2 * * *", "Mars/Olympus", "not a time zone"),
        ("y" * 10_000, BERLIN, "longer than"),
        ("\0 * * * *", "\0", "not a time zone"),
    ],
)
def test_what_cannot_be_used_says_why_in_a_zone_that_can(schedule: str, zone: str, problem: str) -> None:
    found = fire_list(schedule, Rules(zone=zone), AUTUMN, 20)
    assert problem in found.problem
    assert (found.zone, found.fires) == ("UTC", [])


def test_a_blank_schedule_is_by_hand() -> None:
    assert fire_list("  ", Rules(zone=BERLIN), AUTUMN, 20).words == "Only by hand."


@given(
    st.sampled_from(oracle.changing_zones()),
    st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 0 * * *", "15 */3 * * *", "0 0 29 2 *"]),
    st.sampled_from([None, (time(22), time(2, 15)), (time(2), time(2, 30))]),
    st.integers(0, 700),
)
def test_every_time_in_every_zone_can_be_shown(
    zone: str, schedule: str, window: tuple[time, time] | None, days: int
) -> None:
    now = datetime.fromtimestamp(oracle.SPAN[0].timestamp() + days * 86400, UTC)
    found = fire_list(schedule, Rules(zone=zone, window=window), now, 20)
    assert len(found.fires) == 20
    assert [fire.at for fire in found.fires] == sorted({fire.at for fire in found.fires})
