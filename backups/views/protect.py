from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from accounts.permissions import requires
from backups.choices import SourceKindName
from backups.forms.errors import add_service_errors
from backups.forms.protect import ProtectForm
from backups.models import BackupJob, Options, Storage, Target
from backups.services.jobs import job_create
from backups.services.targets import target_clean, target_create, target_problems
from scheduling.choices import RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.exchange import posted
from scheduling.fire_list import fire_list
from scheduling.rules import Rules

FIRES = 5


@requires("backups.add_target", "backups.add_backupjob")
@require_http_methods(["GET", "POST"])
def protect(request: HttpRequest) -> HttpResponse:
    """From a folder to its first backup in one form: makes a target and a job of the same name."""
    zone = Options.load().timezone
    form = ProtectForm(posted(request), zone=zone, initial={"storage": Storage.objects.order_by("pk").first()})
    problems: list[str] = []
    if form.is_valid():
        try:
            problems = target_problems(Target(**target_clean(**_target_values(form))))
            job = _create(form) if form.cleaned_data["anyway"] or not problems else None
        except ValidationError as error:
            add_service_errors(form, error)
        else:
            if job is not None:
                return _begin(request, job, run_now=form.cleaned_data["run_now"], problems=problems)
    context = {
        "form": form,
        "problems": problems,
        "preview": fire_list(str(form["schedule"].value() or ""), Rules(zone=zone), timezone.now(), FIRES),
        "has_storages": Storage.objects.exists(),
    }
    return render(request, "backups/protect.html", context, status=422 if form.errors or problems else 200)


def _target_values(form: ProtectForm) -> dict[str, Any]:
    values = form.cleaned_data
    config = {"paths": values["paths"], "exclude": values["exclude"]}
    return {"name": values["name"], "source": SourceKindName.FILES, "config": config}


def _create(form: ProtectForm) -> BackupJob:
    """Both rows, or neither when one is refused."""
    values = form.cleaned_data
    with transaction.atomic():
        target = target_create(**_target_values(form))
        return job_create(name=values["name"], targets=[target], storage=values["storage"], schedule=form.cron())


def _begin(request: HttpRequest, job: BackupJob, *, run_now: bool, problems: list[str]) -> HttpResponse:
    username = request.user.get_username()
    if problems:
        level, said = messages.WARNING, f"{job.name} is saved. Nothing of it can be copied on this machine for now."
    else:
        level, said = messages.SUCCESS, f"{job.name} is protected from now on."
    if run_now and request.user.has_perm("backups.run_backupjob"):
        run = scheduled_dispatch("backup", job.pk, trigger=RunTrigger.MANUAL, requested_by=username)
        if run is not None:
            messages.add_message(request, level, f"{said} This is its first backup.")
            return redirect("scheduling:run_detail", kind=run.kind, pk=run.pk)
    messages.add_message(request, level, f"{said} Its first backup comes with its schedule.")
    return redirect(job)
