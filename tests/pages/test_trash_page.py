"""The trash as people see it: what is in it, why, until when, and back with one click."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backups.choices import BackupState
from backups.models import AuditAction, AuditEntry, Backup, BackupJob
from backups.services.options import options_update
from backups.services.protections import backup_pin, hold_place
from backups.services.storages import storage_create
from maintenance.models import MaintenanceJob
from maintenance.services import PURGE_TRASH
from scheduling.choices import RunStatus
from scheduling.cron import parse_cron
from scheduling.dispatch import scheduled_dispatch
from tests import factories
from tests.pages.people import HTMX, sign_in
from tests.support import (
    add_backup,
    artifact_path,
    assert_catalogue_matches_storage,
    default_jobs,
    make_job,
    move_to_trash,
    no_blast_radius,
    now,
)

pytestmark = pytest.mark.django_db

TRASH = "/trash/"
REASONS = {
    "keep": False,
    "reasons": [
        {"kind": "exhausted", "rule": "daily", "count": 7, "text": "daily: all 7 used, the oldest is day 2026-11-17"},
        {"kind": "replaced", "rule": "weekly", "text": "weekly: 2026-11-15 03:00 is newer in the same week"},
        {"kind": "hint", "text": "would stay with keep_daily 8"},
    ],
}


@pytest.fixture
def client() -> Client:
    return sign_in("administrator")


@pytest.fixture(autouse=True)
def jobs(db: None) -> dict[str, MaintenanceJob]:
    return default_jobs()


def page(client: Client, **query: str) -> str:
    answer = client.get(TRASH, query)
    assert answer.status_code == 200
    return answer.content.decode().replace("\u00a0", " ")


def listed(text: str) -> set[str]:
    """The uids of the backups that the page lists."""
    return set(re.findall(r'href="/backups/([0-9a-f]{16})/"', text))


def heading(text: str) -> str:
    found = re.search(r"<h1>(.*?)</h1>", text)
    return found[1] if found else ""


def trash(**values: object) -> Backup:
    return factories.BackupFactory(**{"trashed": True, "verdict": REASONS, "removed_by": "maintenance:1", **values})


def shown_day(moment: object) -> str:
    day = timezone.localtime(moment)  # type: ignore[arg-type]
    year = "" if day.year == timezone.localdate().year else f" {day.year}"
    return f"{day.day} {day:%b}{year}"


@pytest.fixture
def deleted(tmp_path: Path) -> list[Backup]:
    """Four real copies that one cleanup moved to the trash, and one that stayed."""
    job = make_job(tmp_path)
    backups = [add_backup(job, now() - timedelta(days=days)) for days in (6, 5, 4, 3)]
    add_backup(job, now() - timedelta(days=1))
    move_to_trash(*backups, verdict=REASONS, run="maintenance:7")
    assert Backup.objects.trashed().count() == 4
    return list(Backup.objects.trashed().order_by("created_at"))


# --- What it shows ------------------------------------------------------------------------------------------------


def test_an_empty_trash_says_what_would_be_in_it(client: Client) -> None:
    text = page(client)
    assert heading(text) == "The trash is empty"
    assert "Until they are removed for good, each can be brought back" in text


def test_it_lists_what_is_in_the_trash_and_nothing_else(client: Client) -> None:
    mine = [trash(), trash()]
    for values in ({}, {"deleted": True}, {"state": "deleting"}, {"state": "missing"}):
        factories.BackupFactory(**values)
    text = page(client)
    assert listed(text) == {backup.uid for backup in mine}
    assert heading(text) == "2 backups in the trash"
    assert "2.0 KiB, each of them whole" in text


def test_a_row_says_why_in_a_sentence_and_lists_every_reason(client: Client) -> None:
    backup = trash()
    text = page(client)
    assert ">2026-11-15 03:00 is newer in the same week.<" in text
    assert "All 3 reasons" in text
    assert "<li>Would stay with keep_daily 8</li>" in text
    assert '<a href="/runs/maintenance/1/">maintenance run 1</a>' in text
    assert f"{backup.job_name}, in {backup.storage.name}" in text


@pytest.mark.parametrize("verdict", [None, {}, [], "text", {"reasons": None}, {"reasons": [1, {"x": 1}]}], ids=repr)
def test_a_verdict_of_another_form_is_no_reason(client: Client, verdict: object) -> None:
    trash(verdict=verdict, removed_by="maintenance:" + "9" * 20)
    assert "No reason was recorded." in page(client)


def test_it_says_when_a_copy_is_removed_for_good(client: Client, jobs: dict[str, MaintenanceJob]) -> None:
    options_update(trash_hours=48)
    backup = trash(trashed_at=now() - timedelta(hours=5))
    assert backup.trashed_at is not None
    removed = parse_cron(jobs[PURGE_TRASH].schedule_cron).next_after(backup.trashed_at + timedelta(hours=48), "UTC")
    text = page(client)
    assert f'<time datetime="{removed.isoformat()}"' in text
    assert "for 48 h at least" in text
    assert re.search(
        r'Next removal for good: <a href="/trash/\?order=soonest"><time datetime="' + re.escape(removed.isoformat()),
        text,
    )


def test_a_copy_that_is_overdue_goes_with_the_next_run_of_the_job(
    client: Client, jobs: dict[str, MaintenanceJob]
) -> None:
    trash(trashed_at=now() - timedelta(days=30))
    upcoming = parse_cron(jobs[PURGE_TRASH].schedule_cron).next_after(now(), "UTC")
    assert page(client).count(f'datetime="{upcoming.isoformat()}"') >= 3, "the job's next run, and the copy's end"


def test_a_copy_that_is_due_at_the_moment_of_a_run_goes_with_it(
    client: Client, jobs: dict[str, MaintenanceJob]
) -> None:
    options_update(trash_hours=48)
    run = parse_cron(jobs[PURGE_TRASH].schedule_cron).next_after(now() + timedelta(days=1), "UTC")
    trash(trashed_at=run - timedelta(hours=48))
    assert f'Next removal for good: <a href="/trash/?order=soonest"><time datetime="{run.isoformat()}"' in page(client)


@pytest.mark.parametrize("off", [{"enabled": False}, {"schedule_cron": ""}, None], ids=["off", "by hand", "deleted"])
def test_it_warns_when_nothing_empties_the_trash(client: Client, off: dict[str, object] | None) -> None:
    trash()
    assert "Nothing empties the trash." not in page(client)
    job = MaintenanceJob.objects.filter(key=PURGE_TRASH)
    job.update(**off) if off is not None else job.delete()
    text = page(client)
    assert "Nothing empties the trash." in text
    assert "not scheduled" in text
    assert "Next removal" not in text


@pytest.mark.parametrize("protection", ["pinned", "held"])
def test_what_is_protected_stays_and_does_not_count_as_the_next_removal(client: Client, protection: str) -> None:
    first, second = trash(trashed_at=now() - timedelta(days=9)), trash(trashed_at=now())
    if protection == "pinned":
        backup_pin(backup=first, by="anna", note="tax records")
    else:
        hold_place(by="anna", note="tax records", target=first.target)
    text = page(client)
    assert re.search(rf"stays: {protection} [^<]*anna[^<]*: tax records", text)
    due = second.trashed_at + timedelta(hours=72)
    removed = parse_cron("30 3 * * *").next_after(due, "UTC")
    assert re.search(r"Next removal for good: <a [^>]*><time datetime=\"" + re.escape(removed.isoformat()), text)
    hold_place(by="anna", note="all of it")
    assert "None of it is due to be removed" in page(client)


def test_the_newest_are_first_or_those_that_go_soonest(client: Client) -> None:
    late, early = trash(trashed_at=now()), trash(trashed_at=now() - timedelta(days=2))
    newest, soonest = page(client), page(client, order="soonest")
    assert newest.index(late.uid) < newest.index(early.uid)
    assert soonest.index(early.uid) < soonest.index(late.uid)


# --- Filters and pages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noun", ["target", "job", "storage"])
def test_it_is_filtered_by_one_noun(client: Client, noun: str) -> None:
    wanted, _ = trash(), trash()
    row = getattr(wanted, noun)
    text = page(client, **{noun: str(row.pk)})
    assert listed(text) == {wanted.uid}
    assert f"Only {noun} {row.name}." in text
    assert 'class="chip-clear" href="/trash/"' in text


def test_it_is_filtered_by_the_run_that_moved_them(client: Client) -> None:
    mine, _ = trash(removed_by="maintenance:12"), trash(removed_by="maintenance:13")
    text = page(client, run="maintenance:12")
    assert listed(text) == {mine.uid}
    assert "Only what maintenance run 12 moved here." in text
    assert "Undo the whole run: 1 backup<" in text
    assert listed(page(client, run="maintenance:99")) == set()
    assert "Nothing in the trash fits" in page(client, run="maintenance:99")


@pytest.mark.parametrize("value", ["0", "-1", "x", "\0", "٣", "maintenance:", "maintenance:x", "nothing:1", "9" * 5000])
@pytest.mark.parametrize("name", ["target", "job", "storage", "run", "order", "page", "select", "state"])
def test_a_filter_that_means_nothing_is_ignored(client: Client, name: str, value: str) -> None:
    backup = trash()
    assert listed(page(client, **{name: value})) == {backup.uid}


def test_fifty_a_page(client: Client) -> None:
    job = factories.BackupJobFactory()
    for hour in range(60):
        trash(job=job, trashed_at=now() - timedelta(hours=hour))
    assert len(listed(page(client))) == 50
    assert len(listed(page(client, page="2"))) == 10
    assert heading(page(client, page="2")) == "60 backups in the trash"


def test_with_htmx_it_is_its_region_alone(client: Client) -> None:
    trash()
    answer = client.get(TRASH, headers=HTMX)
    assert answer.content.decode().strip().startswith('<div id="trash"')


def test_it_asks_no_more_queries_for_more_backups(client: Client) -> None:
    def fill(count: int) -> int:
        for _ in range(count):
            trash()
        with CaptureQueriesContext(connection) as queries:
            page(client)
        return len(queries)

    page(client)
    few, many = fill(1), fill(20)
    assert many == few
    assert many <= 20


# --- Undo ---------------------------------------------------------------------------------------------------------


def test_one_comes_back_at_once_pinned_for_thirty_days(client: Client, deleted: list[Backup]) -> None:
    backup = deleted[0]
    answer = client.post("/trash/undo/", {"only": backup.uid, "back": "order=soonest&select=page"}, follow=True)
    assert answer.redirect_chain == [("/trash/?order=soonest", 302)]
    backup.refresh_from_db()
    assert backup.state == BackupState.AVAILABLE
    assert artifact_path(backup).read_bytes() == b"x" * 64
    assert backup.pin_until is not None
    assert timedelta(days=29, hours=23) < backup.pin_until - now() <= timedelta(days=30)
    assert f"is back in its place, pinned until {shown_day(backup.pin_until)}." in answer.content.decode()
    entry = AuditEntry.objects.filter(action=AuditAction.UNTRASH).get()
    assert (entry.actor, entry.backup_uid) == ("the administrator", backup.uid)
    assert_catalogue_matches_storage(backup.storage)


def test_the_next_cleanup_does_not_take_it_again(
    client: Client, deleted: list[Backup], jobs: dict[str, MaintenanceJob]
) -> None:
    options_update(retention={"keep_last": 1})
    no_blast_radius()
    client.post("/trash/undo/", {"only": deleted[0].uid})
    run = scheduled_dispatch("maintenance", jobs["retention_cleanup_nightly"].pk, inline=True)
    assert run is not None
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED, run.message
    deleted[0].refresh_from_db()
    assert deleted[0].state == BackupState.AVAILABLE


def test_a_pin_that_was_there_stays_as_it_was(client: Client, deleted: list[Backup]) -> None:
    backup_pin(backup=deleted[0], by="anna", note="tax records")
    answer = client.post("/trash/undo/", {"only": deleted[0].uid}, follow=True)
    assert "is back in its place, and still pinned." in answer.content.decode()
    deleted[0].refresh_from_db()
    assert (deleted[0].pinned_by, deleted[0].pin_until) == ("anna", None)


def test_several_are_asked_about_first_and_then_come_back(client: Client, deleted: list[Backup]) -> None:
    uids = [backup.uid for backup in deleted[:3]]
    asked = client.post("/trash/undo/", {"uid": uids}).content.decode()
    assert Backup.objects.trashed().count() == 4, "asking moves nothing"
    assert "Bring 3 backups back?" in asked
    assert "return to their place" in asked
    assert "pinned for 30 days" in asked
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="(\w*)"', asked)
    assert [value for name, value in fields if name == "uid"] == uids
    answer = client.post("/trash/undo/", {"uid": uids, "confirmed": "yes"}, follow=True)
    assert {backup.uid for backup in Backup.objects.available()} >= set(uids)
    day = shown_day(now() + timedelta(days=30))
    assert f"3 backups are back in their place, pinned until {day}." in answer.content.decode()
    assert_catalogue_matches_storage(deleted[0].storage)


def test_the_button_of_a_row_means_that_row_alone(client: Client, deleted: list[Backup]) -> None:
    ticked, pressed = deleted[0], deleted[1]
    client.post("/trash/undo/", {"uid": [ticked.uid, deleted[2].uid], "only": pressed.uid})
    assert set(Backup.objects.trashed()) == {deleted[0], deleted[2], deleted[3]}


@pytest.mark.parametrize("uids", [[], ["x"], ["\0"], ["0" * 17]], ids=repr)
def test_nothing_ticked_is_said_and_changes_nothing(client: Client, deleted: list[Backup], uids: list[str]) -> None:
    answer = client.post("/trash/undo/", {"uid": uids}, follow=True)
    assert "no backup was ticked" in answer.content.decode()
    assert Backup.objects.trashed().count() == 4


def test_a_whole_run_is_undone_after_a_question(client: Client, deleted: list[Backup], tmp_path: Path) -> None:
    other = add_backup(deleted[0].job, now() - timedelta(days=2))  # type: ignore[arg-type]
    move_to_trash(other, run="maintenance:8")
    address = "/trash/runs/maintenance/7/undo/"
    for asked in (client.get(address), client.post(address)):
        assert "Undo what maintenance run 7 deleted?" in asked.content.decode()
        assert "Bring 4 backups back" in asked.content.decode()
    assert Backup.objects.trashed().count() == 5
    answer = client.post(address, {"confirmed": "yes"}, follow=True)
    assert "4 backups are back in their place" in answer.content.decode()
    assert list(Backup.objects.trashed()) == [other]
    again = client.post(address, {"confirmed": "yes"}, follow=True)
    assert "there is nothing to undo" in again.content.decode()


def test_what_cannot_come_back_is_listed_with_its_reason_and_the_rest_comes(
    client: Client, deleted: list[Backup], tmp_path: Path
) -> None:
    away = storage_create(name="away", path=str(tmp_path / "away"))
    job = BackupJob.objects.create(name="weekly", storage=away)
    job.targets.set([deleted[0].target])
    lost = [add_backup(job, now() - timedelta(days=days)) for days in (3, 2, 1)]
    move_to_trash(*lost[:2], run="maintenance:7")
    Path(away.path).rename(tmp_path / "gone")
    answer = client.post("/trash/runs/maintenance/7/undo/", {"confirmed": "yes"}, follow=True)
    text = answer.content.decode()
    assert "4 backups are back in their place" in text
    assert "2 backups were not brought back:<ul>" in text
    for backup in lost[:2]:
        assert f"<li>{backup.target_name}, {backup.uid}, was not brought back: " in text
    assert set(Backup.objects.trashed()) == set(lost[:2])


def test_one_that_someone_else_brought_back_is_left_alone(client: Client, deleted: list[Backup]) -> None:
    client.post("/trash/undo/", {"only": deleted[0].uid})
    answer = client.post("/trash/undo/", {"only": deleted[0].uid}, follow=True)
    assert "is not in the trash any more, so it was left alone" in answer.content.decode()
    deleted[0].refresh_from_db()
    assert deleted[0].state == BackupState.AVAILABLE


def test_all_on_a_page_are_ticked_by_a_link(client: Client) -> None:
    for _ in range(3):
        trash()
    assert page(client).count(" checked") == 0
    assert page(client, select="page").count(" checked") == 3
    assert 'href="/trash/?select=page"' in page(client)


def tickable(text: str) -> Sequence[str]:
    return re.findall(r'<(?:input type="checkbox" name="uid"|button class="button small" name="only")', text)


def test_undo_is_offered_to_those_who_may_and_posted() -> None:
    trash()
    assert len(tickable(page(sign_in("administrator")))) == 2
    text = page(sign_in("operator"))
    assert tickable(text) == []
    assert "Undo the whole run" not in text
    assert sign_in("administrator").get("/trash/undo/").status_code == 405
