"""Pins and holds as people set and lift them."""

from __future__ import annotations

import re
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from backups.models import AuditEntry, Backup, Hold
from backups.services.options import options_update
from backups.services.protections import backup_pin, hold_place
from tests import factories
from tests.pages.people import sign_in
from tests.support import now

pytestmark = pytest.mark.django_db

HOLDS = "/holds/"


@pytest.fixture
def client() -> Client:
    return sign_in("administrator")


def page(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode().replace("\u00a0", " ")


def next_year() -> int:
    return timezone.localdate().year + 1


# --- Pins ---------------------------------------------------------------------------------------------------------


def test_a_copy_is_pinned_for_ever_with_a_note(client: Client) -> None:
    backup = factories.BackupFactory()
    answer = client.post(f"/backups/{backup.uid}/pin/", {"note": "tax records"}, follow=True)
    assert answer.redirect_chain == [(f"/backups/{backup.uid}/", 302)]
    text = answer.content.decode()
    assert "is pinned until someone takes the pin off: no cleanup deletes it." in text
    assert "Pinned for ever by the administrator: tax records" in text
    backup.refresh_from_db()
    assert (backup.pinned_by, backup.pin_note, backup.pin_until) == ("the administrator", "tax records", None)


@pytest.mark.parametrize("zone", ["America/New_York", "UTC", "Pacific/Auckland"])
def test_a_pin_lasts_all_of_its_last_day_where_people_are(client: Client, zone: str) -> None:
    options_update(timezone=zone)
    backup = factories.BackupFactory()
    answer = client.post(f"/backups/{backup.uid}/pin/", {"until": f"{next_year()}-03-31"}, follow=True)
    backup.refresh_from_db()
    assert backup.pin_until is not None
    local = backup.pin_until.astimezone(ZoneInfo(zone))
    assert f"{local:%Y-%m-%d %H:%M:%S}" == f"{next_year()}-03-31 23:59:59"
    assert f"is pinned until 31 Mar {next_year()}" in answer.content.decode()
    assert f"Pinned until {next_year()}-03-31 by" in answer.content.decode()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"until": "2020-01-31"}, "This moment has passed. Choose a later one"),
        ({"until": "31.1.2099"}, "Write the day as 2027-01-31."),
        ({"until": "9999-12-31"}, "Choose a day before the end of 9998."),
        ({"until": "0001-01-01"}, "Choose a day before the end of 9998."),
        ({"note": "x" * 201}, "at most 200 characters"),
        ({"note": "a\0b"}, "Null characters are not allowed"),
    ],
    ids=lambda value: next(iter(value.items()))[1][:12] if isinstance(value, dict) else "",
)
def test_a_pin_that_cannot_be_is_refused_in_place(client: Client, values: dict[str, str], words: str) -> None:
    backup = factories.BackupFactory()
    answer = client.post(f"/backups/{backup.uid}/pin/", values)
    assert answer.status_code == 422
    text = answer.content.decode()
    assert "It was not pinned." in text
    assert words in text
    assert '<details class="more" open>' in text
    backup.refresh_from_db()
    assert backup.pinned_at is None


@pytest.mark.parametrize("state", [{"deleted": True}, {"state": "deleting"}], ids=["deleted", "deleting"])
def test_a_copy_whose_bytes_go_cannot_be_pinned(client: Client, state: dict[str, object]) -> None:
    backup = factories.BackupFactory(**state)
    assert "Pin it" not in page(client, backup.get_absolute_url())
    answer = client.post(f"/backups/{backup.uid}/pin/", {})
    assert answer.status_code == 422


def test_a_copy_in_the_trash_can_be_pinned_there(client: Client) -> None:
    backup = factories.BackupFactory(trashed=True, verdict={"keep": False})
    assert "Pin it" in page(client, backup.get_absolute_url())
    client.post(f"/backups/{backup.uid}/pin/", {"note": "look first"})
    assert "It stays there for now" in page(client, backup.get_absolute_url())


def test_the_pin_is_taken_off(client: Client) -> None:
    backup = backup_pin(backup=factories.BackupFactory(), by="anna", note="tax")
    assert "Take the pin off" in page(client, backup.get_absolute_url())
    answer = client.post(f"/backups/{backup.uid}/unpin/", follow=True)
    assert "is pinned no longer. The next cleanup decides about it." in answer.content.decode()
    backup.refresh_from_db()
    assert backup.pinned_at is None
    again = client.post(f"/backups/{backup.uid}/unpin/", follow=True)
    assert "is not pinned" in again.content.decode()
    assert AuditEntry.objects.count() == 2


def test_pinning_is_posted_and_offered_to_those_who_may() -> None:
    backup = backup_pin(backup=factories.BackupFactory(), by="anna")
    viewer, operator = sign_in("viewer"), sign_in("operator")
    assert "Take the pin off" in page(operator, backup.get_absolute_url())
    text = page(viewer, backup.get_absolute_url())
    assert "Pinned for ever by anna" in text
    assert "Take the pin off" not in text
    assert "Change the pin" not in text
    assert viewer.post(f"/backups/{backup.uid}/unpin/").status_code == 403
    assert operator.get(f"/backups/{backup.uid}/pin/").status_code == 405


# --- Holds --------------------------------------------------------------------------------------------------------


def test_the_page_says_what_a_hold_is_and_that_there_is_none(client: Client) -> None:
    text = page(client, HOLDS)
    assert "No hold is in force" in text
    assert "As long as a hold stands, no cleanup deletes what it covers" in text


@pytest.mark.parametrize("covers", [(), ("target",), ("job",), ("storage",), ("target", "storage")], ids=str)
def test_a_hold_is_placed_on_what_is_chosen(client: Client, covers: tuple[str, ...]) -> None:
    backup = factories.BackupFactory()
    factories.BackupFactory()
    chosen = {noun: getattr(backup, noun) for noun in covers}
    values = {noun: str(row.pk) for noun, row in chosen.items()} | {"note": "look into it"}
    answer = client.post("/holds/new/", values, follow=True)
    assert answer.redirect_chain == [(HOLDS, 302)]
    hold = Hold.objects.get()
    assert {noun: getattr(hold, noun) for noun in ("target", "job", "storage") if getattr(hold, noun)} == chosen
    assert (hold.note, hold.placed_by, hold.until) == ("look into it", "the administrator", None)
    text = answer.content.decode()
    assert "1 hold in force" in text
    assert f'<td class="num" data-label="Copies now">{2 if not covers else 1}</td>' in text
    scope = hold.scope if covers else "Everything"
    assert f'<th scope="row">{scope[0].upper()}{scope[1:]}</th>' in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"note": ""}, "Say why, so that whoever releases it knows"),
        ({"note": "  "}, "Say why, so that whoever releases it knows"),
        ({"note": "x", "until": "2020-01-31"}, "This moment has passed"),
        ({"note": "x", "target": "77"}, "Select a valid choice"),
        ({"note": "x", "target": "9" * 5000}, "Select a valid choice"),
        ({"note": "x", "job": "x"}, "Select a valid choice"),
    ],
)
def test_a_hold_that_cannot_be_is_refused_in_place(client: Client, values: dict[str, str], words: str) -> None:
    answer = client.post("/holds/new/", values)
    assert answer.status_code == 422
    assert "No hold was placed." in answer.content.decode()
    assert words in answer.content.decode()
    assert not Hold.objects.exists()


@pytest.mark.parametrize("noun", ["target", "job", "storage"])
def test_the_address_fills_in_what_a_hold_is_to_cover(client: Client, noun: str) -> None:
    backup = factories.BackupFactory()
    row = getattr(backup, noun)
    text = page(client, f"{HOLDS}?{noun}={row.pk}")
    assert f'<option value="{row.pk}" selected>{row.name}</option>' in text
    assert page(client, f"{HOLDS}?{noun}=x%00").count("selected>") == 3


def test_a_targets_page_leads_to_a_hold_on_its_copies(client: Client) -> None:
    backup = factories.BackupFactory()
    assert backup.target is not None
    link = f'href="/holds/?target={backup.target.pk}"'
    assert link in page(client, backup.target.get_absolute_url())
    assert link not in page(sign_in("viewer"), backup.target.get_absolute_url())


def test_a_hold_that_has_ended_is_gone_from_the_page(client: Client) -> None:
    hold = hold_place(by="anna", note="for a day", until=now() + timedelta(days=1))
    assert "for a day" in page(client, HOLDS)
    Hold.objects.filter(pk=hold.pk).update(until=now() - timedelta(seconds=1))
    assert "for a day" not in page(client, HOLDS)
    assert "No hold is in force" in page(client, HOLDS)


def test_a_hold_is_released_by_those_who_may(client: Client) -> None:
    hold = hold_place(by="anna", note="look into it")
    assert "Release" not in page(sign_in("operator"), HOLDS)
    assert sign_in("operator").post(f"/holds/{hold.pk}/release/").status_code == 403
    assert "Release" in page(client, HOLDS)
    answer = client.post(f"/holds/{hold.pk}/release/", follow=True)
    assert "The hold on everything is released." in answer.content.decode()
    assert not Hold.objects.exists()
    assert client.post(f"/holds/{hold.pk}/release/").status_code == 404


def test_a_held_copy_says_so_on_its_page(client: Client) -> None:
    backup = factories.BackupFactory()
    hold_place(by="anna", note="court case", target=backup.target)
    text = page(client, backup.get_absolute_url())
    assert re.search(r"Held by anna \(target [^)]*\): court case", text)
    assert 'href="/holds/"' in text
    assert 'data-status="held"' in text


def test_the_form_is_for_those_who_may_place_one() -> None:
    assert "Place the hold" in page(sign_in("operator"), HOLDS)
    assert "Place the hold" not in page(sign_in("viewer"), HOLDS)
    assert Backup.objects.count() == 0
