from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.permissions import requires
from backups.forms.job import OPTIONS, JobForm
from backups.models import BackupJob, Options
from backups.retention import Policy, PolicyError
from backups.services.options import effective_policy, retention_clean
from backups.views.jobs import form_page
from maintenance.example import example
from maintenance.forms import ExampleForm
from maintenance.trial import Look, job_trial
from maintenance.views.options import render_trial, wants_day
from scheduling.exchange import render_region

# Of a job's form, what a trial goes by: the rest may be half filled in.
_OF_TRIAL = ("policy", "schedule", "timezone")


@requires("backups.view_options")
@require_safe
def retention_help(request: HttpRequest) -> HttpResponse:
    """How retention works, in words and by an example that can be changed."""
    options, first = Options.load(), ExampleForm.first()
    # Of an address that says something, a rule that it leaves out is off.
    given = {key: first[key] for key in ("habit", "minimum_keep", "nights")} | request.GET.dict()
    form = ExampleForm(given if request.GET else first)
    form.is_valid()
    policy = _example_policy(form, options.timezone)
    found = example(
        habit=form.value("habit"),
        policy=policy,
        minimum_keep=form.value("minimum_keep"),
        nights=form.value("nights"),
        today=timezone.localdate(),
        stopped=form.value("stopped") or False,
        special=form.value("special") or False,
    )
    context = {"form": form, "example": found, "policy": policy, "options": options, "nights": form.value("nights")}
    return render_region(request, "maintenance/retention_help.html", "example", context)


@requires("backups.change_backupjob")
@require_POST
def job_policy_trial(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """What the policy in a job's form would cost; without a job, what it would gather. Nothing is saved."""
    job = get_object_or_404(BackupJob, pk=pk) if pk is not None else None
    options, form = Options.load(), JobForm(request.POST, job=job)
    context: dict[str, Any] = {}
    form.is_valid()
    retention = _accepted_retention(form, options)
    if not form.policy_errors:
        context["trial"] = job_trial(
            job=job,
            retention=retention,
            schedule=form.cleaned_data.get("schedule", ""),
            zone=form.cleaned_data.get("timezone", ""),
            options=options,
            now=timezone.now(),
            look=Look.from_form(request.POST, day_only=wants_day(request)),
        )
    status = 422 if form.policy_errors else 200
    region = render_trial(request, {**context, "form": form}, status)
    return region or form_page(request, form, job, status=status, **context)


def _accepted_retention(form: JobForm, options: Options) -> dict[str, Any] | None:
    """The policy in the form; what is refused about it is in the form's errors."""
    if form.policy_errors or form.cleaned_data.get("policy") == OPTIONS:
        return None
    retention = form.retention()
    try:
        retention_clean(retention or {})
        effective_policy(override=retention, options=options)
    except PolicyError as error:
        form.add_policy_errors(
            ValidationError({f"retention.{field}": [message] for field, message in error.errors.items()})
        )
    return retention


def _example_policy(form: ExampleForm, zone: str) -> Policy:
    """The rules that can be used; the others are left out, and the form says why."""
    rules = {field: value for field, value in form.policy_mapping().items() if field not in form.errors}
    try:
        return Policy.from_mapping({**rules, "timezone": zone})
    except PolicyError as error:
        form.add_policy_errors(
            ValidationError({f"retention.{field}": [message] for field, message in error.errors.items()})
        )
        return Policy.from_mapping(
            {"timezone": zone if "timezone" not in error.errors else "UTC"}
            | {field: value for field, value in rules.items() if field not in error.errors}
        )
