# ruff: noqa: ARG001 - every operation is handed the request, whether it needs it or not
"""Backups and what protects them, the trash, forecasts, and the audit trail, as JSON."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema, Status
from ninja.errors import HttpError

from accounts.permissions import requires_api
from backups import models, schemas
from backups.forecast_schemas import Forecast, ForecastDays, Timeline
from backups.retention import PolicyError
from backups.services.errors import refuse
from backups.services.forecast import forecast_pair, forecast_until
from backups.services.protections import backup_pin, backup_unpin, hold_place, hold_release
from backups.services.retention import Pair
from backups.services.trash import backups_untrash
from scheduling.api import DEFAULT_LIMIT, MAX_ID, MAX_LIMIT, PROBLEMS, NewestFirst, Page, Text, found

_UID = re.compile(r"[0-9a-f]{16}", re.ASCII)

router = Router()


# --- Backups ------------------------------------------------------------------------------------------------------


@router.get("/backups", response={200: Page[schemas.Backup], **PROBLEMS}, tags=["Backups"], summary="List backups")
@requires_api("backups.view_backup")
def list_backups(request: HttpRequest, filters: Query[schemas.BackupFilters]) -> dict[str, Any]:
    """Backups, newest first; deleted ones stay in the list unless `state` leaves them out."""
    names = {"target_id", "job_id", "storage_id", "state", "removed_by"}
    chosen = filters.model_dump(include=names, exclude_none=True)
    items, cursor = filters.page(models.Backup.objects.select_related("storage").filter(**chosen), by="created_at")
    return {"items": items, "next": cursor}


@router.post(
    "/backups/untrash",
    response={200: schemas.Untrashed, **PROBLEMS},
    tags=["Backups"],
    summary="Bring backups back from the trash",
)
@requires_api("backups.untrash_backup")
def untrash_backups(request: HttpRequest, data: schemas.UntrashBody) -> dict[str, Any]:
    """Some by their uids, or all that one run moved there. Each is pinned for a month: the cleanup that took it would
    take it again.
    """
    rows = models.Backup.objects.select_related("storage").order_by("pk")
    if data.uids is not None:
        chosen = list(rows.filter(uid__in=data.uids))
        if unknown := sorted(set(data.uids) - {backup.uid for backup in chosen}):
            raise refuse("uids", f"There is no backup {', '.join(unknown[:10])}.")
    else:
        chosen = list(rows.trashed().filter(removed_by=data.run)[: schemas.MAX_COPIES])
        if not chosen:
            raise HttpError(404, f"Nothing that the run {data.run} moved is in the trash.")
    result = backups_untrash(backups=chosen, by=request.user.get_username())
    problems = [*result.left, *result.failed]
    still = models.Backup.objects.trashed().filter(removed_by=data.run).count() if data.run is not None else 0
    return {
        "back": result.done,
        "problems": [{"uid": backup.uid, "why": str(why)} for backup, why in problems],
        "remaining": still,
    }


@router.get("/backups/{uid}", response={200: schemas.Backup, **PROBLEMS}, tags=["Backups"], summary="Get a backup")
@requires_api("backups.view_backup")
def get_backup(request: HttpRequest, uid: str) -> models.Backup:
    return _backup(uid)


@router.post("/backups/{uid}/pin", response={200: schemas.Backup, **PROBLEMS}, tags=["Backups"], summary="Pin a backup")
@requires_api("backups.pin_backup")
def pin_backup(request: HttpRequest, uid: str, data: schemas.PinBody | None = None) -> models.Backup:
    """No cleanup and no purge takes it while the pin holds. Replaces an earlier pin."""
    data = data or schemas.PinBody()
    return backup_pin(backup=_backup(uid), by=request.user.get_username(), until=data.until, note=data.note)


@router.post(
    "/backups/{uid}/unpin", response={200: schemas.Backup, **PROBLEMS}, tags=["Backups"], summary="Unpin a backup"
)
@requires_api("backups.pin_backup")
def unpin_backup(request: HttpRequest, uid: str) -> models.Backup:
    """Cleanups decide about it again. 409 when it is not pinned."""
    return backup_unpin(backup=_backup(uid), by=request.user.get_username())


@router.get(
    "/backups/jobs/{job_id}/targets/{target_id}/forecast",
    response={200: Forecast, **PROBLEMS},
    tags=["Backups"],
    summary="Forecast a target of a job",
)
@requires_api("backups.view_backup")
def forecast(request: HttpRequest, job_id: int, target_id: int, query: Query[ForecastDays]) -> dict[str, Any]:
    """Which copies there will be, day by day, when its schedules are kept: what goes when, and what takes its place.

    It ends sooner for a job that makes very many copies.
    """
    pair, now = found_pair(job_id, target_id), timezone.now()
    until = forecast_until(pair=pair, now=now, until=now + timedelta(days=query.days))
    try:
        ahead = forecast_pair(pair=pair, options=models.Options.load(), now=now, until=until)
    except PolicyError as error:
        raise HttpError(409, f"The retention policy of {pair.label} cannot be used: {error}. Correct it.") from error
    return {
        "job_id": job_id,
        "target_id": target_id,
        "policy": ahead.plan.policy.to_mapping(),
        "digest": ahead.plan.digest,
        "next_cleanup": ahead.next_cleanup,
        "timeline": Timeline.of(ahead.timeline),
    }


# --- Holds --------------------------------------------------------------------------------------------------------


@router.get("/holds", response={200: Page[schemas.Hold], **PROBLEMS}, tags=["Holds"], summary="List holds")
@requires_api("backups.view_hold")
def list_holds(request: HttpRequest, page: Query[NewestFirst]) -> dict[str, Any]:
    """Those that are over as well, newest first."""
    items, cursor = page.page(models.Hold.objects.select_related("job", "target", "storage"), by="placed_at")
    return {"items": items, "next": cursor}


@router.post("/holds", response={201: schemas.Hold, **PROBLEMS}, tags=["Holds"], summary="Place a hold")
@requires_api("backups.add_hold")
def create_hold(request: HttpRequest, data: schemas.HoldCreate) -> Status[Any]:
    """No cleanup deletes and no purge removes what it covers, until it is released or over."""
    named = {
        name: _chosen(model, name, getattr(data, f"{name}_id"))
        for name, model in (("job", models.BackupJob), ("target", models.Target), ("storage", models.Storage))
    }
    hold = hold_place(by=request.user.get_username(), note=data.note, until=data.until, **named)
    return Status(201, hold)


@router.get("/holds/{hold_id}", response={200: schemas.Hold, **PROBLEMS}, tags=["Holds"], summary="Get a hold")
@requires_api("backups.view_hold")
def get_hold(request: HttpRequest, hold_id: int) -> models.Hold:
    return found(models.Hold.objects.all(), "hold", pk=hold_id)


@router.delete("/holds/{hold_id}", response={204: None, **PROBLEMS}, tags=["Holds"], summary="Release a hold")
@requires_api("backups.delete_hold")
def delete_hold(request: HttpRequest, hold_id: int) -> Status[None]:
    """Cleanups go on with what it covered. The audit trail keeps that it was there."""
    hold_release(hold=found(models.Hold.objects.all(), "hold", pk=hold_id), by=request.user.get_username())
    return Status(204, None)


# --- Audit --------------------------------------------------------------------------------------------------------


class AuditFilters(Schema):
    """`before` is the id that the page before ended with."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    before: int | None = Field(None, ge=1, le=MAX_ID)
    action: models.AuditAction | None = None
    backup_uid: Text | None = Field(None, max_length=16)
    run: Text | None = Field(None, max_length=40)


@router.get(
    "/audit", response={200: Page[schemas.AuditEntry], **PROBLEMS}, tags=["Audit"], summary="Read the audit trail"
)
@requires_api("backups.view_auditentry")
def list_audit(request: HttpRequest, filters: Query[AuditFilters]) -> dict[str, Any]:
    """Entries, newest first. They are only ever added."""
    chosen = filters.model_dump(include={"action", "backup_uid", "run"}, exclude_none=True)
    entries = models.AuditEntry.objects.filter(**chosen)
    if filters.before is not None:
        entries = entries.filter(pk__lt=filters.before)
    rows = list(entries.order_by("-pk")[: filters.limit + 1])
    items = rows[: filters.limit]
    return {"items": items, "next": str(items[-1].pk) if len(rows) > filters.limit else None}


def found_pair(job_id: int, target_id: int) -> Pair:
    """The pair of these ids. Answers 404 for one that neither the job lists nor any backup belongs to."""
    job = found(models.BackupJob.objects.select_related("storage"), "backup job", pk=job_id)
    target = found(models.Target.objects.all(), "target", pk=target_id)
    listed = job.targets.filter(pk=target_id).exists()
    if not listed and not models.Backup.objects.of_pair(job_id, target_id).exists():
        raise HttpError(404, f"{job.name} does not back up {target.name}, and never did.")
    return Pair(job=job, target_id=target.pk, target_name=target.name)


def _backup(uid: str) -> models.Backup:
    if _UID.fullmatch(uid) is None:
        raise HttpError(404, "There is no such backup. A backup's uid has 16 hexadecimal digits.")
    return found(models.Backup.objects.select_related("storage"), "backup", uid=uid)


def _chosen(model: Any, name: str, pk: int | None) -> Any:
    """The row that a body names, None when it names none."""
    if pk is None:
        return None
    row = model.objects.filter(pk=pk).first()
    if row is None:
        raise refuse(f"{name}_id", f"There is no {name} {pk}.")
    return row
