from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tzlocal
from django.core.exceptions import ValidationError

from backups.models import Options
from backups.retention import PolicyError
from backups.services.options import effective_policy, options_adopt_machine_zone, options_update

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    tzlocal.reload_localzone()


@pytest.mark.parametrize(
    ("zone", "expected"),
    [("Europe/Berlin", "Europe/Berlin"), ("Etc/UTC", "UTC")],
)
def test_a_new_installation_takes_over_the_machines_zone(
    machine_zone: pytest.MonkeyPatch, zone: str, expected: str
) -> None:
    machine_zone.setenv("TZ", zone)
    tzlocal.reload_localzone()
    options_adopt_machine_zone()
    assert Options.load().timezone == expected


def test_a_zone_that_someone_chose_stays(machine_zone: pytest.MonkeyPatch) -> None:
    options_update(timezone="Asia/Tokyo")
    machine_zone.setenv("TZ", "Europe/Berlin")
    tzlocal.reload_localzone()
    options_adopt_machine_zone()
    assert Options.load().timezone == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"minimum_keep": 0}, "minimum_keep"),
        ({"minimum_keep": True}, "minimum_keep"),
        ({"trash_hours": -1}, "trash_hours"),
        ({"trash_hours": 10**9}, "trash_hours"),
        ({"retention": {"keep_daily": -5}}, "retention.keep_daily"),
        ({"retention": {"keep_decades": 1}}, "retention.keep_decades"),
        ({"retention": {"keep_within": "soon"}}, "retention.keep_within"),
    ],
)
def test_what_cannot_be_used_is_refused_at_its_field_and_nothing_is_saved(values: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        options_update(**{"minimum_keep": 3, **values})
    assert list(caught.value.message_dict) == [field]
    assert Options.load().minimum_keep == 1


def test_a_jobs_policy_takes_the_zone_of_options_unless_it_names_one() -> None:
    options = options_update(timezone="Europe/Berlin", retention={"keep_daily": 7})
    assert effective_policy(override=None, options=options).timezone == "Europe/Berlin"
    assert effective_policy(override={"keep_last": 1}, options=options).timezone == "Europe/Berlin"
    own = effective_policy(override={"keep_last": 1, "timezone": "Asia/Tokyo"}, options=options)
    assert (own.timezone, own.keep_daily) == ("Asia/Tokyo", 0)


def test_an_unusable_stored_policy_is_an_error_not_a_deletion() -> None:
    with pytest.raises(PolicyError):
        effective_policy(override={"keep_last": "many"}, options=Options.load())
