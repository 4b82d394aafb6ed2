from __future__ import annotations

import json

import pytest
from hypothesis import given
from retention_samples import policies

from backups.retention import FIELDS, RULES, Duration, Policy, PolicyError


@given(policies(empty=True))
def test_a_policy_reads_back_from_its_mapping(policy: Policy) -> None:
    read = Policy.from_mapping(json.loads(json.dumps(policy.to_mapping())))

    assert read.to_mapping() == policy.to_mapping()
    assert read.describe() == policy.describe()


@pytest.mark.parametrize("off", [None, "", 0], ids=repr)
def test_blank_none_and_zero_switch_a_rule_off(off: object) -> None:
    policy = Policy.from_mapping({f"keep_{rule}": off for rule in RULES} | {"timezone": ""})

    assert policy == Policy()
    assert policy.is_empty
    assert policy.to_mapping() == {"timezone": "UTC"}


def test_a_duration_of_zero_is_off() -> None:
    assert Policy.from_mapping({"keep_within": "0d"}) == Policy()
    assert Policy(keep_within=Duration()).is_empty


@pytest.mark.parametrize(
    ("field", "value", "part_of_message"),
    [
        ("keep_daily", True, "True is not a whole number"),
        ("keep_daily", False, "False is not a whole number"),
        ("keep_daily", "7", "'7' is not a whole number"),
        ("keep_daily", 7.0, "7.0 is not a whole number"),
        ("keep_daily", 0.0, "0.0 is not a whole number"),
        ("keep_daily", [7], "is not a whole number"),
        ("keep_daily", -2, "-2 is negative"),
        ("keep_daily", 100_001, "the most is 100000"),
        ("keep_within", 30, "write it as text"),
        ("keep_within", True, "write it as text"),
        ("keep_within_daily", "30", "after 30 write"),
        ("keep_within_daily", "-30d", "a number is missing"),
        ("timezone", "Mars/Olympus", "'Mars/Olympus' is not a known time zone"),
        ("timezone", "../etc/passwd", "is not a known time zone"),
        ("timezone", "/etc/localtime", "is not a known time zone"),
        ("timezone", "localtime", "is not a known time zone"),
        ("timezone", "Europe", "is not a known time zone"),
        ("timezone", "Europe/Berl\x00in", "is not a known time zone"),
        ("timezone", 1, "1 is not a time zone"),
        ("timezone", True, "True is not a time zone"),
        ("keep_dayly", 7, "there is no such rule"),
    ],
)
def test_a_bad_value_is_refused_with_its_field(field: str, value: object, part_of_message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.from_mapping({"keep_last": 3, field: value})

    assert list(caught.value.errors) == [field]
    assert part_of_message in caught.value.errors[field]


def test_all_bad_fields_are_named_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.from_mapping(
            {"timezone": "Nowhere", "keep_within": "x", "keep_last": -9, "keep_all": 1, "keep_daily": 7}
        )

    assert list(caught.value.errors) == ["keep_last", "keep_within", "timezone", "keep_all"]
    assert str(caught.value).startswith("keep_last: -9 is negative")


def test_a_policy_must_be_a_table() -> None:
    with pytest.raises(PolicyError, match="policy: a table of rules is expected, not list"):
        Policy.from_mapping(["keep_last"])  # type: ignore[arg-type]


def test_a_policy_made_directly_is_checked_as_well() -> None:
    with pytest.raises(PolicyError) as caught:
        Policy(keep_last=-5, keep_within="30d", timezone="Nowhere")  # type: ignore[arg-type]

    assert list(caught.value.errors) == ["keep_last", "keep_within", "timezone"]


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({}, "no rule: everything is kept"),
        (
            {"keep_last": 3, "keep_daily": 7, "keep_weekly": 4, "keep_monthly": 12, "timezone": "Europe/Berlin"},
            "the last 3, 7 daily, 4 weekly, 12 monthly; periods in Europe/Berlin",
        ),
        ({"keep_last": -1}, "every backup; periods in UTC"),
        ({"keep_yearly": -1, "keep_hourly": 24}, "24 hourly, every yearly; periods in UTC"),
        (
            {"keep_within": "30d", "keep_within_weekly": "1y"},
            "all within 30d of the newest, weekly within 1y of the newest; periods in UTC",
        ),
    ],
)
def test_a_policy_describes_itself_in_words(mapping: dict[str, object], words: str) -> None:
    assert Policy.from_mapping(mapping).describe() == words


def test_the_fields_are_those_of_the_policy() -> None:
    assert set(FIELDS) == set(Policy.__dataclass_fields__)
    assert (*(f"keep_{rule}" for rule in RULES), "timezone") == FIELDS
