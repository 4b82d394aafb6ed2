"""Plans that people confirm, approve and reject: what is then carried out is exactly what they saw, or nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from backups.models import AuditAction
from backups.services.audit import audit
from maintenance import services
from maintenance.choices import PlanStatus
from maintenance.models import CleanupPlan, MaintenanceRun
from maintenance.plans import pair_params
from maintenance.retention_plans import RetentionPlans, retention_plans
from scheduling.choices import RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.units import counted
from scheduling.wall_clock import clock_confirm, clock_state

# A preview that nobody confirmed by then is forgotten; what it showed can be shown again.
PREVIEW_KEPT = timedelta(days=7)


class PlanChangedError(Exception):
    """What would be deleted is not what was shown; nothing was done."""


def plan_preview(
    *, by: str, job_id: int | None = None, target_id: int | None = None
) -> tuple[CleanupPlan, RetentionPlans]:
    """Plan every pair, or one, and store under which digest it may be confirmed."""
    found = retention_plans(job_id=job_id, target_id=target_id)
    now = timezone.now()
    CleanupPlan.objects.filter(
        status=PlanStatus.PREVIEWED, run__isnull=True, carried_out_by__isnull=True, created_at__lt=now - PREVIEW_KEPT
    ).delete()
    params = {"job_id": job_id, "target_id": target_id} if job_id is not None else {}
    plan = CleanupPlan.objects.create(
        status=PlanStatus.PREVIEWED, digest=found.digest, params=params, created_at=now, created_by=by
    )
    return plan, found


def plan_confirm(*, uid: str, digest: str, by: str, trigger: RunTrigger, approve: bool = False) -> MaintenanceRun:
    """Queue a run of exactly the plan that was previewed under `uid` and `digest`.

    With `approve` the guards that it showed are lifted, on the word of `by`; otherwise the run stops at them and waits.
    Raises `PlanChangedError` when a cleanup now would delete something else, and ValidationError when the plan cannot
    be confirmed any more.
    """
    plan = CleanupPlan.objects.filter(uid=uid, digest=digest, status=PlanStatus.PREVIEWED).first()
    if plan is None or plan.carried_out_by_id is not None:
        raise PlanChangedError("This preview cannot be used any more. Look at the new one, then confirm.")
    pair = pair_params(plan.params)
    if retention_plans(job_id=pair.get("job_id"), target_id=pair.get("target_id")).digest != digest:
        raise PlanChangedError("What a cleanup would delete has changed since it was shown. Look again, then confirm.")
    if approve and (jump := clock_state()) is not None:
        raise ValidationError(f"{jump.text} Say first whether the time is right, then approve.")
    now = timezone.now()
    with transaction.atomic():
        run = _queue(plan, by, trigger)
        status = {"status": PlanStatus.APPROVED, "decided_by": by, "decided_at": now} if approve else {}
        _decide(plan, PlanStatus.PREVIEWED, carried_out_by=run, **status)
        if approve:
            _approved(plan, by, now)
    return run


def plan_approve(*, plan: CleanupPlan, digest: str, by: str, trigger: RunTrigger) -> MaintenanceRun:
    """Queue a run of exactly what a guard stopped. Raises ValidationError when it does not wait for approval."""
    _refuse_another(plan, digest)
    now = timezone.now()
    with transaction.atomic():
        run = _queue(plan, by, trigger)
        _decide(plan, PlanStatus.WAITING, status=PlanStatus.APPROVED, decided_by=by, decided_at=now, carried_out_by=run)
        _approved(plan, by, now)
    return run


def plan_reject(*, plan: CleanupPlan, digest: str, by: str) -> None:
    """Leave everything that a guard stopped where it is. Raises ValidationError when it does not wait for approval."""
    _refuse_another(plan, digest)
    now = timezone.now()
    with transaction.atomic():
        _decide(plan, PlanStatus.WAITING, status=PlanStatus.REJECTED, decided_by=by, decided_at=now)
        _audit(plan, AuditAction.REJECT, by, now)


def plans_waiting() -> QuerySet[CleanupPlan]:
    """What guards stopped and nobody has decided yet, newest first."""
    return CleanupPlan.objects.filter(status=PlanStatus.WAITING).select_related("run")


def _refuse_another(plan: CleanupPlan, digest: str) -> None:
    if plan.digest != digest:
        raise ValidationError("This is not the plan that was shown. Look at it again, then decide.")


def _queue(plan: CleanupPlan, by: str, trigger: RunTrigger) -> MaintenanceRun:
    params = {**plan.params, "plan": plan.uid}
    job = services.get_job_by_key(services.CLEANUP_MANUAL)
    run = scheduled_dispatch(MaintenanceRun.KIND, job.pk, trigger=trigger, requested_by=by, params=params)
    if not isinstance(run, MaintenanceRun):
        raise ValidationError(f"The maintenance job {services.CLEANUP_MANUAL} is gone, which would carry it out.")
    return run


def _decide(plan: CleanupPlan, expected: PlanStatus, **values: Any) -> None:
    if not CleanupPlan.objects.filter(pk=plan.pk, status=expected, carried_out_by__isnull=True).update(**values):
        current = CleanupPlan.objects.get(pk=plan.pk)
        state = current.get_status_display().lower()
        what = f"was {state} by {current.decided_by}" if current.decided_by else f"is {state}"
        raise ValidationError(f"This plan cannot be decided any more: it {what}.")
    plan.refresh_from_db()


def _approved(plan: CleanupPlan, by: str, now: datetime) -> None:
    _audit(plan, AuditAction.APPROVE, by, now)
    stops = [stop for pair in plan.pairs.only("stops") for stop in pair.stops]
    if any(stop["kind"] == "clock" for stop in stops):
        clock_confirm(by=by)
        audit(action=AuditAction.CLOCK, actor=by, reason="confirmed with the plan that it had stopped", now=now)


def _audit(plan: CleanupPlan, action: AuditAction, by: str, now: datetime) -> None:
    blocked = [pair for pair in plan.pairs.all() if pair.stops]
    what = [f"{pair.label}: {counted(pair.deleting, 'deletion')} ({pair.stops[0]['text']})" for pair in blocked]
    run = f"{MaintenanceRun.KIND}:{plan.run_id}" if plan.run_id else ""
    reason = "; ".join(what) or f"plan {plan.uid}"
    audit(action=action, actor=by, reason=reason, run=run, now=now, plan_digest=plan.digest)
