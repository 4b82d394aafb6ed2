from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.permissions import requires
from backups.forms.zones import zone_names
from backups.models import Options
from backups.retention import PolicyError
from backups.services.options import effective_policy, options_clean, options_update
from maintenance import services, trial
from maintenance.forms import OptionsForm
from maintenance.models import MaintenanceJob
from scheduling.choices import RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.exchange import render_region


@requires("backups.view_options")
@require_safe
def options_edit(request: HttpRequest) -> HttpResponse:
    options = Options.load()
    return _page(request, OptionsForm(initial=OptionsForm.initial_from_options(options)), options)


@requires("backups.change_options")
@require_POST
def options_save(request: HttpRequest) -> HttpResponse:
    options, form = Options.load(), OptionsForm(request.POST)
    if _accepts(form, options):
        options_update(**form.values(options))
        messages.success(request, "Options are saved. The next cleanup goes by them; nothing was deleted now.")
        return redirect("maintenance:options_edit")
    return _page(request, form, options, status=422)


@requires("backups.change_options")
@require_POST
def retention_preview(request: HttpRequest) -> HttpResponse:
    """What a cleanup would do under the form's values. Nothing is saved, nothing is deleted."""
    options, form = Options.load(), OptionsForm(request.POST)
    found = None
    if _accepts(form, options):
        found = trial.retention_trial(options=trial.trial_options(form.values(options)), now=timezone.now())
    return _page(request, form, options, preview=found, status=200 if found else 422)


@requires("maintenance.run_maintenancejob")
@require_http_methods(["GET", "HEAD", "POST"])
def retention_run(request: HttpRequest) -> HttpResponse:
    """Say what a cleanup would do now; a POST that has seen just this queues it."""
    options, now = Options.load(), timezone.now()
    try:
        found = trial.retention_trial(options=options, now=now)
    except PolicyError as error:
        messages.error(request, f"The saved retention policy cannot be used: {error}. Correct it, save, then clean up.")
        return redirect("maintenance:options_edit")
    if request.method == "POST" and request.POST.get("digest") == found.digest:
        job = _cleanup_job()
        who = request.user.get_username()
        scheduled_dispatch("maintenance", job.pk, trigger=RunTrigger.MANUAL, requested_by=who)
        messages.success(request, "The cleanup is queued. Its badge below turns green when it is done.")
        return redirect("maintenance:job_list")
    context = {**_confirmation(found, options, now), "changed": request.method == "POST"}
    return render(request, "maintenance/retention_run.html", context, status=422 if context["changed"] else 200)


def _cleanup_job() -> MaintenanceJob:
    return get_object_or_404(MaintenanceJob, key=services.CLEANUP_MANUAL)


def _page(request: HttpRequest, form: OptionsForm, options: Options, status: int = 200, **extra: Any) -> HttpResponse:
    own_zone = options.retention.get("timezone", "")
    context = {"form": form, "zones": zone_names(), "own_zone": own_zone, "options": options, **extra}
    response = render_region(request, "maintenance/options_edit.html", "preview", context)
    response.status_code = status
    return response


def _accepts(form: OptionsForm, options: Options) -> bool:
    """Whether the form and the services agree to its values; what they refuse is in the form's errors."""
    if not form.is_valid():
        return False
    values = form.values(options)
    try:
        options_clean(**values)
        effective_policy(override=None, options=trial.trial_options(values))
    except ValidationError as error:
        form.add_policy_errors(error)
    except PolicyError as error:  # the time zone, which only together with the policy turns out to be unusable
        form.add_policy_errors(ValidationError({field: [message] for field, message in error.errors.items()}))
    return not form.errors


def _confirmation(found: trial.RetentionTrial, options: Options, now: datetime) -> dict[str, Any]:
    """The words of the confirmation: what will happen, to how much, and what can be undone until when."""
    purge_count, purge_bytes = trial.purge_due(options=options, now=now)
    return {
        "preview": found,
        "purge_count": purge_count,
        "purge_bytes": purge_bytes,
        "trash_hours": options.trash_hours,
        "undo_until": now + timedelta(hours=options.trash_hours),
    }
