# ruff: noqa: ARG001 - every operation is handed the request, whether it needs it or not
"""Stored plans, the decisions about them, and policies compared, as JSON."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone
from ninja import Query, Router, Status
from ninja.errors import HttpError

from accounts.permissions import requires_api
from backups.api.copies import found_pair
from backups.forecast_schemas import Fate, Timeline
from backups.models import Options
from backups.retention import PolicyError, compare
from backups.services.forecast import forecast_pair, forecast_until, pair_schedule
from backups.services.options import effective_policy, retention_clean
from maintenance import services
from maintenance.approvals import plan_approve, plan_reject
from maintenance.choices import PlanStatus
from maintenance.models import CleanupPlan, MaintenanceJob
from maintenance.models import MaintenanceRun as MaintenanceRunRow
from maintenance.schemas import (
    CompareBody,
    Comparison,
    DecisionBody,
    MaintenanceRun,
    Plan,
    PlanDetail,
    Stop,
    Verdict,
)
from scheduling.api import PROBLEMS, NewestFirst, Page, found
from scheduling.choices import RunTrigger

_UID = re.compile(r"[0-9a-f]{16}", re.ASCII)

router = Router(tags=["Maintenance"])
compare_router = Router(tags=["Retention"])


class PlanFilters(NewestFirst):
    status: PlanStatus | None = None


@router.get("/plans", response={200: Page[Plan], **PROBLEMS}, summary="List cleanup plans")
@requires_api("maintenance.view_cleanupplan")
def list_plans(request: HttpRequest, filters: Query[PlanFilters]) -> dict[str, Any]:
    """Stored plans, newest first; with `status=waiting` those that somebody has to decide about."""
    rows = CleanupPlan.objects.all()
    if filters.status is not None:
        rows = rows.filter(status=filters.status)
    items, cursor = filters.page(rows, by="created_at")
    return {"items": items, "next": cursor}


@router.get("/plans/{uid}", response={200: PlanDetail, **PROBLEMS}, summary="Get a cleanup plan")
@requires_api("maintenance.view_cleanupplan")
def get_plan(request: HttpRequest, uid: str) -> CleanupPlan:
    """With every pair, its verdicts and their reasons, as they were stored before anything was deleted."""
    if _UID.fullmatch(uid) is None:
        raise HttpError(404, "There is no such plan. A plan's uid has 16 hexadecimal digits.")
    return found(CleanupPlan.objects.all(), "plan", uid=uid)


@router.post(
    "/runs/{run_id}/approve", response={202: MaintenanceRun, **PROBLEMS}, summary="Approve what a guard stopped"
)
@requires_api("maintenance.approve_cleanupplan")
def approve_run(request: HttpRequest, run_id: int, data: DecisionBody) -> Status[Any]:
    """Records a run that carries out exactly what this one planned and a guard stopped.

    409 when it does not wait for approval, or when `digest` is not that of its plan.
    """
    plan = _waiting(run_id)
    if not MaintenanceJob.objects.filter(key=services.CLEANUP_MANUAL).exists():
        raise HttpError(404, f"There is no maintenance job with the key {services.CLEANUP_MANUAL}.")
    run = plan_approve(plan=plan, digest=data.digest, by=request.user.get_username(), trigger=RunTrigger.API)
    return Status(202, run)


@router.post("/runs/{run_id}/reject", response={200: Plan, **PROBLEMS}, summary="Reject what a guard stopped")
@requires_api("maintenance.approve_cleanupplan")
def reject_run(request: HttpRequest, run_id: int, data: DecisionBody) -> CleanupPlan:
    """Nothing of it is deleted. 409 when it does not wait for approval, or when `digest` is not that of its plan."""
    plan = _waiting(run_id)
    plan_reject(plan=plan, digest=data.digest, by=request.user.get_username())
    return plan


@compare_router.post(
    "/compare", response={200: Comparison, **PROBLEMS}, summary="Compare a policy with the one in force"
)
@requires_api("maintenance.view_maintenancejob", "backups.view_backup")
def compare_policies(request: HttpRequest, data: CompareBody) -> Comparison:
    """What would go tonight, and until the end, that the policy in force keeps. Nothing is changed."""
    pair, options, now = found_pair(data.job_id, data.target_id), Options.load(), timezone.now()
    try:
        retention_clean(data.retention)
        tried = effective_policy(override=data.retention, options=options)
    except PolicyError as error:
        raise ValidationError({f"retention.{field}": [text] for field, text in error.errors.items()}) from error
    until = forecast_until(pair=pair, now=now, until=now + timedelta(days=data.days))
    try:
        # A short look: only what it plans from is of interest here.
        current = forecast_pair(pair=pair, options=options, now=now, until=now + timedelta(hours=1))
    except PolicyError as error:
        raise HttpError(409, f"The retention policy of {pair.label} cannot be used: {error}. Correct it.") from error
    plan = current.plan
    result = compare(
        [verdict.candidate for verdict in plan.verdicts],
        plan.policy,
        tried,
        pair_schedule(pair=pair, now=now, until=until),
        now,
        until,
        replace(plan.guards, stops=()),
        trash_hours=options.trash_hours,
    )
    return Comparison(
        policy=plan.policy.to_mapping(),
        tried=tried.to_mapping(),
        months_lost=list(result.months_lost),
        tonight_deletes=[
            Verdict(
                uid=verdict.uid,
                path=current.backups[verdict.uid].shown_path,
                created_at=verdict.candidate.created,
                size=verdict.candidate.size,
                keep=verdict.keep,
                text=verdict.text,
                reasons=[reason.to_mapping() for reason in verdict.reasons],
            )
            for verdict in result.tonight_deletes
        ],
        tonight_bytes=result.tonight_bytes,
        stops=[Stop(**stop.to_mapping()) for stop in result.new_plan.stops],
        later_deletes=[Fate.of(fate) for fate in result.by_until_deletes],
        later_bytes=result.by_until_bytes,
        old=Timeline.of(result.old),
        new=Timeline.of(result.new),
    )


def _waiting(run_id: int) -> CleanupPlan:
    """The plan by which a run was stopped. Answers 404 without such a run, 409 when it made no plan."""
    run = found(MaintenanceRunRow.objects.all(), "maintenance run", pk=run_id)
    plan: CleanupPlan | None = run.plans.order_by("pk").last()
    if plan is None:
        raise HttpError(409, f"Run {run_id} made no plan, so there is nothing to decide about.")
    return plan
