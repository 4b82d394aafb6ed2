"""Exactly the plan that was previewed, what a guard stops, and what another policy would do."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.utils import timezone

from backups.choices import BackupState
from backups.models import AuditAction, AuditEntry, Backup, BackupJob, Options
from maintenance.choices import PlanStatus
from maintenance.models import CleanupPlan, MaintenanceJob, MaintenanceRun
from scheduling.executing import execute_run
from tests.api.conftest import JsonClient
from tests.factories import MaintenanceRunFactory
from tests.support import add_backup, default_jobs, make_job

pytestmark = pytest.mark.django_db

PREVIEW, RUN, COMPARE = "/settings/retention/preview", "/settings/retention/run", "/settings/retention/compare"


@pytest.fixture
def job(tmp_path: Path) -> BackupJob:
    """A job with five copies, a day apart, and the default maintenance jobs."""
    default_jobs()
    made = make_job(tmp_path)
    for day in range(1, 6):
        add_backup(made, timezone.now() - timedelta(days=day), content=b"x" * (1000 + day))
    return made


@pytest.fixture
def operator(db: None) -> JsonClient:
    user = User.objects.create_user("otto")
    user.groups.add(Group.objects.get(name="operator"))
    return JsonClient(user)


def keep(**rules: Any) -> None:
    Options.load()
    Options.objects.update(retention=rules)


def ids(job: BackupJob) -> dict[str, int]:
    return {"job_id": job.pk, "target_id": job.targets.get().pk}


def preview(client: JsonClient, **body: Any) -> dict[str, Any]:
    answer = client.send("POST", PREVIEW, **body)
    assert answer.status_code == 200, answer.content
    return dict(answer.json())


def stopped(client: JsonClient) -> dict[str, Any]:
    """A run that a guard stopped, as the API tells it."""
    run = client("POST", RUN).json()["id"]
    execute_run("maintenance", run)
    found = client.get(f"/maintenance/runs/{run}").json()
    assert found["outcome"] == "needs_approval"
    return dict(found)


# --- Previewed plans ----------------------------------------------------------------------------------------------


def test_a_preview_names_a_plan_and_the_guards_that_would_stop_it(root: JsonClient, job: BackupJob) -> None:
    keep(keep_last=1)
    seen = preview(root)
    stored = CleanupPlan.objects.get()
    assert (seen["plan_id"], seen["digest"]) == (stored.uid, stored.digest)
    assert (seen["needs_approval"], seen["outcome"]) == (True, "needs_approval")
    (stop, *_) = seen["stops"]
    assert (stop["kind"], stop["pair"], stop["approvable"]) == ("pair_share", "nightly / etc", True)
    assert "4 of 5 good copies" in stop["text"]
    assert seen["pairs"][0]["stops"][0]["kind"] == "pair_share"
    keep(keep_last=4)
    calm = preview(root)
    assert (calm["stops"], calm["needs_approval"], calm["outcome"]) == ([], False, "ok")


@pytest.mark.parametrize("tried", [{"retention": {"keep_last": 1}}, {"minimum_keep": 3}], ids=["policy", "minimum"])
def test_trying_something_stores_no_plan(root: JsonClient, job: BackupJob, tried: dict[str, Any]) -> None:
    assert preview(root, **tried)["plan_id"] is None
    assert not CleanupPlan.objects.exists()


@pytest.mark.parametrize("one_pair", [False, True], ids=["everything", "one pair"])
def test_exactly_the_previewed_plan_is_run(root: JsonClient, job: BackupJob, one_pair: bool) -> None:
    keep(keep_last=4)
    scope = ids(job) if one_pair else {}
    seen = preview(root, **scope)
    answer = root.send("POST", RUN, plan_id=seen["plan_id"], digest=seen["digest"], **scope)
    assert answer.status_code == 202
    execute_run("maintenance", answer.json()["id"])
    result = root.get(f"/maintenance/runs/{answer.json()['id']}").json()["result"]
    assert result["deleted_paths"] == seen["deleted_paths"]
    assert result["plan"] == MaintenanceRun.objects.get().plans.get().uid
    again = root.send("POST", RUN, plan_id=seen["plan_id"], digest=seen["digest"])
    assert again.status_code == 409


def test_a_plan_that_has_changed_is_409_with_the_plan_as_it_is(root: JsonClient, job: BackupJob) -> None:
    keep(keep_last=4)
    seen = preview(root, **ids(job))
    add_backup(job, timezone.now() - timedelta(hours=1))
    answer = root.send("POST", RUN, plan_id=seen["plan_id"], digest=seen["digest"])
    assert answer.status_code == 409
    fresh = answer.json()
    assert "has changed" in fresh["detail"]
    assert fresh["digest"] != seen["digest"]
    assert not MaintenanceRun.objects.exists()
    assert root.send("POST", RUN, plan_id=fresh["plan_id"], digest=fresh["digest"]).status_code == 202
    assert MaintenanceRun.objects.get().params["job_id"] == job.pk


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"plan_id": "0" * 16}, 422),
        ({"digest": "0" * 64}, 422),
        ({"plan_id": "0" * 16, "digest": "0" * 64}, 409),
        ({"plan_id": "0" * 17, "digest": "0" * 64}, 422),
    ],
    ids=["no digest", "no plan", "unknown plan", "too long"],
)
def test_half_a_plan_or_an_unknown_one_is_not_run(
    root: JsonClient, job: BackupJob, body: dict[str, str], status: int
) -> None:
    answer = root.send("POST", RUN, **body)
    assert answer.status_code == status
    assert not MaintenanceRun.objects.exists()


def test_a_plan_of_one_pair_is_not_run_for_another(root: JsonClient, job: BackupJob, tmp_path: Path) -> None:
    other = make_job(tmp_path, "weekly", ("www",))
    seen = preview(root, **ids(job))
    answer = root.send("POST", RUN, plan_id=seen["plan_id"], digest=seen["digest"], **ids(other))
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["plan_id"])


def test_a_cleanup_that_waits_already_keeps_its_place(root: JsonClient, job: BackupJob) -> None:
    keep(keep_last=4)
    first = root("POST", RUN).json()["id"]
    seen = preview(root)
    answer = root.send("POST", RUN, plan_id=seen["plan_id"], digest=seen["digest"])
    assert answer.status_code == 409
    assert "waiting to start" in answer.json()["detail"]
    assert MaintenanceRun.objects.get().pk == first


def test_without_the_hidden_job_there_is_nothing_to_run(root: JsonClient, job: BackupJob) -> None:
    MaintenanceJob.objects.filter(key="retention_cleanup_manual").delete()
    seen = preview(root)
    assert root.send("POST", RUN, plan_id=seen["plan_id"], digest=seen["digest"]).status_code == 404


# --- Decisions ----------------------------------------------------------------------------------------------------


def test_what_a_guard_stopped_is_listed_with_its_pairs_and_verdicts(root: JsonClient, job: BackupJob) -> None:
    keep(keep_last=1)
    run = stopped(root)
    assert run["result"]["waiting_count"] == 4
    assert run["result"]["stops"][0]["kind"] == "pair_share"
    (plan,) = root.get("/maintenance/plans?status=waiting").json()["items"]
    assert (plan["uid"], plan["run_id"], plan["status"]) == (run["result"]["plan"], run["id"], "waiting")
    detail = root.get(f"/maintenance/plans/{plan['uid']}").json()
    assert detail["digest"] == plan["digest"]
    (pair,) = detail["pairs"]
    assert (pair["kept"], pair["deleting"], pair["moved"], pair["verdicts_left_out"]) == (1, 4, 0, 0)
    newest_first = list(Backup.objects.order_by("-created_at").values_list("uid", flat=True))
    assert [verdict["uid"] for verdict in pair["verdicts"]] == newest_first
    assert [verdict["keep"] for verdict in pair["verdicts"]] == [True, False, False, False, False]
    assert all(verdict["reasons"] for verdict in pair["verdicts"])


def test_approving_queues_a_run_of_exactly_that(root: JsonClient, job: BackupJob) -> None:
    keep(keep_last=1)
    run = stopped(root)
    (plan,) = root.get("/maintenance/plans?status=waiting").json()["items"]
    answer = root.send("POST", f"/maintenance/runs/{run['id']}/approve", digest=plan["digest"])
    assert answer.status_code == 202
    execute_run("maintenance", answer.json()["id"])
    assert Backup.objects.trashed().count() == 4
    decided = root.get(f"/maintenance/plans/{plan['uid']}").json()
    assert (decided["status"], decided["decided_by"]) == ("approved", "root")
    assert decided["carried_out_by_id"] == answer.json()["id"]
    assert AuditEntry.objects.filter(action=AuditAction.TRASH, approved_by="root").count() == 4
    again = root.send("POST", f"/maintenance/runs/{run['id']}/approve", digest=plan["digest"])
    assert again.status_code == 409


def test_rejecting_leaves_everything(root: JsonClient, job: BackupJob) -> None:
    keep(keep_last=1)
    run = stopped(root)
    (plan,) = root.get("/maintenance/plans?status=waiting").json()["items"]
    answer = root.send("POST", f"/maintenance/runs/{run['id']}/reject", digest=plan["digest"])
    assert (answer.status_code, answer.json()["status"]) == (200, "rejected")
    assert Backup.objects.available().count() == 5
    assert root.get("/maintenance/plans?status=waiting").json()["items"] == []
    assert root.send("POST", f"/maintenance/runs/{run['id']}/approve", digest=plan["digest"]).status_code == 409


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_another_digest_or_a_run_without_a_plan_is_409(root: JsonClient, job: BackupJob, decision: str) -> None:
    keep(keep_last=1)
    run = stopped(root)
    assert root.send("POST", f"/maintenance/runs/{run['id']}/{decision}", digest="0" * 64).status_code == 409
    bare = MaintenanceRunFactory(succeeded=True)
    assert root.send("POST", f"/maintenance/runs/{bare.pk}/{decision}", digest="0" * 64).status_code == 409
    assert root.send("POST", f"/maintenance/runs/{run['id']}/{decision}").status_code == 422
    assert root.send("POST", "/maintenance/runs/4711/approve", digest="0" * 64).status_code == 404
    assert CleanupPlan.objects.get().status == PlanStatus.WAITING


def test_who_starts_cleanups_does_not_lift_their_guards(operator: JsonClient, job: BackupJob) -> None:
    keep(keep_last=1)
    run = stopped(operator)
    (plan,) = operator.get("/maintenance/plans?status=waiting").json()["items"]
    for decision in ("approve", "reject"):
        answer = operator.send("POST", f"/maintenance/runs/{run['id']}/{decision}", digest=plan["digest"])
        assert answer.status_code == 403


def test_plans_come_in_pages_newest_first(root: JsonClient, job: BackupJob) -> None:
    made = [preview(root)["plan_id"] for _ in range(5)][::-1]
    first = root.get("/maintenance/plans?limit=3").json()
    rest = root.get(f"/maintenance/plans?limit=3&before={first['next']}").json()
    assert [plan["uid"] for plan in first["items"] + rest["items"]] == made
    assert rest["next"] is None


@pytest.mark.parametrize("uid", ["0" * 16, "x", "%00", "9" * 300])
def test_a_plan_that_does_not_exist_is_404(root: JsonClient, uid: str) -> None:
    assert root.get(f"/maintenance/plans/{uid}").status_code == 404


# --- Comparison ---------------------------------------------------------------------------------------------------


def test_a_policy_is_compared_with_the_one_in_force(root: JsonClient, job: BackupJob) -> None:
    keep(keep_last=4)
    answer = root.send("POST", COMPARE, **ids(job), retention={"keep_last": 2}, days=30)
    assert answer.status_code == 200, answer.content
    found = answer.json()
    oldest_first = list(Backup.objects.order_by("created_at"))
    # Whether tonight's copy is there before tonight's cleanup depends on the hour; of these three nothing does.
    lost = {verdict["uid"] for verdict in found["tonight_deletes"]}
    assert oldest_first[2].uid in lost
    assert not {oldest_first[0].uid, oldest_first[-1].uid} & lost
    assert found["tonight_bytes"] == sum(verdict["size"] for verdict in found["tonight_deletes"])
    assert all(verdict["path"] and verdict["reasons"] for verdict in found["tonight_deletes"])
    assert found["stops"][0]["kind"] == "pair_share"
    assert len(found["new"]["days"]) in (30, 31)
    assert (found["policy"]["keep_last"], found["tried"]["keep_last"]) == (4, 2)
    assert Backup.objects.available().count() == 5


@pytest.mark.parametrize(
    ("values", "field"),
    [({"retention": {"keep_daily": "many"}}, "retention.keep_daily"), ({"days": 0}, "days"), ({"days": 10**9}, "days")],
    ids=["policy", "no day", "too many days"],
)
def test_a_comparison_that_makes_no_sense_is_refused_at_its_field(
    root: JsonClient, job: BackupJob, values: dict[str, Any], field: str
) -> None:
    body = {**ids(job), "retention": {"keep_last": 1}, **values}
    answer = root("POST", COMPARE, json.dumps(body))
    assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])


def test_a_comparison_needs_a_pair_that_exists(root: JsonClient, job: BackupJob) -> None:
    body = {**ids(job), "retention": {}}
    assert root.send("POST", COMPARE, **{**body, "job_id": 4711}).status_code == 404
    assert root.send("POST", COMPARE, job_id=job.pk, retention={}).status_code == 422


def test_a_policy_in_force_that_cannot_be_used_is_409(root: JsonClient, job: BackupJob) -> None:
    keep(keep_last="many")
    answer = root.send("POST", COMPARE, **ids(job), retention={"keep_last": 1})
    assert answer.status_code == 409
    address = f"/backups/jobs/{job.pk}/targets/{job.targets.get().pk}/forecast"
    assert root.get(address).status_code == 409
    assert Backup.objects.filter(state=BackupState.AVAILABLE).count() == 5
