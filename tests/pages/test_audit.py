"""The audit trail as people read it and take it away."""

from __future__ import annotations

import csv
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backups.models import AuditAction, AuditEntry
from backups.services.protections import backup_pin, hold_place
from tests import factories
from tests.pages.people import HTMX, sign_in
from tests.support import now

pytestmark = pytest.mark.django_db

AUDIT = "/audit/"


@pytest.fixture
def client() -> Client:
    return sign_in("viewer")


def page(client: Client, **query: str) -> str:
    answer = client.get(AUDIT, query)
    assert answer.status_code == 200
    return answer.content.decode().replace("\u00a0", " ")


def rows_of(client: Client, **query: str) -> list[dict[str, str]]:
    answer = client.get("/audit/export/", query)
    assert answer.status_code == 200
    text = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    return list(csv.DictReader(text.splitlines()))


def entry(**values: object) -> AuditEntry:
    return factories.AuditEntryFactory(**values)


def shown(client: Client, **query: str) -> set[str]:
    """Which entries the page lists, by their reasons."""
    return set(re.findall(r'data-label="Why">([^<]*)', page(client, **query)))


def test_without_an_entry_it_says_what_will_be_written_down(client: Client) -> None:
    text = page(client)
    assert "Nothing has been done yet" in text
    assert "Download as CSV" not in text


def test_an_entry_says_when_what_who_which_and_why(client: Client) -> None:
    backup = factories.BackupFactory(size=2048)
    backup_pin(backup=backup, by="anna", note="tax records")
    text = page(client)
    for words in ("Pinned", "anna", "2.0 KiB", "For ever: tax records", backup.shown_path):
        assert words in text
    assert f'<a href="/backups/{backup.uid}/">{backup.target_name}</a>' in text


def test_a_deletion_names_its_run_and_who_approved_it(client: Client) -> None:
    entry(action=AuditAction.TRASH, actor="maintenance:12", run="maintenance:12", approved_by="bert", target_name="etc")
    text = page(client)
    assert '<a href="/runs/maintenance/12/">maintenance run 12</a>' in text
    assert "approved by bert" in text


def test_a_copy_that_the_catalogue_has_no_more_is_named_without_a_link(client: Client) -> None:
    entry(backup_uid="0" * 16, target_name="etc", artifact="etc/x.tar.zst")
    text = page(client)
    assert "/backups/0000" not in text
    assert "etc/x.tar.zst" in text


def test_it_is_filtered_by_action(client: Client) -> None:
    entry(action=AuditAction.PIN, reason="A")
    entry(action=AuditAction.UNPIN, reason="B")
    assert shown(client, action="pin") == {"A"}
    assert shown(client, action="nonsense") == {"A", "B"}
    assert "Only pinned, newest first." in page(client, action="pin")
    assert "No entry fits these filters" in page(client, action="hold")


@pytest.mark.parametrize(
    "text", ["anna", "ANNA", "etc-2026", "databases", "abcdef0123456789", "ABCDEF0123456789", "abcdef", "  anna "]
)
def test_it_is_filtered_by_a_text_that_actor_target_file_or_uid_contain(client: Client, text: str) -> None:
    uid = "abcdef0123456789"
    entry(reason="A", actor="anna", target_name="databases", artifact="etc/etc-2026.tar.zst", backup_uid=uid)
    entry(reason="B", actor="bert", target_name="www", artifact="www/x.tar.zst", backup_uid="0" * 16)
    assert shown(client, q=text) == {"A"}
    assert shown(client, q=text, action="hold") == set()


@pytest.mark.parametrize("text", ["\0", "%", "_", "9" * 5000, "\ud800", "'", '"><script>'])
@pytest.mark.parametrize("name", ["q", "before", "after", "action"])
def test_a_text_of_any_kind_breaks_nothing(client: Client, name: str, text: str) -> None:
    entry(reason="A")
    answer = client.get(AUDIT, {name: text.encode("utf-8", "replace").decode()})
    assert answer.status_code == 200
    assert "<script>" not in answer.content.decode().partition("<main")[2]


def test_pages_go_on_where_the_last_one_ended(client: Client) -> None:
    made = [entry(reason=f"entry {number}") for number in range(120)]
    seen: list[str] = []
    address: str | None = AUDIT
    while address:
        text = client.get(address).content.decode()
        seen += re.findall(r'data-label="Why">([^<]*)', text)
        found = re.search(r'rel="next" href="([^"]+)"', text)
        address = found[1].replace("&amp;", "&") if found else None
    assert seen == [f"Entry {number}" for number in reversed(range(120))]
    back = re.search(r'rel="prev" href="([^"]+)"', text)
    assert back
    middle = client.get(back[1]).content.decode()
    assert "Entry 69" in middle
    assert "Entry 20" in middle
    assert "Entry 19<" not in middle
    assert f"before={made[20].pk}" in middle


def test_new_entries_do_not_shift_an_older_page(client: Client) -> None:
    for number in range(60):
        entry(reason=f"entry {number}")
    older = re.search(r'rel="next" href="([^"]+)"', page(client))
    assert older
    before = client.get(older[1]).content.decode().count("<tr>")
    entry(reason="a new one")
    assert client.get(older[1]).content.decode().count("<tr>") == before


def test_with_htmx_it_is_its_region_alone(client: Client) -> None:
    assert client.get(AUDIT, headers=HTMX).content.decode().strip().startswith('<div id="audit"')


def test_it_asks_no_more_queries_for_more_entries(client: Client) -> None:
    def fill(count: int) -> int:
        for _ in range(count):
            backup_pin(backup=factories.BackupFactory(), by="anna")
        with CaptureQueriesContext(connection) as queries:
            page(client)
        return len(queries)

    page(client)
    few, many = fill(1), fill(20)
    assert many == few
    assert many <= 9


def test_the_filtered_list_is_taken_away_as_csv(client: Client) -> None:
    backup = factories.BackupFactory(size=2048)
    backup_pin(backup=backup, by="anna", note="a, “b”", until=now() + timedelta(days=1))
    hold_place(by="bert", note="all")
    assert 'href="/audit/export/?action=pin"' in page(client, action="pin")
    [row] = rows_of(client, action="pin")
    assert (row["actor"], row["action"], row["size"]) == ("anna", "pin", "2048")
    assert row["reason"].endswith(": a, “b”")
    assert row["sha256"] == backup.sha256
    assert [row["actor"] for row in rows_of(client)] == ["bert", "anna"]


@pytest.mark.parametrize("note", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_cell_is_never_a_formula(client: Client, note: str) -> None:
    entry(reason=note)
    assert rows_of(client)[0]["reason"] == f"'{note}"


def test_all_of_it_is_exported_however_much_there_is(client: Client) -> None:
    AuditEntry.objects.bulk_create(
        AuditEntry(at=now(), action=AuditAction.PIN, actor="anna", reason=str(number)) for number in range(2500)
    )
    assert len(rows_of(client)) == 2500
