# ruff: noqa: ARG001 - every operation is handed the request, whether it needs it or not
"""Maintenance jobs and runs, and retention, as JSON."""

from __future__ import annotations

import threading
import time
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema, Status
from ninja.errors import HttpError

from accounts.permissions import requires_api
from backups.api.copies import found_pair
from backups.services.errors import refuse
from backups.services.retention import PairPlan
from maintenance import models, services
from maintenance.api.job_actions import router as job_actions_router
from maintenance.api.plans import compare_router
from maintenance.api.plans import router as plans_router
from maintenance.api.run_actions import router as run_actions_router
from maintenance.approvals import PlanChangedError, plan_confirm, plan_preview
from maintenance.cleanup_tally import MAX_LISTED
from maintenance.plans import pair_params
from maintenance.retention_plans import retention_plans
from maintenance.schemas import (
    MAX_VERDICTS,
    MaintenanceJob,
    MaintenanceJobCreate,
    MaintenanceJobUpdate,
    MaintenanceRun,
    PairPreview,
    PairStop,
    PlanChanged,
    RetentionPreview,
    RetentionPreviewBody,
    RetentionRunBody,
    Stop,
    Verdict,
)
from scheduling.api import PROBLEMS, ByName, LogLine, LogPage, Page, RunFilters, found
from scheduling.choices import RunOutcome, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.models import Run
from scheduling.registry import get_kind

WAIT_STEP_SECONDS = 0.1
MAX_WAIT_SECONDS = 60
# A request that waits occupies one of the web process's threads; beyond these the answer comes at once.
_waiting = threading.BoundedSemaphore(4)

router = Router(tags=["Maintenance"])
retention_router = Router(tags=["Retention"])
router.add_router("", plans_router)
router.add_router("", job_actions_router)
router.add_router("", run_actions_router)
retention_router.add_router("", compare_router)


class JobFilters(ByName):
    visible_in_ui: bool = True


class WaitFor(Schema):
    wait: int = Field(0, ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the run's end.")


@router.get("/jobs", response={200: list[MaintenanceJob], **PROBLEMS}, summary="List maintenance jobs")
@requires_api("maintenance.view_maintenancejob")
def list_jobs(request: HttpRequest, response: HttpResponse, filters: Query[JobFilters]) -> list[Any]:
    """Jobs by key: the visible ones, or with `visible_in_ui=false` the hidden ones.

    When there are more, the `X-Next` header holds the next page's `after`, and the `Link` header its address.
    """
    jobs, cursor = filters.page(services.list_jobs(visible_in_ui=filters.visible_in_ui), by="key")
    _point_to_next(request, response, after=cursor)
    return jobs


@router.get("/jobs/{job_id}", response={200: MaintenanceJob, **PROBLEMS}, summary="Get a maintenance job")
@requires_api("maintenance.view_maintenancejob")
def get_job(request: HttpRequest, job_id: int) -> models.MaintenanceJob:
    return _job(job_id)


@router.post("/jobs", response={201: MaintenanceJob, **PROBLEMS}, summary="Add a maintenance job")
@requires_api("maintenance.add_maintenancejob")
def create_job(request: HttpRequest, data: MaintenanceJobCreate) -> Status[Any]:
    return Status(201, services.job_create(**data.model_dump()))


@router.patch("/jobs/{job_id}", response={200: MaintenanceJob, **PROBLEMS}, summary="Change a maintenance job")
@requires_api("maintenance.change_maintenancejob")
def update_job(request: HttpRequest, job_id: int, data: MaintenanceJobUpdate) -> models.MaintenanceJob:
    return services.job_update(job=_job(job_id), **data.model_dump(exclude_unset=True))


@router.delete("/jobs/{job_id}", response={204: None, **PROBLEMS}, summary="Delete a maintenance job")
@requires_api("maintenance.delete_maintenancejob")
def delete_job(request: HttpRequest, job_id: int) -> Status[None]:
    """Its runs stay, under its name. Refused (409) while it runs."""
    services.job_delete(job=_job(job_id))
    return Status(204, None)


@router.post("/jobs/{job_id}/run", response={202: MaintenanceRun, **PROBLEMS}, summary="Run a maintenance job now")
@requires_api("maintenance.run_maintenancejob")
def run_job(request: HttpRequest, job_id: int) -> Status[Any]:
    """Records a run, which the scheduler starts. With one waiting already, the answer is that one."""
    return Status(202, _record(request, _job(job_id), {}))


@router.get("/runs", response={200: list[MaintenanceRun], **PROBLEMS}, summary="List maintenance runs")
@requires_api("maintenance.view_maintenancerun")
def list_runs(request: HttpRequest, response: HttpResponse, filters: Query[RunFilters]) -> list[Any]:
    """Runs, newest first.

    When there are more, the `X-Next` header holds the next page's `before`, and the `Link` header its address.
    """
    runs, cursor = filters.page_of(get_kind(models.MaintenanceRun.KIND))
    _point_to_next(request, response, before=cursor)
    return runs


@router.get("/runs/{run_id}", response={200: MaintenanceRun, **PROBLEMS}, summary="Get a maintenance run")
@requires_api("maintenance.view_maintenancerun")
def get_run(request: HttpRequest, run_id: int) -> models.MaintenanceRun:
    return _run(run_id)


@router.get("/runs/{run_id}/log", response={200: Page[LogLine], **PROBLEMS}, summary="Read a maintenance run's log")
@requires_api("maintenance.view_maintenancerun")
def get_run_log(request: HttpRequest, run_id: int, lines: Query[LogPage]) -> dict[str, Any]:
    """Lines oldest first. To follow a run, ask again with the last line's `seq` as `after`."""
    items, cursor = lines.page(models.MaintenanceRunLogLine.objects.filter(run=_run(run_id)))
    return {"items": items, "next": cursor}


@retention_router.post("/preview", response={200: RetentionPreview, **PROBLEMS}, summary="Preview a retention cleanup")
@requires_api("maintenance.view_maintenancejob", "backups.view_backup")
def preview(request: HttpRequest, data: RetentionPreviewBody | None = None) -> RetentionPreview:
    """What a cleanup would do now, with a verdict and its reasons for each backup. Nothing is changed.

    `retention` tries another policy: on one pair in place of the policy in force there, otherwise in place of the one
    in the options. Without one the answer names a plan that can be run as it is.
    """
    data = data or RetentionPreviewBody()
    _known_pair(data.job_id, data.target_id)
    plan = None
    if data.retention is None and data.minimum_keep is None:
        who = request.user.get_username()
        plan, result = plan_preview(by=who, job_id=data.job_id, target_id=data.target_id)
    else:
        result = retention_plans(
            job_id=data.job_id, target_id=data.target_id, retention=data.retention, minimum_keep=data.minimum_keep
        )
    doomed = [backup for pair_plan in result.plans for backup in pair_plan.to_delete]
    return RetentionPreview(
        plan_id=plan.uid if plan else None,
        digest=result.digest,
        stops=[PairStop(pair=planned.pair.label, **stop.to_mapping()) for planned, stop in result.stops],
        needs_approval=result.needs_approval,
        message=result.message,
        outcome=RunOutcome.NEEDS_APPROVAL if result.needs_approval else RunOutcome.OK,
        targets_processed=len(result.plans) + len(result.failed),
        deleted_count=result.deleted_count,
        kept_count=result.kept_count,
        failed_count=len(result.failed),
        deleted_bytes=sum(backup.size for backup in doomed),
        deleted_paths=[backup.shown_path for backup in doomed[:MAX_LISTED]],
        failed_paths=list(result.failed)[:MAX_LISTED],
        problems=[f"{label}: {reason}" for label, reason in result.failed.items()][:MAX_LISTED],
        pairs=_pair_previews(result.plans),
    )


@retention_router.post(
    "/run",
    response={200: MaintenanceRun, 202: MaintenanceRun, **PROBLEMS, 409: PlanChanged},
    summary="Run a retention cleanup",
)
@requires_api("maintenance.run_maintenancejob")
def run_retention(request: HttpRequest, query: Query[WaitFor], data: RetentionRunBody | None = None) -> Status[Any]:
    """Records a run of the hidden `retention_cleanup_manual` job, for every pair or for the one named, and answers 202.

    With the `plan_id` and `digest` of a preview, exactly that plan is run; when it has changed, the answer is 409 with
    the plan as it is now. What a guard stops is not deleted: the run's outcome is then `needs_approval`. With `wait`
    the answer comes when the run has ended (200), or says how it stands after so many seconds (202).
    """
    data = data or RetentionRunBody()
    _known_pair(data.job_id, data.target_id)
    job = models.MaintenanceJob.objects.filter(key=services.CLEANUP_MANUAL).first()
    if job is None:
        raise HttpError(
            404,
            f"There is no maintenance job with the key {services.CLEANUP_MANUAL}, which stands behind this operation. "
            "Add one with that key and the type retention_cleanup.",
        )
    run: Run
    if data.plan_id is not None:
        try:
            run = _confirm(request, data)
        except PlanChangedError as error:
            return Status(409, _as_it_is_now(request, data, str(error)))
    else:
        run = _record(request, job, data.params)
        if run.params != data.params:
            raise HttpError(
                409,
                f"Another cleanup ({_scope(run)}) is waiting to start: run {run.pk}. "
                "Ask again when that one has started.",
            )
    run = _wait(run, query.wait)
    return Status(202 if run.is_open else 200, run)


def _job(job_id: int) -> models.MaintenanceJob:
    return found(models.MaintenanceJob.objects.all(), "maintenance job", pk=job_id)


def _run(run_id: int) -> models.MaintenanceRun:
    return found(models.MaintenanceRun.objects.all(), "maintenance run", pk=run_id)


def _record(request: HttpRequest, job: models.MaintenanceJob, params: dict[str, int]) -> Run:
    run = scheduled_dispatch(
        models.MaintenanceRun.KIND,
        job.pk,
        trigger=RunTrigger.API,
        requested_by=request.user.get_username(),
        params=params,
    )
    if run is None:
        raise HttpError(404, f"The maintenance job {job.name} was deleted just now.")
    return run


def _confirm(request: HttpRequest, data: RetentionRunBody) -> Run:
    """Queue the previewed plan. Raises `PlanChangedError` when it is another by now."""
    stored = models.CleanupPlan.objects.filter(uid=data.plan_id).first()
    if stored is not None and data.params and data.params != pair_params(stored.params):
        raise refuse("plan_id", "This plan is not of the pair that job_id and target_id name.")
    return plan_confirm(
        uid=data.plan_id or "",
        digest=data.digest or "",
        by=request.user.get_username(),
        trigger=RunTrigger.API,
    )


def _as_it_is_now(request: HttpRequest, data: RetentionRunBody, detail: str) -> PlanChanged:
    stored = models.CleanupPlan.objects.filter(uid=data.plan_id).first()
    scope = pair_params(stored.params) if stored is not None else data.params
    fresh, _ = plan_preview(
        by=request.user.get_username(), job_id=scope.get("job_id"), target_id=scope.get("target_id")
    )
    return PlanChanged(detail=detail, plan_id=fresh.uid, digest=fresh.digest)


def _wait(run: Run, seconds: int) -> Run:
    """The run when it ended, or as it is after so many seconds, or at once when too many requests wait already."""
    if not seconds or not _waiting.acquire(blocking=False):
        return run
    try:
        deadline = time.monotonic() + seconds
        while run.is_open and time.monotonic() < deadline:
            time.sleep(WAIT_STEP_SECONDS)
            run = services.get_run(run.pk)
    finally:
        _waiting.release()
    return run


def _known_pair(job_id: int | None, target_id: int | None) -> None:
    """Answer 404 for a pair that neither the job lists nor any backup belongs to."""
    if job_id is not None and target_id is not None:
        found_pair(job_id, target_id)


def _scope(run: Run) -> str:
    if "job_id" not in run.params:
        return "of everything"
    return f"of job {run.params.get('job_id')} and target {run.params.get('target_id')}"


def _pair_previews(plans: tuple[PairPlan, ...]) -> list[PairPreview]:
    left = MAX_VERDICTS
    previews = []
    for planned in plans:
        shown = planned.plan.verdicts[:left]
        left -= len(shown)
        previews.append(
            PairPreview(
                job=planned.pair.job.name,
                job_id=planned.pair.job.pk,
                target=planned.pair.target_name,
                target_id=planned.pair.target_id,
                kept=len(planned.plan.keep),
                deleted=len(planned.plan.delete),
                policy=planned.plan.policy.to_mapping(),
                minimum_keep=planned.plan.minimum_keep,
                digest=planned.plan.digest,
                stops=[Stop(**stop.to_mapping()) for stop in planned.plan.stops],
                notes=list(planned.plan.notes),
                verdicts=[
                    Verdict(
                        uid=verdict.uid,
                        path=planned.backups[verdict.uid].shown_path,
                        created_at=verdict.candidate.created,
                        size=verdict.candidate.size,
                        keep=verdict.keep,
                        text=verdict.text,
                        reasons=[reason.to_mapping() for reason in verdict.reasons],
                    )
                    for verdict in shown
                ],
                verdicts_left_out=len(planned.plan.verdicts) - len(shown),
            )
        )
    return previews


def _point_to_next(request: HttpRequest, response: HttpResponse, **cursor: str | None) -> None:
    (name, value), *_ = cursor.items()
    if value is None:
        return
    query = {key: text for key, text in request.GET.items() if key != name} | {name: value}
    response["X-Next"] = value
    response["Link"] = f'<{request.path}?{urlencode(query)}>; rel="next"'
