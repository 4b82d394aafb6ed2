from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.permissions import requires
from backups.models import AuditAction, Options
from backups.retention import Policy, PolicyError
from backups.services.audit import audit
from backups.services.options import effective_policy
from maintenance import services
from maintenance.approvals import PlanChangedError, plan_approve, plan_confirm, plan_preview, plan_reject
from maintenance.models import CleanupPlan, CleanupPlanPair, MaintenanceJob
from maintenance.plan_view import pair_copies, view_of_plans, view_of_record
from scheduling.choices import RunTrigger
from scheduling.filters import number
from scheduling.wall_clock import clock_confirm as time_confirm
from scheduling.wall_clock import clock_state

APPROVE = "maintenance.approve_cleanupplan"
COPIES_PER_PAGE = 100


@requires("maintenance.run_maintenancejob")
@require_http_methods(["GET", "HEAD", "POST"])
def retention_run(request: HttpRequest) -> HttpResponse:
    """Say what a cleanup would do now; a POST that has seen just this queues exactly this."""
    options, now = Options.load(), timezone.now()
    try:
        policy = effective_policy(override=None, options=options)
    except PolicyError as error:
        messages.error(request, f"The saved retention policy cannot be used: {error}. Correct it, save, then clean up.")
        return redirect("maintenance:options_edit")
    problem = ""
    if request.method == "POST":
        get_object_or_404(MaintenanceJob, key=services.CLEANUP_MANUAL)
        try:
            return _start(request)
        except PlanChangedError as error:
            problem = str(error)
        except ValidationError as error:
            problem = " ".join(error.messages)
    context = {**_confirmation(request, policy, options, now), "problem": problem}
    return render(request, "maintenance/retention_run.html", context, status=422 if problem else 200)


@requires("maintenance.view_cleanupplan")
@require_safe
def plan_detail(request: HttpRequest, uid: str) -> HttpResponse:
    """A stored plan: what it decided, what stopped it, who decided; with `?pair=` every copy of one pair."""
    stored = get_object_or_404(CleanupPlan.objects.select_related("run", "carried_out_by"), uid=uid)
    context: dict[str, Any] = {"plan": view_of_record(stored), "stored": stored}
    if (pk := number(request.GET.get("pair"))) is not None:
        pair = get_object_or_404(CleanupPlanPair, plan=stored, pk=pk)
        page = Paginator(pair_copies(pair), COPIES_PER_PAGE).get_page(request.GET.get("page"))
        context |= {"pair": pair, "page": page}
    return render(request, "maintenance/plan_detail.html", context)


@requires(APPROVE)
@require_POST
def plan_approve_(request: HttpRequest, uid: str) -> HttpResponse:
    """Queue a run of exactly what the plan shows."""
    stored = get_object_or_404(CleanupPlan, uid=uid)
    get_object_or_404(MaintenanceJob, key=services.CLEANUP_MANUAL)
    try:
        run = plan_approve(
            plan=stored,
            digest=request.POST.get("digest", ""),
            by=request.user.get_username(),
            trigger=RunTrigger.MANUAL,
        )
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return redirect("maintenance:plan_detail", uid=uid)
    messages.success(request, "Approved. This run carries out what you saw; if anything of it has changed, it stops.")
    return redirect(run)


@requires(APPROVE)
@require_POST
def plan_reject_(request: HttpRequest, uid: str) -> HttpResponse:
    """Leave everything where it is."""
    stored = get_object_or_404(CleanupPlan, uid=uid)
    try:
        plan_reject(plan=stored, digest=request.POST.get("digest", ""), by=request.user.get_username())
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        text = "Rejected: nothing of it was deleted. The next cleanup plans anew, and asks again if it has to."
        messages.success(request, text)
    return redirect("maintenance:plan_detail", uid=uid)


@requires(APPROVE)
@require_http_methods(["GET", "HEAD", "POST"])
def clock_confirm(request: HttpRequest) -> HttpResponse:
    """Say what is wrong with the clock; a POST says that the time is right after all."""
    back = request.POST.get("next") or request.GET.get("next") or ""
    if not url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}):
        back = ""
    jump = clock_state()
    if request.method == "POST":
        who = request.user.get_username()
        time_confirm(by=who)
        reason = jump.text if jump else "The clock was where it should be."
        audit(action=AuditAction.CLOCK, actor=who, reason=reason)
        messages.success(request, "The time is taken for right from now on. The next cleanup goes by it.")
        return redirect(back or "dashboard")
    return render(request, "maintenance/clock_confirm.html", {"jump": jump, "now": timezone.now(), "next": back})


def _start(request: HttpRequest) -> HttpResponse:
    """Queue the previewed plan. Raises `PlanChangedError` or ValidationError when it is not to be had any more."""
    approve = "approve" in request.POST and request.user.has_perm(APPROVE)
    run = plan_confirm(
        uid=request.POST.get("plan", ""),
        digest=request.POST.get("digest", ""),
        by=request.user.get_username(),
        trigger=RunTrigger.MANUAL,
        approve=approve,
    )
    if "wait" in request.POST and not approve:
        messages.success(request, "The cleanup is queued. What a guard stops waits here for an administrator.")
        return redirect(run)
    messages.success(request, "The cleanup is queued. Its badge below turns green when it is done.")
    return redirect("maintenance:job_list")


def _confirmation(request: HttpRequest, policy: Policy, options: Options, now: datetime) -> dict[str, Any]:
    """The words of the confirmation: what will happen, to how much, and what can be undone until when."""
    stored, found = plan_preview(by=request.user.get_username())
    problems = [f"{label}: {reason} Nothing of it would be changed." for label, reason in found.failed.items()]
    return {
        "stored": stored,
        "plan": view_of_plans(found),
        "problems": problems,
        "policy": policy.describe(),
        "trash_hours": options.trash_hours,
        "undo_until": now + timedelta(hours=options.trash_hours),
    }
