from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.permissions import requires
from backups.coverage import job_rows
from backups.forms.job import OPTIONS, JobForm
from backups.forms.retention import LossForm
from backups.forms.zones import zone_names
from backups.models import BackupJob, Options, Storage, Target
from backups.services.jobs import job_create, job_delete, job_set_enabled, job_update
from backups.services.options import effective_policy
from backups.services.policy_change import PolicyChange, loss_words, policy_change
from backups.services.policy_record import policies_recorded
from scheduling.choices import FAILING, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.exchange import posted, render_region
from scheduling.job_settings import followers
from scheduling.schedule_editor import editor_of
from scheduling.views.pause import pause_job

GONE = "This job was deleted a moment ago."
PAGE_SIZE = 100


@requires("backups.view_backupjob")
@require_safe
def list_(request: HttpRequest) -> HttpResponse:
    """Every backup job: what it protects, when it runs next and how its newest run went."""
    jobs = BackupJob.objects.select_related("storage").order_by("name")
    page = Paginator(jobs, PAGE_SIZE).get_page(request.GET.get("page"))
    rows = job_rows(page.object_list, now=timezone.now())
    context = {
        "page": page,
        "rows": rows,
        "total": page.paginator.count,
        "failing": sum(row.run is not None and row.run.status in FAILING for row in rows),
        "has_targets": bool(rows) or Target.objects.exists(),
    }
    return render_region(request, "backups/job_list.html", "jobs", context)


@requires("backups.add_backupjob")
@require_http_methods(["GET", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    """Add a job, from nothing or with a target that is ticked already."""
    first = Storage.objects.order_by("pk").first()
    initial: dict[str, Any] = {"enabled": True, "policy": OPTIONS, "schedule": "30 2 * * *", "storage": first}
    initial["targets"] = [pk for pk in request.GET.getlist("target") if pk.isdecimal()]
    return _added(request, JobForm(posted(request), initial=initial))


@requires("backups.add_backupjob")
@require_http_methods(["GET", "POST"])
def duplicate(request: HttpRequest, pk: int) -> HttpResponse:
    """The form of a new job, filled in like another one, under a name of its own and switched off."""
    like = get_object_or_404(BackupJob, pk=pk)
    return _added(request, JobForm(posted(request), like=like), like=like)


@requires("backups.change_backupjob")
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a job, unless its new policy loses more than the saved one: then the form asks for the job's name."""
    job = get_object_or_404(BackupJob, pk=pk)
    form = JobForm(posted(request), job=job)
    if not form.is_valid():
        return form_page(request, form, job)
    # Before anything is saved: the pairs know their job by what is stored.
    change = _policy_change(job, form.retention())
    loss = LossForm(request.POST, change=change)
    asks = change.asks and not loss.is_valid()
    accepted = " ".join(loss_words(change)) if change.asks else ""
    try:
        with policies_recorded(by=request.user.get_username(), accepted=accepted):
            changed = job_update(job=job, **form.values())
            if asks:
                # Only now, so that what the service refuses is said before anybody has to type a name.
                transaction.set_rollback(True)
    except ValidationError as error:
        form.add_policy_errors(error)
        return form_page(request, form, job)
    except BackupJob.DoesNotExist:
        form.add_error(None, f"{job.name} was deleted a moment ago. To have it again, add a job with what stands here.")
        return form_page(request, form, job)
    if asks:
        return form_page(request, form, job, loss=loss, trial_waits=True, status=422)
    messages.success(request, f"{changed.name} was changed.")
    return redirect(changed)


@requires("backups.delete_backupjob")
@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    job = get_object_or_404(BackupJob, pk=pk)
    if request.method == "POST":
        try:
            job_delete(job=job)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return redirect("backups:job_delete", pk=pk)
        messages.success(request, f"{job.name} is a job no longer. Its backups and the history of its runs stay.")
        return redirect("backups:job_list")
    context = {
        "job": job,
        "copies": job.backups.on_storage().count(),
        "followers": followers(job),
        "alone": Target.objects.filter(jobs=job).exclude(jobs__in=BackupJob.objects.exclude(pk=pk)),
    }
    return render(request, "backups/job_delete.html", context)


@requires("backups.run_backupjob")
@require_POST
def run(request: HttpRequest, pk: int) -> HttpResponse:
    """Leave a queued run for the scheduler process and go to its page; a run that already waits is taken instead."""
    get_object_or_404(BackupJob, pk=pk)
    username = request.user.get_username()
    queued = scheduled_dispatch("backup", pk, trigger=RunTrigger.MANUAL, requested_by=username)
    if queued is None:
        raise Http404(GONE)
    return redirect("scheduling:run_detail", kind=queued.kind, pk=queued.pk)


@requires("backups.change_backupjob")
@require_POST
def toggle(request: HttpRequest, pk: int) -> HttpResponse:
    """Switch the job's schedule to what the form says: `enabled` "on" or "off"."""
    job = get_object_or_404(BackupJob, pk=pk)
    asked = request.POST.get("enabled")
    if asked not in ("on", "off"):
        messages.error(request, f"{job.name} was left as it is: the form did not say on or off. Try again.")
    else:
        try:
            job = job_set_enabled(job=job, enabled=asked == "on")
        except BackupJob.DoesNotExist as error:
            raise Http404(GONE) from error
    return redirect("backups:job_list" if request.POST.get("back") == "list" else job)


@requires("backups.change_backupjob")
@require_http_methods(["GET", "HEAD", "POST"])
def pause(request: HttpRequest, pk: int) -> HttpResponse:
    """Pause the job until a moment, or end its pause."""
    job = get_object_or_404(BackupJob, pk=pk)
    asked = request.POST.get("back") or request.GET.get("back")
    back = reverse("backups:job_list") if asked == "list" else job.get_absolute_url()
    return pause_job(request, job, list_url=reverse("backups:job_list"), list_name="Backup jobs", back=back)


def form_page(
    request: HttpRequest, form: JobForm, job: BackupJob | None = None, status: int = 200, **extra: Any
) -> HttpResponse:
    """The form of a job, or of a new one, with what `extra` holds for its trial; 422 when it has errors."""
    options = Options.load()
    trial_url = "maintenance:job_policy_trial"
    context = {
        "form": form,
        "job": job,
        "zones": zone_names(),
        "default_zone": options.timezone,
        "default_policy": effective_policy(override=None, options=options),
        "editor": editor_of(
            form=form, name="schedule", kind=BackupJob.KIND, job=job, user=request.user, default_zone=options.timezone
        ),
        "has_targets": Target.objects.exists(),
        "has_storages": Storage.objects.exists(),
        "trash_hours": options.trash_hours,
        "trial_url": reverse(trial_url, args=(job.pk,)) if job else reverse(trial_url),
        **extra,
    }
    return render(request, "backups/job_form.html", context, status=422 if form.errors else status)


def _added(request: HttpRequest, form: JobForm, like: BackupJob | None = None) -> HttpResponse:
    """Add the job that the form describes, or show the form."""
    if form.is_valid():
        try:
            with policies_recorded(by=request.user.get_username()):
                job = job_create(**form.values())
        except ValidationError as error:
            form.add_policy_errors(error)
        else:
            messages.success(request, f"{job.name} was added.")
            return redirect(job)
    return form_page(request, form, like=like)


def _policy_change(job: BackupJob, retention: dict[str, Any] | None) -> PolicyChange:
    """What another policy of a job costs beside the one that is saved."""
    options = Options.load()
    return policy_change(saved=options, tried=options, now=timezone.now(), job=job, retention=retention)
