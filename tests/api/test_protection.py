"""Pins, holds, the trash, forecasts and the audit trail."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from backups.choices import BackupState
from backups.models import AuditAction, AuditEntry, Backup, BackupJob, Hold, Options
from tests.api.conftest import JsonClient
from tests.factories import AuditEntryFactory, BackupFactory, HoldFactory
from tests.support import add_backup, artifact_path, make_job, move_to_trash

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(tmp_path: Path) -> BackupJob:
    return make_job(tmp_path)


@pytest.fixture
def copies(job: BackupJob) -> list[Backup]:
    """Four copies, newest first."""
    return [add_backup(job, timezone.now() - timedelta(days=day)) for day in range(1, 5)]


def test_a_backup_is_pinned_with_an_end_and_a_note_and_unpinned(root: JsonClient, copies: list[Backup]) -> None:
    address = f"/backups/{copies[0].uid}"
    pinned = root.send("POST", f"{address}/pin", until="2990-01-01T00:00:00+02:00", note="tax records")
    assert pinned.status_code == 200
    assert (pinned.json()["pinned_by"], pinned.json()["pin_note"]) == ("root", "tax records")
    assert pinned.json()["pin_until"] == "2989-12-31T22:00:00Z"
    for_ever = root("POST", f"{address}/pin").json()
    assert (for_ever["pin_until"], for_ever["pin_note"]) == (None, "")
    assert root("POST", f"{address}/unpin").json()["pinned_at"] is None
    assert root("POST", f"{address}/unpin").status_code == 409
    assert AuditEntry.objects.filter(action=AuditAction.PIN, actor="root").count() == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"until": "2020-01-01T00:00:00Z"}, "until"),
        ({"until": "2990-01-01T00:00:00"}, "until"),
        ({"until": "9999-12-31T00:00:00Z"}, "until"),
        ({"note": "x" * 201}, "note"),
        ({"reason": "x"}, "reason"),
    ],
    ids=["over", "no zone", "no such year", "long note", "unknown field"],
)
def test_a_pin_that_makes_no_sense_is_refused_at_its_field(
    root: JsonClient, copies: list[Backup], body: dict[str, str], field: str
) -> None:
    answer = root.send("POST", f"/backups/{copies[0].uid}/pin", **body)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])
    assert not Backup.objects.filter(pinned_at__isnull=False).exists()


def test_a_deleted_backup_cannot_be_pinned(root: JsonClient, job: BackupJob) -> None:
    gone = BackupFactory(deleted=True, job=job)
    assert root("POST", f"/backups/{gone.uid}/pin").status_code == 409
    assert root("POST", f"/backups/{'0' * 16}/pin").status_code == 404


def test_the_trash_is_listed_by_state_and_run(root: JsonClient, copies: list[Backup]) -> None:
    move_to_trash(copies[2], run="maintenance:7")
    move_to_trash(copies[3], run="maintenance:8")
    listed = root.get("/backups?state=trashed").json()["items"]
    assert [backup["uid"] for backup in listed] == [copies[2].uid, copies[3].uid]
    (of_run,) = root.get("/backups?state=trashed&removed_by=maintenance:8").json()["items"]
    assert of_run["uid"] == copies[3].uid


def test_some_copies_or_a_whole_run_come_back_pinned(root: JsonClient, copies: list[Backup]) -> None:
    move_to_trash(copies[1], copies[2], run="maintenance:7")
    move_to_trash(copies[3], run="maintenance:8")
    answer = root.send("POST", "/backups/untrash", uids=[copies[3].uid, copies[0].uid])
    assert answer.status_code == 200
    (back,) = answer.json()["back"]
    assert (back["uid"], back["state"], back["pinned_by"]) == (copies[3].uid, "available", "root")
    (problem,) = answer.json()["problems"]
    assert problem["uid"] == copies[0].uid
    assert "not in the trash" in problem["why"]
    whole = root.send("POST", "/backups/untrash", run="maintenance:7").json()
    assert {backup["uid"] for backup in whole["back"]} == {copies[1].uid, copies[2].uid}
    assert whole["remaining"] == 0
    assert all(artifact_path(backup).exists() for backup in copies)
    assert root.send("POST", "/backups/untrash", run="maintenance:7").status_code == 404


@pytest.mark.parametrize(
    "body",
    [{}, {"uids": []}, {"uids": ["x"]}, {"uids": ["0" * 16], "run": "maintenance:1"}, {"run": ""}],
    ids=["nothing", "no uid", "no uid's form", "both", "no run"],
)
def test_what_to_bring_back_is_said_one_way(root: JsonClient, body: dict[str, Any]) -> None:
    assert root.send("POST", "/backups/untrash", **body).status_code == 422


def test_an_unknown_uid_brings_nothing_back(root: JsonClient, copies: list[Backup]) -> None:
    move_to_trash(copies[3])
    answer = root.send("POST", "/backups/untrash", uids=[copies[3].uid, "0" * 16])
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["uids"])
    assert Backup.objects.trashed().count() == 1


def test_a_copy_whose_storage_is_away_stays_and_says_why(
    root: JsonClient, copies: list[Backup], tmp_path: Path
) -> None:
    move_to_trash(copies[3])
    Path(copies[3].storage.path).rename(tmp_path / "disk")
    answer = root.send("POST", "/backups/untrash", uids=[copies[3].uid]).json()
    assert answer["back"] == []
    assert "cannot be opened" in answer["problems"][0]["why"]
    assert Backup.objects.get(uid=copies[3].uid).state == BackupState.TRASHED


def test_a_hold_is_placed_listed_and_released(root: JsonClient, job: BackupJob) -> None:
    made = root.send("POST", "/holds", job_id=job.pk, note="court case", until="2990-01-01T00:00:00Z")
    assert made.status_code == 201
    hold = made.json()
    assert (hold["scope"], hold["placed_by"], hold["target_id"]) == (f"job {job.name}", "root", None)
    assert root.get("/holds").json()["items"] == [hold]
    assert root.get(f"/holds/{hold['id']}").json() == hold
    assert root("DELETE", f"/holds/{hold['id']}").status_code == 204
    assert not Hold.objects.exists()
    actions = AuditEntry.objects.order_by("pk").values_list("action", flat=True)
    assert list(actions) == [AuditAction.HOLD, AuditAction.RELEASE]
    assert root("DELETE", f"/holds/{hold['id']}").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "note"),
        ({"note": " "}, "note"),
        ({"note": "x", "job_id": 4711}, "job_id"),
        ({"note": "x", "storage_id": 4711}, "storage_id"),
        ({"note": "x", "until": "2020-01-01T00:00:00Z"}, "until"),
    ],
    ids=["no note", "blank note", "no such job", "no such storage", "over"],
)
def test_a_hold_that_makes_no_sense_is_refused_at_its_field(root: JsonClient, body: dict[str, Any], field: str) -> None:
    answer = root.send("POST", "/holds", **body)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])
    assert not Hold.objects.exists()


def test_holds_come_in_pages(root: JsonClient, django_assert_max_num_queries: Any) -> None:
    HoldFactory.create_batch(20)
    with django_assert_max_num_queries(8):
        first = root.get("/holds?limit=15").json()
    rest = root.get(f"/holds?limit=15&before={first['next']}").json()
    assert len({hold["id"] for hold in first["items"] + rest["items"]}) == 20


def test_the_audit_trail_is_read_newest_first_in_pages_and_filtered(root: JsonClient) -> None:
    made = [AuditEntryFactory(backup_uid=f"{number:016x}", run=f"maintenance:{number % 2}").pk for number in range(7)]
    AuditEntryFactory(action=AuditAction.CLOCK)
    seen: list[int] = []
    address = "/audit?limit=3&action=pin"
    while address:
        page = root.get(address).json()
        seen += [entry["id"] for entry in page["items"]]
        address = f"/audit?limit=3&action=pin&before={page['next']}" if page["next"] else ""
    assert seen == made[::-1]
    assert len(root.get("/audit?run=maintenance:1").json()["items"]) == 3
    assert [entry["id"] for entry in root.get(f"/audit?backup_uid={3:016x}").json()["items"]] == [made[3]]


@pytest.mark.parametrize("query", ["action=odd", "before=0", "before=x", "limit=501", "run=" + "9" * 41])
def test_a_filter_of_the_audit_trail_that_makes_no_sense_is_422(root: JsonClient, query: str) -> None:
    assert root.get(f"/audit?{query}").status_code == 422


def test_a_viewer_reads_and_changes_nothing(viewer: JsonClient, copies: list[Backup]) -> None:
    hold = HoldFactory()
    assert viewer.get("/audit").status_code == 200
    assert viewer.get("/holds").status_code == 200
    assert viewer("POST", f"/backups/{copies[0].uid}/pin").status_code == 403
    assert viewer.send("POST", "/backups/untrash", uids=[copies[0].uid]).status_code == 403
    assert viewer.send("POST", "/holds", note="x").status_code == 403
    assert viewer("DELETE", f"/holds/{hold.pk}").status_code == 403


def test_a_forecast_says_what_there_will_be_and_when_each_copy_goes(
    root: JsonClient, job: BackupJob, copies: list[Backup]
) -> None:
    Options.load()
    Options.objects.update(retention={"keep_last": 3})
    address = f"/backups/jobs/{job.pk}/targets/{job.targets.get().pk}/forecast"
    found = root.get(f"{address}?days=10").json()
    timeline = found["timeline"]
    assert len(timeline["days"]) in (10, 11)
    assert {fate["uid"] for fate in timeline["fates"]} == {backup.uid for backup in copies}
    gone = {fate["uid"]: fate for fate in timeline["fates"] if fate["deleted_at"]}
    assert set(gone) == {backup.uid for backup in copies}
    assert all(fate["reasons"] for fate in gone.values())
    assert timeline["days"][-1]["copies"] in (3, 4)
    assert timeline["worst_gap_seconds"] > 0
    assert found["policy"]["keep_last"] == 3
    assert found["next_cleanup"] is not None


def test_a_forecast_needs_a_pair_and_a_number_of_days(root: JsonClient, job: BackupJob) -> None:
    target = job.targets.get().pk
    assert root.get(f"/backups/jobs/{job.pk}/targets/{target}/forecast").status_code == 200
    assert root.get(f"/backups/jobs/{job.pk}/targets/4711/forecast").status_code == 404
    for days in ("0", "x", "9" * 9):
        assert root.get(f"/backups/jobs/{job.pk}/targets/{target}/forecast?days={days}").status_code == 422


def test_the_guards_are_options(root: JsonClient) -> None:
    options = root.get("/settings/options").json()
    assert (options["guard_pair_share"], options["guard_pair_count"], options["guard_storage_count"]) == (25, 50, None)
    changed = root.send("PATCH", "/settings/options", guard_pair_share=40, guard_pair_count=None, guard_storage_bytes=9)
    assert changed.status_code == 200
    assert (changed.json()["guard_pair_share"], changed.json()["guard_pair_count"]) == (40, None)
    assert changed.json()["guard_storage_share"] == 25
    refused = root.send("PATCH", "/settings/options", guard_pair_share=101)
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["guard_pair_share"])
