from __future__ import annotations

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backups.choices import BackupState
from backups.models import AuditAction, AuditEntry, Backup, BackupJob, BackupRun, LeasePurpose
from backups.services.options import options_update
from backups.services.protections import backup_lease, backup_pin, backup_unpin, hold_place
from backups.storage.names import SENTINEL
from maintenance.models import MaintenanceJob
from maintenance.services import CLEANUP_NIGHTLY, PURGE_TRASH
from scheduling.choices import RunTrigger
from scheduling.cron import parse_cron
from scheduling.dispatch import scheduled_dispatch
from tests import factories
from tests.pages.people import HTMX, sign_in
from tests.support import add_backup, default_jobs, make_job, move_to_trash, now, purge

pytestmark = pytest.mark.django_db

LIST = "/backups/"
REASONS = {"keep": False, "reasons": [{"kind": "exhausted", "text": "last: the one used, the oldest is yesterday"}]}


@pytest.fixture
def client() -> Client:
    return sign_in("administrator")


def page(client: Client, url: str, **query: str) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return answer.content.decode()


def listed(client: Client, **query: str) -> set[str]:
    """The uids of the backups that the list shows."""
    return {uid for uid in Backup.objects.values_list("uid", flat=True) if uid in page(client, LIST, **query)}


@pytest.fixture
def catalogue(db: None) -> dict[str, Backup]:
    """One backup in every state that people tell apart, each of its own target, job and storage."""
    return {
        "available": factories.BackupFactory(),
        "verified": factories.BackupFactory(verified_at=timezone.now()),
        "suspect": factories.BackupFactory(suspect=True),
        "accepted": factories.BackupFactory(suspect=True, accepted_at=timezone.now()),
        "missing": factories.BackupFactory(state="missing", state_reason="It is not there."),
        "quarantined": factories.BackupFactory(state="quarantined", state_reason="Its hash differs."),
        "trashed": factories.BackupFactory(trashed=True, verdict=REASONS),
        "deleting": factories.BackupFactory(state="deleting"),
        "deleted": factories.BackupFactory(deleted=True, verdict=REASONS),
    }


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("", "available verified suspect accepted missing quarantined trashed deleting"),
        ("nonsense", "available verified suspect accepted missing quarantined trashed deleting"),
        ("available", "available verified suspect accepted"),
        ("suspect", "suspect"),
        ("missing", "missing"),
        ("quarantined", "quarantined"),
        ("trashed", "trashed deleting"),
        ("deleted", "deleted"),
        ("all", "available verified suspect accepted missing quarantined trashed deleting deleted"),
    ],
)
def test_the_list_is_filtered_by_state(client: Client, catalogue: dict[str, Backup], state: str, shown: str) -> None:
    assert listed(client, state=state) == {catalogue[name].uid for name in shown.split()}


@pytest.mark.parametrize("noun", ["target", "job", "storage"])
def test_the_list_is_filtered_by_one_noun(client: Client, catalogue: dict[str, Backup], noun: str) -> None:
    wanted = catalogue["verified"]
    row = getattr(wanted, noun)
    assert listed(client, **{noun: str(row.pk)}) == {wanted.uid}
    text = page(client, LIST, **{noun: str(row.pk)})
    assert f"Only {noun} {row.name}." in text
    assert f'aria-current="true" hx-get="/backups/?{noun}={row.pk}"' in text


def test_filters_combine_and_are_cleared(client: Client, catalogue: dict[str, Backup]) -> None:
    deleted = catalogue["deleted"]
    query = {"state": "deleted", "target": str(deleted.target_id)}
    assert listed(client, **query) == {deleted.uid}
    assert f"Only deleted, target {deleted.target_name}." in page(client, LIST, **query)
    assert 'class="chip-clear" href="/backups/"' in page(client, LIST, **query)
    assert listed(client, state="missing", target=str(deleted.target_id)) == set()
    assert "No backup fits" in page(client, LIST, state="missing", target=str(deleted.target_id))


@pytest.mark.parametrize("value", ["0", "-1", "x", "\0", "\ud800", "٣", "1.0", "9" * 30, "9" * 5000])
@pytest.mark.parametrize("name", ["target", "job", "storage", "state", "page"])
def test_a_filter_that_means_nothing_is_ignored(client: Client, name: str, value: str) -> None:
    backup = factories.BackupFactory()
    assert listed(client, **{name: value.encode("utf-8", "replace").decode()}) == {backup.uid}


def test_many_targets_are_chosen_from_a_form_that_keeps_the_other_filters(client: Client) -> None:
    backups = [factories.BackupFactory(deleted=True) for _ in range(14)]
    text = page(client, LIST, state="deleted", target=str(backups[0].target_id))
    assert '<select class="input" name="target">' in text
    assert f'<option value="{backups[0].target_id}" selected>' in text
    assert '<input type="hidden" name="state" value="deleted">' in text


def test_fifty_backups_a_page_newest_first(client: Client) -> None:
    job = factories.BackupJobFactory()
    begin = timezone.now() - timedelta(days=10)
    made = [factories.BackupFactory(job=job, created_at=begin + timedelta(hours=hour)) for hour in range(60)]
    first, second = page(client, LIST), page(client, LIST, page="2")
    assert "60 backups" in first
    assert first.index(made[59].uid) < first.index(made[10].uid)
    assert made[9].uid not in first
    assert made[9].uid in second
    assert made[10].uid not in second


def test_with_htmx_the_list_is_its_region_alone(client: Client, catalogue: dict[str, Backup]) -> None:
    answer = client.get(LIST, headers=HTMX)
    assert answer.content.decode().strip().startswith('<div id="backups"')
    assert "HX-Request" in answer["Vary"]


def test_without_backups_the_next_step_is_offered(client: Client) -> None:
    assert 'href="/protect/"' in page(client, LIST)


def test_a_fresh_copy_says_what_it_is_and_how_to_get_it_back(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    scheduled_dispatch("backup", job.pk, inline=True, trigger=RunTrigger.MANUAL)
    backup, run = Backup.objects.get(), BackupRun.objects.get()
    text = page(client, f"/backups/{backup.uid}/")
    for expected in (backup.uid, backup.sha256, "3 files", f"/runs/backup/{run.pk}/", "The next cleanup keeps it"):
        assert expected in text
    assert f"manage.py restore {backup.uid} --to /new/folder" in text
    line = next(line for line in text.splitlines() if line.startswith("tar --zstd -xf "))
    destination = tmp_path / "new folder"
    destination.mkdir()
    command = line.removesuffix("</pre>").replace("/new/folder", f"'{destination}'")
    subprocess.run(["sh", "-c", command], check=True)
    assert sorted(path.name for path in destination.rglob("*.txt")) == ["file-0.txt", "file-1.txt", "file-2.txt"]


def test_a_live_copy_shows_the_verdict_of_the_next_cleanup(client: Client, tmp_path: Path) -> None:
    options_update(retention={"keep_last": 1})
    job = make_job(tmp_path)
    old, new = (add_backup(job, timezone.now() - timedelta(days=days)) for days in (2, 1))
    kept, deleted = page(client, f"/backups/{new.uid}/"), page(client, f"/backups/{old.uid}/")
    assert "The next cleanup keeps it" in kept
    assert "Last 1 of 1" in kept
    assert "The next cleanup moves it to the trash" in deleted
    assert "Would stay with keep_last 2" in deleted


def test_a_copy_in_the_trash_says_why_and_until_when(client: Client, tmp_path: Path) -> None:
    options_update(trash_hours=48)
    job = make_job(tmp_path)
    old, _ = (add_backup(job, timezone.now() - timedelta(days=days)) for days in (2, 1))
    move_to_trash(old, verdict=REASONS, run="maintenance:7")
    MaintenanceJob.objects.filter(key=PURGE_TRASH).update(schedule_cron="* * * * *")
    text = page(client, f"/backups/{old.uid}/")
    assert "It was deleted: last: the one used, the oldest is yesterday" in text
    assert "Last: the one used, the oldest is yesterday" in text
    assert '<a href="/runs/maintenance/7/">maintenance run 7</a>' in text
    assert re.search(r"Removed for good <time [^>]*>in (2 d|1 d 23 h)</time>", text.replace("\u00a0", " "))
    assert ".keepwell-trash/" in text
    assert "manage.py restore" not in text, "the command refuses what is in the trash"


def test_a_deleted_copy_stays_readable_as_a_tombstone(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    old, _ = (add_backup(job, timezone.now() - timedelta(days=days)) for days in (2, 1))
    move_to_trash(old, verdict=REASONS, run="api:x")
    old.refresh_from_db()
    purge(old)
    text = page(client, f"/backups/{old.uid}/")
    assert "It was deleted: last" in text
    assert "by api:x" in text
    assert "this record stays" in text
    assert "tar --zstd" not in text


@pytest.mark.parametrize("verdict", [None, {}, [], "text", {"reasons": None}, {"reasons": [1, {"x": 1}]}], ids=repr)
def test_a_verdict_of_another_form_does_not_break_the_page(client: Client, verdict: object) -> None:
    backup = factories.BackupFactory(deleted=True, verdict=verdict, removed_by="maintenance:" + "9" * 20)
    assert client.get(f"/backups/{backup.uid}/").status_code == 200


def test_a_copy_whose_job_and_target_are_gone_says_that_it_stays(client: Client) -> None:
    backup = factories.BackupFactory()
    Backup.objects.filter(pk=backup.pk).update(job=None, target=None, run=None)
    assert "so it stays for good" in page(client, f"/backups/{backup.uid}/")
    assert backup.uid in page(client, LIST)


def test_accepting_a_suspect_copy_makes_it_count(client: Client) -> None:
    backup = factories.BackupFactory(suspect=True)
    assert "Accept it as good" in page(client, f"/backups/{backup.uid}/")
    answer = client.post(f"/backups/{backup.uid}/accept/")
    assert answer["Location"] == f"/backups/{backup.uid}/"
    backup.refresh_from_db()
    assert backup.accepted_at is not None
    assert Backup.objects.good().get() == backup
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.backup_uid) == (AuditAction.ACCEPT, "the administrator", backup.uid)
    assert entry.reason == backup.suspect_reason
    assert "Accept it as good" not in page(client, f"/backups/{backup.uid}/")


def test_accepting_a_copy_that_is_not_suspect_changes_nothing_and_says_so(client: Client) -> None:
    backup = factories.BackupFactory()
    answer = client.post(f"/backups/{backup.uid}/accept/", follow=True)
    assert "is not a suspect copy, so there is nothing to accept" in answer.content.decode()
    backup.refresh_from_db()
    assert backup.accepted_at is None
    assert not AuditEntry.objects.exists()


def test_accepting_is_posted_and_offered_to_administrators_only() -> None:
    backup = factories.BackupFactory(suspect=True)
    assert sign_in("administrator").get(f"/backups/{backup.uid}/accept/").status_code == 405
    assert "Accept it as good" not in page(sign_in("operator"), f"/backups/{backup.uid}/")


@pytest.mark.parametrize("uid", ["0" * 16, "x", "9" * 5000, "%00", "%ED%A0%80", "a%2Fb", "-"])
def test_a_backup_that_is_not_there_is_a_404(client: Client, uid: str) -> None:
    assert client.get(f"/backups/{uid}/").status_code == 404
    assert client.post(f"/backups/{uid}/accept/").status_code == 404


def test_the_list_asks_no_more_queries_for_more_backups(client: Client) -> None:
    def fill(count: int) -> int:
        factories.BackupFactory.create_batch(count)
        with CaptureQueriesContext(connection) as queries:
            page(client, LIST)
        return len(queries)

    client.get(LIST)
    few, many = fill(1), fill(20)
    assert many == few
    assert many <= 14


def test_the_page_of_a_backup_asks_few_queries_however_many_its_pair_has(client: Client) -> None:
    def fill(count: int) -> int:
        backup = factories.BackupFactory.create_batch(count, job=job)[0]
        with CaptureQueriesContext(connection) as queries:
            page(client, f"/backups/{backup.uid}/")
        return len(queries)

    job = factories.BackupJobFactory()
    page(client, LIST)
    assert fill(1) == fill(40)


@pytest.mark.parametrize("state", [BackupState.AVAILABLE, BackupState.TRASHED])
def test_a_damaged_row_that_names_no_file_breaks_no_page(client: Client, tmp_path: Path, state: BackupState) -> None:
    job = make_job(tmp_path)
    backup = add_backup(job, timezone.now() - timedelta(days=2), state=state, trashed_at=timezone.now())
    add_backup(job, timezone.now())
    Backup.objects.filter(pk=backup.pk).update(folder="../elsewhere")
    options_update(retention={"keep_last": 1})
    default_jobs()
    for url in ("/", "/backups/", "/storages/", "/targets/", job.get_absolute_url(), "/options/retention/run/"):
        assert client.get(url).status_code == 200, url
    assert "is not an artifact" in client.get(backup.get_absolute_url()).content.decode()
    answer = client.post(f"/backups/{backup.uid}/untrash/", follow=True)
    assert "was not brought back" in answer.content.decode()
    preview = client.post("/api/v1/settings/retention/preview", {}, content_type="application/json")
    assert preview.status_code == 200
    (Path(job.storage.path) / SENTINEL).unlink()
    answer = client.post(f"/storages/{job.storage.pk}/initialise/", follow=True)
    backup.refresh_from_db()
    assert backup.state == state
    said = "1 of the 2 backups" if state == BackupState.AVAILABLE else "has its sentinel again"
    assert said in answer.content.decode()


# --- When it goes -------------------------------------------------------------------------------------------------


@pytest.fixture
def nightly_copies(tmp_path: Path) -> list[Backup]:
    """Three copies of a job that runs every night, newest first, and the default maintenance jobs."""
    default_jobs()
    job = make_job(tmp_path)
    today = now().replace(hour=0, minute=1, second=0, microsecond=0)
    return [add_backup(job, today - timedelta(days=days)) for days in (1, 2, 3)]


def test_the_verdict_is_one_sentence_and_then_every_reason(client: Client, nightly_copies: list[Backup]) -> None:
    options_update(retention={"keep_last": 1, "keep_daily": 7})
    text = page(client, nightly_copies[1].get_absolute_url())
    assert "The next cleanup keeps it: it is the newest of its day (daily 2 of 7)." in text
    assert "<li>Daily 2 of 7</li>" in text


def test_a_kept_copy_says_on_which_day_it_will_go_and_why(client: Client, nightly_copies: list[Backup]) -> None:
    options_update(retention={"keep_daily": 3})
    # The oldest of three daily copies goes at the first cleanup after the next copy.
    text = page(client, nightly_copies[2].get_absolute_url())
    found = re.search(r"Goes on (\d+ \w+ \d{4}), when all 3 daily places are used by newer copies\.", text)
    assert found, text
    cleanup = parse_cron("0 3 * * *").next_after(parse_cron("30 2 * * *").next_after(now(), "UTC"), "UTC")
    assert found[1] == f"{cleanup.day} {cleanup:%B %Y}"


def test_a_copy_that_another_will_replace_names_that_one(client: Client, nightly_copies: list[Backup]) -> None:
    options_update(retention={"keep_yearly": 5})
    text = page(client, nightly_copies[0].get_absolute_url())
    copy = parse_cron("30 2 * * *").next_after(now(), "UTC")
    year = f"the newest of {copy.year}"
    assert f"when the copy of {copy.day} {copy:%B} takes its place as {year}." in text


@pytest.mark.parametrize(
    ("situation", "words"),
    [
        ("a year of places", "Stays for at least a year under this policy."),
        ("no cleanup", "Stays: no cleanup is scheduled, so nothing deletes it by itself."),
        ("no rule", "Stays: no rule is set, so nothing is ever deleted."),
        ("no backups", "Stays as long as its job makes no newer copies, and the job makes none by itself."),
        ("pinned", "Stays until its pin is taken off, whatever the policy says."),
        ("held", "Stays until the hold on it is released, whatever the policy says."),
        ("quarantined", "Stays until someone looks at it: a cleanup never deletes what is not good."),
    ],
)
def test_a_copy_that_stays_says_what_keeps_it(
    client: Client, nightly_copies: list[Backup], situation: str, words: str
) -> None:
    backup = nightly_copies[2]
    options_update(retention={"keep_daily": 3})
    match situation:
        case "a year of places":
            options_update(retention={"keep_daily": 500})
        case "no cleanup":
            MaintenanceJob.objects.filter(key=CLEANUP_NIGHTLY).update(enabled=False)
        case "no rule":
            options_update(retention={})
        case "no backups":
            BackupJob.objects.update(enabled=False)
        case "pinned":
            backup_pin(backup=backup, by="anna")
        case "held":
            hold_place(by="anna", note="look at it first")
        case _:
            Backup.objects.filter(pk=backup.pk).update(state="quarantined")
    assert words in page(client, backup.get_absolute_url())


def test_a_copy_goes_when_its_pin_ends(client: Client, nightly_copies: list[Backup]) -> None:
    options_update(retention={"keep_daily": 1})
    backup_pin(backup=nightly_copies[2], by="anna", until=now() + timedelta(days=20))
    text = page(client, nightly_copies[2].get_absolute_url())
    assert "The next cleanup keeps it: no rule holds it, but it is pinned until" in text
    assert re.search(r"Goes on \d+ \w+ \d{4}, after it stops being pinned\.", text)


def test_a_policy_that_cannot_be_used_is_said_on_the_page(client: Client, nightly_copies: list[Backup]) -> None:
    BackupJob.objects.update(retention={"keep_daily": "many"})
    text = page(client, nightly_copies[0].get_absolute_url())
    assert "No cleanup can decide about it." in text
    assert nightly_copies[0].sha256 in text


# --- What protects it, and what was done to it --------------------------------------------------------------------


def test_a_copy_in_use_says_so(client: Client, nightly_copies: list[Backup]) -> None:
    with backup_lease(backup=nightly_copies[0], purpose=LeasePurpose.RESTORE):
        text = page(client, nightly_copies[0].get_absolute_url())
        assert "No cleanup may delete it now" in text
        assert "Being restored since" in text
    assert "Nothing but the policy keeps it" in page(client, nightly_copies[0].get_absolute_url())


def test_what_was_done_to_a_copy_is_at_its_foot_newest_first(client: Client, nightly_copies: list[Backup]) -> None:
    backup, other = nightly_copies[:2]
    assert "Nothing since it was made" in page(client, backup.get_absolute_url())
    backup_pin(backup=backup, by="anna", note="tax records")
    backup_pin(backup=other, by="bert", note="not this one")
    backup_unpin(backup=Backup.objects.get(pk=backup.pk), by="carl")
    trail = page(client, backup.get_absolute_url()).partition("What was done to it")[2]
    assert trail.index("Pin taken off") < trail.index("Pinned")
    assert "anna" in trail
    assert "For ever: tax records" in trail
    assert "bert" not in trail


def test_lists_mark_what_is_pinned_as_long_as_it_is(client: Client) -> None:
    backup = factories.BackupFactory()
    assert 'data-status="pinned"' not in page(client, LIST)
    backup_pin(backup=backup, by="anna", note="tax records", until=now() + timedelta(days=1))
    assert re.search(r'data-status="pinned" title="Pinned until [^"]* by anna: tax records"', page(client, LIST))
    assert 'data-status="pinned"' in page(client, backup.target.get_absolute_url())
    Backup.objects.update(pin_until=now() - timedelta(seconds=1))
    assert 'data-status="pinned"' not in page(client, LIST)
