from __future__ import annotations

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
from backups.models import BackupJob, Options, Storage
from backups.services.jobs import job_create
from backups.services.targets import target_create
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
    if form.is_valid():
        try:
            job = _create(form)
        except ValidationError as error:
            add_service_errors(form, error)
        else:
            return _begin(request, job, run_now=form.cleaned_data["run_now"])
    context = {
        "form": form,
        "preview": fire_list(str(form["schedule"].value() or ""), Rules(zone=zone), timezone.now(), FIRES),
        "has_storages": Storage.objects.exists(),
    }
    return render(request, "backups/protect.html", context, status=422 if form.errors else 200)


def _create(form: ProtectForm) -> BackupJob:
    """Both rows, or neither when one is refused."""
    values = form.cleaned_data
    config = {"paths": values["paths"], "exclude": values["exclude"]}
    with transaction.atomic():
        target = target_create(name=values["name"], source=SourceKindName.FILES, config=config)
        return job_create(name=values["name"], targets=[target], storage=values["storage"], schedule=form.cron())


def _begin(request: HttpRequest, job: BackupJob, *, run_now: bool) -> HttpResponse:
    username = request.user.get_username()
    if run_now and request.user.has_perm("backups.run_backupjob"):
        run = scheduled_dispatch("backup", job.pk, trigger=RunTrigger.MANUAL, requested_by=username)
        if run is not None:
            messages.success(request, f"{job.name} is protected from now on. This is its first backup.")
            return redirect("scheduling:run_detail", kind=run.kind, pk=run.pk)
    messages.success(request, f"{job.name} is protected from now on. Its first backup comes with its schedule.")
    return redirect(job)
