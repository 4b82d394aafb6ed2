from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, Subquery
from django.db.models.fields.json import KeyTransform
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.permissions import requires
from backups.forms.errors import add_service_errors
from backups.forms.zones import zone_names
from backups.models import Options
from maintenance import services
from maintenance.forms import MaintenanceJobForm, NewMaintenanceJobForm
from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling.choices import RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.exchange import posted, render_region, wants_region
from scheduling.filters import chips, filtered, link, status_chips, status_filter
from scheduling.items import ScheduledItem
from scheduling.job_settings import followers, job_names
from scheduling.job_state import JobState, job_states
from scheduling.ledger import AnotherRunWaitsError
from scheduling.paging import run_page
from scheduling.schedule_editor import editor_of
from scheduling.upcoming import schedule_words
from scheduling.views.pause import pause_job

GONE = "This job was deleted a moment ago."
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
    """A job as the list shows it, with its newest run; `other_zone` names its zone when it is not that of Options."""

    job: MaintenanceJob
    state: JobState
    other_zone: str
    run: MaintenanceRun | None
    is_kept: bool


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


@requires("maintenance.add_maintenancejob")
@require_http_methods(["GET", "HEAD", "POST"])
def job_create(request: HttpRequest) -> HttpResponse:
    return _added(request, NewMaintenanceJobForm(posted(request)))


@requires("maintenance.add_maintenancejob")
@require_http_methods(["GET", "HEAD", "POST"])
def job_duplicate(request: HttpRequest, key: str) -> HttpResponse:
    """The form of a new job, filled in like another one, under a key and name of its own and switched off."""
    like = get_object_or_404(MaintenanceJob, key=key)
    return _added(request, NewMaintenanceJobForm(posted(request), like=like), like=like)


@requires("maintenance.change_maintenancejob")
@require_http_methods(["GET", "HEAD", "POST"])
def job_edit(request: HttpRequest, key: str) -> HttpResponse:
    job = get_object_or_404(MaintenanceJob, key=key)
    form = MaintenanceJobForm(posted(request), job=job)
    if form.is_valid():
        try:
            job = services.job_update(job=job, **form.values())
        except ValidationError as error:
            add_service_errors(form, error)
        except MaintenanceJob.DoesNotExist:
            form.add_error(None, f"{job.name} was deleted a moment ago. To have it again, add a job like it.")
        else:
            messages.success(request, f"{job.name} is saved: {_schedule_sentence(job)}")
            return redirect("maintenance:job_list")
    return _form_page(request, form, job=job)


@requires("maintenance.delete_maintenancejob")
@require_http_methods(["GET", "HEAD", "POST"])
def job_delete(request: HttpRequest, key: str) -> HttpResponse:
    job = get_object_or_404(MaintenanceJob, key=key)
    if request.method == "POST":
        try:
            services.job_delete(job=job)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return redirect("maintenance:job_delete", key=key)
        messages.success(request, f"{job.name} is a job no longer. The history of its runs stays.")
        return redirect("maintenance:job_list")
    context = {"job": job, "kept_reason": services.job_kept_reason(job), "followers": followers(job)}
    return render(request, "maintenance/job_delete.html", context)


@requires("maintenance.change_maintenancejob")
@require_http_methods(["GET", "HEAD", "POST"])
def job_pause(request: HttpRequest, key: str) -> HttpResponse:
    """Pause the job until a moment, or end its pause."""
    job = get_object_or_404(MaintenanceJob, key=key)
    jobs = reverse("maintenance:job_list")
    return pause_job(request, job, list_url=jobs, list_name="Maintenance Jobs", back=_back(request, job))


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
    try:
        job = services.job_update(job=job, enabled=not job.enabled if wanted is None else wanted == "1")
    except MaintenanceJob.DoesNotExist as error:
        raise Http404(GONE) from error
    messages.success(request, f"{job.name}: {_schedule_sentence(job)}")
    return redirect(_back(request, job))


def _back(request: HttpRequest, job: MaintenanceJob) -> str:
    """The page that an action was asked for on: the list when that said so, else the job's own."""
    asked = request.POST.get("back") or request.GET.get("back")
    return reverse("maintenance:job_list") if asked == "list" else job.get_absolute_url()


def _added(request: HttpRequest, form: NewMaintenanceJobForm, like: MaintenanceJob | None = None) -> HttpResponse:
    """Add the job that the form describes, or show the form."""
    if form.is_valid():
        try:
            job = services.job_create(**form.values())
        except ValidationError as error:
            add_service_errors(form, error)
        else:
            messages.success(request, f"{job.name} was added: {_schedule_sentence(job)}")
            return redirect("maintenance:job_list")
    return _form_page(request, form, like=like)


def _form_page(
    request: HttpRequest,
    form: MaintenanceJobForm,
    *,
    job: MaintenanceJob | None = None,
    like: MaintenanceJob | None = None,
) -> HttpResponse:
    """The form of a job, of a new one, or of one that is to be `like` another; 422 when it has errors."""
    editor = editor_of(form=form, name="schedule_cron", kind=MaintenanceJob.KIND, job=job, user=request.user)
    context = {"form": form, "job": job, "like": like, "zones": zone_names(), "editor": editor}
    return render(request, "maintenance/job_form.html", context, status=422 if form.errors else 200)


def _schedule_sentence(job: MaintenanceJob) -> str:
    if not job.enabled:
        return "it does not run by itself. Run now still works."
    after = job_names([job.run_after]).get(job.run_after, "") if job.run_after else ""
    if not job.schedule_cron:
        return f"it runs after {after}." if after else "it runs by hand only."
    words = f"{schedule_words(job.schedule_cron)} ({job.zone_name})"
    return f"{words}, and after {after}." if after else f"{words}."


def _rows(jobs: list[MaintenanceJob]) -> list[JobRow]:
    now, default_zone = timezone.now(), Options.load().timezone
    shown = [job for job in jobs if job.visible_in_ui]
    items = {}
    for job in shown:
        own_zone, job.timezone = job.timezone, job.timezone or default_zone
        items[job.pk] = (ScheduledItem.from_maintenance_job(job), own_zone if own_zone != default_zone else "")
    states = job_states([(job, items[job.pk][0]) for job in shown], now=now)
    runs = _newest_runs([job.pk for job in shown])
    return [
        JobRow(
            job=job,
            state=states[items[job.pk][0].id],
            other_zone=items[job.pk][1],
            run=runs.get(job.pk),
            is_kept=bool(services.job_kept_reason(job)),
        )
        for job in shown
    ]


def _newest_runs(job_ids: list[int]) -> dict[int, MaintenanceRun]:
    """The newest run of each job, by the job's id; one query."""
    newest = MaintenanceRun.objects.filter(job=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    last = MaintenanceJob.objects.filter(pk__in=job_ids).order_by().annotate(last=Subquery(newest)).values("last")
    runs: Any = MaintenanceRun.objects.filter(pk__in=last).defer("result_json", "params")
    return {run.job_id: run for run in runs}


def _job_filter(request: HttpRequest, jobs: list[MaintenanceJob]) -> MaintenanceJob | None:
    return next((job for job in jobs if job.key == request.GET.get("job")), None)


def _runs(job: MaintenanceJob | None, status: str) -> Any:
    # The figures the table shows, without the long lists that lie beside them.
    figures = {f"figure_{name}": KeyTransform(name, "result_json") for name in FIGURES}
    runs: Any = MaintenanceRun.objects.defer("result_json", "params").annotate(**figures)
    return filtered(runs, status=status, job=job)
