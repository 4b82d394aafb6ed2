"""Holding back what starts by itself: everything, or one job of either kind."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ObjectDoesNotExist
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from accounts.permissions import requires
from scheduling.exchange import posted
from scheduling.job_forms import PauseAllForm, PauseForm
from scheduling.job_rules import pause_all, pause_in_force, resume_all
from scheduling.job_settings import job_pause, job_resume


@requires("scheduling.change_pause")
@require_http_methods(["GET", "HEAD", "POST"])
def pause(request: HttpRequest) -> HttpResponse:
    """Pause everything until a moment; asked again while it is paused, this changes until when and why."""
    in_force = pause_in_force(timezone.now())
    initial = {"reason": in_force.reason} if in_force else None
    form = PauseAllForm(posted(request), initial=initial)
    if form.is_valid():
        pause_all(until=form.moment, by=request.user.get_username(), reason=form.cleaned_data["reason"])
        return redirect("dashboard")
    context = {"form": form, "in_force": in_force}
    return render(request, "scheduling/pause.html", context, status=422 if form.errors else 200)


@requires("scheduling.change_pause")
@require_POST
def resume(request: HttpRequest) -> HttpResponse:
    """End the pause of everything, and go back to the page that `next` names."""
    if resume_all():
        messages.success(request, "Nothing is held back any more: schedules start runs again from now on.")
    else:
        messages.info(request, "The pause had ended already.")
    back = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}, require_https=request.is_secure()):
        return redirect(back)
    return redirect("dashboard")


def pause_job(request: HttpRequest, job: Any, *, list_url: str, list_name: str, back: str) -> HttpResponse:
    """The page that pauses one job: GET asks until when, POST `until` pauses it, POST `resume` ends the pause.

    Each kind's own view calls it, with the permission that is right there, and goes to `back` afterwards.
    """
    form = PauseForm(None if "resume" in request.POST else posted(request))
    try:
        if request.method == "POST" and "resume" in request.POST:
            job_resume(job=job)
            messages.success(request, f"{job.name} is paused no longer.")
            return redirect(back)
        if form.is_valid():
            job = job_pause(job=job, until=form.moment, by=request.user.get_username())
            messages.success(request, f"{job.name} is paused until {until_shown(job.paused_until)}.")
            return redirect(back)
    except ObjectDoesNotExist as error:
        raise Http404("This job was deleted a moment ago.") from error
    context = {
        "form": form,
        "job": job,
        "paused_until": job.paused_until if job.paused_until and job.paused_until > timezone.now() else None,
        "list_url": list_url,
        "list_name": list_name,
        "back": back,
    }
    return render(request, "scheduling/job_pause.html", context, status=422 if form.errors else 200)


def until_shown(until: Any) -> str:
    """The end of a pause in the viewer's zone, which it names."""
    local = timezone.localtime(until)
    return f"{local:%a} {local.day} {local:%b %Y, %H:%M} ({timezone.get_current_timezone_name()})"
