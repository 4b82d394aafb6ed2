"""Pausing everything, and one job of either kind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from backups.models import BackupJob
from backups.services.options import options_update
from scheduling.job_forms import PauseForm
from scheduling.job_rules import pause_all
from scheduling.models import Pause, SchedulerState
from tests.factories import BackupJobFactory, MaintenanceJobFactory
from tests.pages.people import HTMX, sign_in

pytestmark = pytest.mark.django_db

URL = "/pause/"
NOTICE = 'id="pause-notice"'
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def client() -> Client:
    options_update(timezone="Europe/Berlin")
    return sign_in("operator")


@pytest.fixture
def friday(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """A Friday, 23:30 in Berlin."""
    now = datetime(2026, 11, 27, 22, 30, tzinfo=UTC)
    monkeypatch.setattr(timezone, "now", lambda: now)
    return now


def page(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize(
    ("data", "until"),
    [
        ({"until": "1h"}, datetime(2026, 11, 28, 0, 30, tzinfo=BERLIN)),
        ({"until": "tomorrow"}, datetime(2026, 11, 28, 6, 0, tzinfo=BERLIN)),
        ({"until": "at", "at": "2026-12-24T18:00"}, datetime(2026, 12, 24, 18, 0, tzinfo=BERLIN)),
        ({"until": "2026-12-24T18:00"}, datetime(2026, 12, 24, 18, 0, tzinfo=BERLIN)),
        ({"until": "1h", "at": "nonsense"}, datetime(2026, 11, 28, 0, 30, tzinfo=BERLIN)),
    ],
)
@pytest.mark.usefixtures("friday")
def test_everything_is_paused_until_a_moment_in_the_viewers_zone(
    client: Client, data: dict[str, str], until: datetime
) -> None:
    answer = client.post(URL, {**data, "reason": "the disk is being replaced"})
    assert answer["Location"] == "/"
    pause = Pause.objects.get()
    assert (pause.until, pause.by, pause.reason) == (until, "the operator", "the disk is being replaced")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "This field is required."),
        ({"until": "at"}, "Say until when"),
        ({"until": "at", "at": "2020-01-01T00:00"}, "(Europe/Berlin) has passed"),
        ({"until": "at", "at": "soon"}, "is not a moment"),
        ({"until": "never"}, "is not a moment"),
        ({"until": "\0"}, "Null characters are not allowed."),
        ({"until": "at", "at": "9999-12-31T23:59"}, "Choose a year"),
        ({"until": "9" * 5000}, "at most 60 characters"),
        ({"until": "1h", "reason": "x" * 201}, "at most 200 characters"),
    ],
)
def test_what_is_no_moment_is_refused_and_nothing_is_paused(client: Client, data: dict[str, str], says: str) -> None:
    answer = client.post(URL, data)
    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert not Pause.objects.exists()


def test_the_form_says_what_a_pause_does_and_in_which_zone(client: Client) -> None:
    text = page(client, URL)
    assert "Retention does not run either" in text
    assert "In Europe/Berlin" in text
    assert NOTICE not in text


def test_while_it_is_paused_every_page_says_who_until_when_and_why(client: Client) -> None:
    until = timezone.now() + timedelta(hours=3)
    pause_all(until=until, by="anna", reason="new <disk>")
    for url in ("/", "/backup-jobs/", "/maintenance-jobs/", "/runs/", "/options/"):
        text = page(client, url)
        notice = text.partition(NOTICE)[2].partition("</div></div>")[0]
        assert "Everything is paused until" in notice
        assert f"{until.astimezone(BERLIN):%H:%M}" in notice
        assert "(Europe/Berlin), by anna.</strong> “new &lt;disk&gt;”" in notice
        assert f'name="next" value="{url}"' in notice
        assert 'action="/pause/resume/"' in notice


def test_a_viewer_sees_the_pause_and_cannot_end_it(client: Client) -> None:
    pause_all(until=timezone.now() + timedelta(hours=1), by="anna")
    text = page(sign_in("viewer"), "/backup-jobs/")
    assert NOTICE in text
    assert "/pause/" not in text
    assert sign_in("viewer").post("/pause/resume/").status_code == 403
    assert Pause.objects.exists()


def test_the_notice_is_there_with_a_scheduler_and_goes_with_the_pause(client: Client) -> None:
    now = timezone.now()
    SchedulerState.objects.create(pk=1, host="h", hostname="here", pid=1, started_at=now, seen_at=now)
    pause_all(until=now + timedelta(hours=1), by="anna")
    assert "Scheduler alive, everything paused" in page(client, "/")
    Pause.objects.update(until=now - timedelta(seconds=1))
    text = page(client, "/")
    assert NOTICE not in text
    assert "everything paused" not in text


def test_the_frame_costs_no_query_more_for_the_pause_that_is_not_there(
    client: Client, django_assert_max_num_queries: Any
) -> None:
    now = timezone.now()
    SchedulerState.objects.create(pk=1, host="h", hostname="here", pid=1, started_at=now, seen_at=now)
    client.get(URL)
    # The session, the user and their permissions, the zone, and the heartbeat; the form's own look at the pause.
    with django_assert_max_num_queries(7):
        page(client, URL)


def test_a_region_for_htmx_has_no_second_notice(client: Client) -> None:
    pause_all(until=timezone.now() + timedelta(hours=1), by="anna")
    assert NOTICE not in client.get("/backup-jobs/", headers=HTMX).content.decode()


@pytest.mark.parametrize(
    ("back", "goes"),
    [
        ("/backup-jobs/?page=2", "/backup-jobs/?page=2"),
        ("https://elsewhere.example/", "/"),
        ("//elsewhere.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_resuming_goes_back_to_the_page_it_was_pressed_on(client: Client, back: str, goes: str) -> None:
    pause_all(until=timezone.now() + timedelta(hours=1), by="anna")
    assert client.post("/pause/resume/", {"next": back})["Location"] == goes
    assert not Pause.objects.exists()


def test_resuming_twice_is_said_and_no_error(client: Client) -> None:
    answer = client.post("/pause/resume/", follow=True)
    assert "The pause had ended already." in answer.content.decode()
    assert client.get("/pause/resume/").status_code == 405


def test_pausing_again_changes_until_when_and_why(client: Client) -> None:
    pause_all(until=timezone.now() + timedelta(days=1), by="anna", reason="new disk")
    assert "new disk" in page(client, URL)
    client.post(URL, {"until": "1h", "reason": "nearly done"})
    pause = Pause.objects.get()
    assert (pause.by, pause.reason) == ("the operator", "nearly done")
    assert pause.until < timezone.now() + timedelta(hours=2)


# --- One job -------------------------------------------------------------------------------------------------------

KINDS = [
    pytest.param(BackupJobFactory, lambda job: f"/backup-jobs/{job.pk}/", id="backup"),
    pytest.param(MaintenanceJobFactory, lambda job: f"/maintenance-jobs/{job.key}/", id="maintenance"),
]


@pytest.mark.parametrize(("factory", "address"), KINDS)
def test_a_job_is_paused_and_resumed(client: Client, factory: Any, address: Any) -> None:
    job = factory(name="nightly")
    listed = address(job).replace(f"{getattr(job, 'key', job.pk)}/", "")
    assert "Pause nightly until when?" in page(client, f"{address(job)}pause/")
    answer = client.post(f"{address(job)}pause/", {"until": "tomorrow", "back": "list"}, follow=True)
    text = answer.content.decode()
    assert answer.redirect_chain[-1][0] == listed
    assert "nightly is paused until" in text
    assert "(Europe/Berlin)" in text
    assert 'data-status="paused"' in text
    job.refresh_from_db()
    assert job.paused_by == "the operator"
    assert job.paused_until.astimezone(BERLIN).hour == 6
    assert "It is paused until" in page(client, f"{address(job)}pause/")
    answer = client.post(f"{address(job)}pause/", {"resume": "1", "back": "list"}, follow=True)
    assert "nightly is paused no longer." in answer.content.decode()
    assert 'data-status="paused"' not in answer.content.decode()
    job.refresh_from_db()
    assert job.paused_until is None


@pytest.mark.parametrize(("factory", "address"), KINDS)
@pytest.mark.parametrize("data", [{}, {"until": "soon"}, {"until": "at", "at": "1999-01-01"}, {"until": "\0"}])
def test_a_moment_that_makes_no_sense_leaves_the_job_alone(
    client: Client, factory: Any, address: Any, data: dict[str, str]
) -> None:
    job = factory()
    answer = client.post(f"{address(job)}pause/", data)
    assert answer.status_code == 422
    assert "Nothing was changed." in answer.content.decode()
    job.refresh_from_db()
    assert job.paused_until is None


def test_a_job_that_is_not_there_cannot_be_paused(client: Client) -> None:
    for url in (f"/backup-jobs/{'9' * 30}/pause/", "/maintenance-jobs/gone/pause/"):
        assert client.get(url).status_code == 404
        assert client.post(url, {"until": "1h"}).status_code == 404


def test_a_job_deleted_between_look_and_pause_is_a_404(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    job = BackupJobFactory()
    look = PauseForm.clean

    def meanwhile(form: Any) -> Any:
        BackupJob.objects.all().delete()
        return look(form)

    monkeypatch.setattr(PauseForm, "clean", meanwhile)
    assert client.post(f"/backup-jobs/{job.pk}/pause/", {"until": "1h"}).status_code == 404
