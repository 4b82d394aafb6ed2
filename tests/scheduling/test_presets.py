from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.cron import parse_cron
from scheduling.presets import PRESETS, USE, at_time, preset_apply, preset_of, time_of_day

KEYS = st.sampled_from([preset.key for preset in PRESETS])


@given(st.one_of(st.text(max_size=40), st.sampled_from(["5 4 * * *", "@daily", "*/5 * * * *", "0 0 30 2 *"])), KEYS)
def test_every_preset_makes_a_schedule_of_anything_and_is_known_again(schedule: str, key: str) -> None:
    made = preset_apply(key, schedule)
    assert preset_of(made) == key
    assert made == "" or parse_cron(made)


@given(st.integers(0, 23), st.integers(0, 59), st.sampled_from(["nightly", "weekdays", "weekly", "monthly"]))
def test_a_preset_keeps_the_time_of_day(hour: int, minute: int, key: str) -> None:
    assert time_of_day(preset_apply(key, f"{minute} {hour} 1 1 *")) == (hour, minute)


@pytest.mark.parametrize(
    ("choice", "schedule", "made"),
    [
        ("nightly", "", "30 2 * * *"),
        ("nightly", "15 4 * * 0", "15 4 * * *"),
        ("weekly", "@daily", "0 0 * * 0"),
        ("hourly", "45 3 * * *", "45 * * * *"),
        ("by-hand", "15 4 * * *", ""),
        ("no such choice", "15 4 * * *", "15 4 * * *"),
        (f"{USE}5 3 * * *", "30 2 * * *", "5 3 * * *"),
    ],
)
def test_what_a_choice_makes_of_a_schedule(choice: str, schedule: str, made: str) -> None:
    assert preset_apply(choice, schedule) == made


@pytest.mark.parametrize(
    ("schedule", "moved"),
    [
        ("30 2 * * *", "5 4 * * *"),
        ("30 2 1 * 5", "5 4 1 * 5"),
        ("@weekly", "5 4 * * 0"),
        ("0 */6 * * *", ""),
        ("30,45 2 * * *", ""),
        ("nonsense", ""),
    ],
)
def test_a_schedule_is_moved_to_another_time(schedule: str, moved: str) -> None:
    assert at_time(schedule, 4, 5) == moved
