from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from backups.models import BackupRun
from scheduling.choices import RunStatus
from tests.api.conftest import JsonClient
from tests.factories import BackupRunFactory, BackupRunTargetFactory, MaintenanceRunFactory

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def keys(answer: Any) -> list[tuple[str, int]]:
    assert answer.status_code == 200, answer.content
    return [(item["kind"], item["id"]) for item in answer.json()["items"]]


def test_runs_of_every_kind_come_newest_first_in_pages_that_meet(root: JsonClient) -> None:
    for number in range(7):
        at = NOON + timedelta(minutes=number // 3)
        BackupRunFactory(succeeded=True, queued_at=at)
        MaintenanceRunFactory(succeeded=True, queued_at=at)
    seen, cursor = [], ""
    while True:
        answer = root.get("/runs", {"limit": 4, "before": cursor})
        seen += keys(answer)
        cursor = answer.json()["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 14
    assert seen == keys(root.get("/runs"))


def test_the_lists_of_one_kind_and_of_all_take_the_same_filters(root: JsonClient) -> None:
    run = BackupRunFactory(running=True, host="aa", trigger="api", message="", queued_at=NOON)
    attempt = BackupRunTargetFactory(run=run, active=False)
    BackupRun.objects.update(status=RunStatus.SUCCEEDED, outcome="warning", finished_at=NOON, message="thunder")
    other = BackupRunFactory(failed=True, queued_at=NOON + timedelta(days=2))
    cleanup = MaintenanceRunFactory(failed=True, host="aa", queued_at=NOON)
    for query in (
        {"target_id": attempt.target_id},
        {"outcome": "warning"},
        {"trigger": "api"},
        {"q": "Thunder!"},
        {"q": "thunder", "host": "aa", "status": "succeeded"},
        {"kind": "backup", "to": "2026-11-25T00:00:00Z"},
        {"kind": "backup", "job_id": run.job_id},
    ):
        assert keys(root.get("/runs", query)) == [("backup", run.pk)], query
        one_kind = {name: value for name, value in query.items() if name != "kind"}
        assert [item["id"] for item in root.get("/backup-runs", one_kind).json()["items"]] == [run.pk], query
    assert [item["id"] for item in root.get("/maintenance/runs", {"host": "aa"}).json()] == [cleanup.pk]
    assert root.get("/maintenance/runs", {"target_id": attempt.target_id}).json() == []
    assert keys(root.get("/runs", {"from": "2026-11-25T00:00:00+01:00"})) == [("backup", other.pk)]


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_status_of_what_is_not_over_is_taken_exactly(status: str, root: JsonClient) -> None:
    runs = {"queued": BackupRunFactory(), "running": BackupRunFactory(running=True)}
    for query in ({"status": status}, {"status": status, "trigger": "manual"}):
        assert keys(root.get("/runs", query)) == [("backup", runs[status].pk)]


@pytest.mark.parametrize(
    "query",
    [
        {"before": "x"},
        {"before": "zz", "limit": 1},
        {"before": "1.rocket.1"},
        {"before": "1.5"},
        {"kind": "rocket"},
        {"job_id": 1},
        {"from": "yesterday"},
        {"from": "2026-11-24T12:00:00"},
        {"status": "maybe"},
        {"q": "\0"},
        {"q": "a" * 5000},
        {"target_id": 2**63},
    ],
    ids=str,
)
def test_what_cannot_be_read_is_refused(query: dict[str, Any], root: JsonClient) -> None:
    assert root.get("/runs", query).status_code == 422


@pytest.mark.parametrize(
    "query",
    [
        {"q": '"*'},
        {"q": "a OR b"},
        {"from": "0001-01-01T00:00:00Z"},
        {"to": "9999-12-31T23:59:59-12:00"},
        {"host": "%"},
    ],
    ids=str,
)
def test_what_is_odd_is_answered(query: dict[str, Any], root: JsonClient) -> None:
    BackupRunFactory(succeeded=True)
    assert root.get("/runs", query).status_code == 200


def test_a_cursor_of_one_kinds_list_is_not_one_of_the_others(root: JsonClient) -> None:
    for _ in range(2):
        BackupRunFactory(succeeded=True)
    cursor = root.get("/backup-runs", {"limit": 1}).json()["next"]
    assert root.get("/maintenance/runs", {"before": cursor}).status_code == 422
    assert root.get("/backup-runs", {"before": cursor}).status_code == 200


def test_a_caller_gets_only_the_kinds_it_may_look_at() -> None:
    BackupRunFactory(succeeded=True)
    cleanup = MaintenanceRunFactory(succeeded=True)
    user = User.objects.create_user("ann")
    codenames = ("view_schedulerstate", "view_maintenancerun")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    caller = JsonClient(user)
    assert keys(caller.get("/runs")) == [("maintenance", cleanup.pk)]
    assert caller.get("/runs", {"kind": "backup"}).status_code == 422


def test_a_page_of_many_runs_needs_few_queries(root: JsonClient, django_assert_max_num_queries: Any) -> None:
    for _ in range(20):
        BackupRunFactory(succeeded=True, params={"a": 1}, result_json={"b": 2})
        MaintenanceRunFactory(succeeded=True)
    with django_assert_max_num_queries(8):
        assert len(keys(root.get("/runs"))) == 40
    with django_assert_max_num_queries(8):
        assert len(root.get("/backup-runs").json()["items"]) == 20


OF_EACH_KIND = pytest.mark.parametrize(
    ("address", "factory"), [("/backup-runs", BackupRunFactory), ("/maintenance/runs", MaintenanceRunFactory)]
)


@OF_EACH_KIND
def test_a_run_is_cancelled_once_and_the_answer_says_how_it_stands(
    root: JsonClient, address: str, factory: Any
) -> None:
    waiting, running = factory(), factory(running=True)
    answer = root("POST", f"{address}/{waiting.pk}/cancel")
    assert (answer.status_code, answer.json()["id"], answer.json()["status"]) == (202, waiting.pk, "cancelled")
    for _ in range(2):
        answer = root("POST", f"{address}/{running.pk}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
    running.refresh_from_db()
    assert running.cancelled_by == "root"
    answer = root("POST", f"{address}/{waiting.pk}/cancel")
    assert answer.status_code == 409
    assert "had ended before it could be cancelled" in answer.json()["detail"]
    assert root("POST", f"{address}/4711/cancel").status_code == 404


@OF_EACH_KIND
def test_a_run_is_done_again_with_the_same_request(root: JsonClient, address: str, factory: Any) -> None:
    ended = factory(failed=True)
    answer = root("POST", f"{address}/{ended.pk}/again")
    assert answer.status_code == 202
    queued = type(ended).objects.get(pk=answer.json()["id"])
    assert (queued.job_id, queued.parent_id, queued.trigger, queued.requested_by, queued.status) == (
        ended.job_id,
        ended.pk,
        "api",
        "root",
        "queued",
    )
    assert root("POST", f"{address}/{ended.pk}/again").json()["id"] == queued.pk
    assert root("POST", f"{address}/4711/again").status_code == 404


@OF_EACH_KIND
def test_what_cannot_be_done_again_is_refused_in_words(root: JsonClient, address: str, factory: Any) -> None:
    running, orphan, ended = factory(running=True), factory(failed=True, job=None), factory(failed=True)
    factory(job=ended.job, params={"only": "this"})
    count = type(ended).objects.count()
    for run, says in ((running, "has not ended"), (orphan, "was deleted"), (ended, "something else to do")):
        answer = root("POST", f"{address}/{run.pk}/again")
        assert answer.status_code == 409
        assert says in answer.json()["detail"]
    assert type(ended).objects.count() == count


@OF_EACH_KIND
def test_who_may_only_look_neither_cancels_nor_repeats(viewer: JsonClient, address: str, factory: Any) -> None:
    run = factory()
    for verb in ("cancel", "again"):
        assert viewer("POST", f"{address}/{run.pk}/{verb}").status_code == 403
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED
