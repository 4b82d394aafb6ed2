from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from backups.services.options import options_update
from scheduling.models import Pause
from tests.commands.conftest import Run

pytestmark = pytest.mark.django_db


def test_everything_is_paused_and_resumed(run: Run) -> None:
    options_update(timezone="Europe/Berlin")
    ended = run("pause", "--until", "tomorrow", "--reason", "new  disk")
    assert ended.status == 0
    assert "06:00 (Europe/Berlin)" in ended.out
    pause = Pause.objects.get()
    assert pause.until.astimezone(ZoneInfo("Europe/Berlin")).hour == 6
    assert pause.reason == "new disk"
    assert pause.by
    assert run("resume").out.strip() == "Nothing is held back any more."
    assert run("resume").out.strip() == "Nothing was paused."
    assert not Pause.objects.exists()


def test_both_report_as_json(run: Run) -> None:
    value = run("pause", "--until", "2h", "--json").value
    assert value["paused"] is True
    assert value["until"] == Pause.objects.get().until.isoformat()
    assert run("resume", "--json").value == {"paused": False, "was_paused": True}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--until", "soon"], "“soon” is not a moment"),
        (["--until", "2020-01-01"], "has passed"),
        (["--until", ""], "Say until when"),
        (["--until", "1h", "--reason", "x" * 201], "200 are the most"),
    ],
)
def test_bad_input_is_status_2_and_pauses_nothing(run: Run, arguments: list[str], says: str) -> None:
    ended = run("pause", *arguments)
    assert ended.status == 2
    assert says in ended.err
    assert not Pause.objects.exists()


def test_a_longer_pause_takes_the_place_of_a_shorter_one(run: Run) -> None:
    run("pause", "--until", "1h")
    run("pause", "--until", "2d")
    assert Pause.objects.get().until > timezone.now() + timedelta(days=1)
