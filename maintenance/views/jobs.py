from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models.fields.json import KeyTransform
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.permissions import requires
from backups.forms.errors import add_service_errors
from backups.forms.zones import zone_names
from backups.models import Options
from maintenance import services
from maintenance.forms import MaintenanceJobForm
from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling.choices import RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.exchange import render_region, wants_region
from scheduling.filters import chips, filtered, link, status_chips, status_filter
from scheduling.items import ScheduledItem
from scheduling.ledger import AnotherRunWaitsError
from scheduling.paging import run_page
from scheduling.upcoming import next_fire, schedule_words

FIGURES = (
    "targets_processed",
    "deleted_count",
    "deleted_bytes",
    "kept_count",
    "failed_count",
    "purged_count",
    "freed_bytes",
)


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """A job as the list shows it.

    `next_at` is in `zone`, which is the job's; `other_zone` names it when it is not that of Options.
    """

    job: MaintenanceJob
    words: str
    zone: str
    other_zone: str
    next_at: datetime | None


@requires("maintenance.view_maintenancejob", "maintenance.view_maintenancerun")
@require_safe
def job_list(request: HttpRequest) -> HttpResponse:
    """The visible jobs, and what every maintenance job did, newest first."""
    jobs = list(services.list_jobs())
    chosen, status = _job_filter(request, jobs), status_filter(request)
    runs = _runs(chosen, status)
    page = run_page({"maintenance": runs}, before=request.GET.get("before"), after=request.GET.get("after"))
    context = {
        "rows": [] if wants_region(request) else _rows(jobs),
        "page": page,
        "newer": link(request, after=page.newer) if page.newer else "",
        "older": link(request, before=page.older) if page.older else "",
        "job_chips": chips(request, "job", [(job.key, job.name) for job in jobs], chosen.key if chosen else ""),
        "status_chips": status_chips(request, status),
        "clear_url": request.path if chosen or status else "",
    }
    return render_region(request, "maintenance/job_list.html", "runs", context)


@requires("maintenance.change_maintenancejob")
@require_http_methods(["GET", "HEAD", "POST"])
def job_edit(request: HttpRequest, key: str) -> HttpResponse:
    job = get_object_or_404(MaintenanceJob, key=key)
    form = MaintenanceJobForm(request.POST or None, initial=MaintenanceJobForm.initial_from(job))
    if request.method == "POST" and form.is_valid() and _update(job, form):
        messages.success(request, f"{form.cleaned_data['name']} is saved: {_schedule_sentence(key)}")
        return redirect("maintenance:job_list")
    context = {"form": form, "job": job, "zones": zone_names()}
    return render(request, "maintenance/job_edit.html", context, status=422 if form.errors else 200)


@requires("maintenance.run_maintenancejob")
@require_POST
def job_run(request: HttpRequest, key: str) -> HttpResponse:
    """Record a run; the scheduler process carries it out."""
    job = get_object_or_404(MaintenanceJob, key=key)
    who = request.user.get_username()
    try:
        scheduled_dispatch("maintenance", job.pk, trigger=RunTrigger.MANUAL, requested_by=who)
    except AnotherRunWaitsError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, f"{job.name} is queued. It starts as soon as the scheduler is free.")
    return redirect("maintenance:job_list")


@requires("maintenance.change_maintenancejob")
@require_POST
def job_toggle(request: HttpRequest, key: str) -> HttpResponse:
    """Switch a job's schedule on or off, to what the pressed button said, so that two presses do not cancel out."""
    job = get_object_or_404(MaintenanceJob, key=key)
    wanted = request.POST.get("enabled")
    services.job_update(job=job, enabled=not job.enabled if wanted is None else wanted == "1")
    messages.success(request, f"{job.name}: {_schedule_sentence(key)}")
    return redirect("maintenance:job_list")


def _update(job: MaintenanceJob, form: MaintenanceJobForm) -> bool:
    """Whether the service took the form's values; what it refused is in the form's errors."""
    try:
        services.job_update(job=job, **form.cleaned_data)
    except ValidationError as error:
        add_service_errors(form, error)
        return False
    return True


def _schedule_sentence(key: str) -> str:
    job = services.get_job_by_key(key)
    if not job.enabled:
        return "it no longer runs by itself. Run now still works."
    return f"{schedule_words(job.schedule_cron)} ({job.zone_name})." if job.schedule_cron else "it runs by hand only."


def _rows(jobs: list[MaintenanceJob]) -> list[JobRow]:
    now, default_zone = timezone.now(), Options.load().timezone
    rows = []
    for job in jobs:
        if not job.visible_in_ui:
            continue
        own_zone, job.timezone = job.timezone, job.timezone or default_zone
        rows.append(
            JobRow(
                job=job,
                words=schedule_words(job.schedule_cron),
                zone=job.timezone,
                other_zone=own_zone if own_zone != default_zone else "",
                next_at=next_fire(ScheduledItem.from_maintenance_job(job), now),
            )
        )
    return rows


def _job_filter(request: HttpRequest, jobs: list[MaintenanceJob]) -> MaintenanceJob | None:
    return next((job for job in jobs if job.key == request.GET.get("job")), None)


def _runs(job: MaintenanceJob | None, status: str) -> Any:
    # The figures the table shows, without the long lists that lie beside them.
    figures = {f"figure_{name}": KeyTransform(name, "result_json") for name in FIGURES}
    runs: Any = MaintenanceRun.objects.defer("result_json", "params").annotate(**figures)
    return filtered(runs, status=status, job=job)
