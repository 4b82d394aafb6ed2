"""What the page of a run asks for by itself: the view behind it knows no kind of run."""

from __future__ import annotations

from django import template

from backups.models import Backup
from maintenance.models import CleanupPlan, MaintenanceRun
from maintenance.plan_view import PlanView, view_of_run

register = template.Library()


@register.simple_tag
def run_plan(run: MaintenanceRun) -> PlanView | None:
    """The plan that the run went by."""
    return view_of_run(run)


@register.simple_tag
def confirmed_plan(run: MaintenanceRun) -> CleanupPlan | None:
    """The stored plan that someone confirmed or approved, and the run was queued for."""
    uid = run.params.get("plan") if isinstance(run.params, dict) else None
    return CleanupPlan.objects.select_related("run").filter(uid=uid).first() if isinstance(uid, str) else None


@register.simple_tag
def trashed_by(run: MaintenanceRun) -> int:
    """How many of the copies that the run moved are still in the trash."""
    return Backup.objects.trashed().filter(removed_by=f"{run.kind}:{run.pk}").count()
