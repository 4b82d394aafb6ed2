from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.permissions import requires
from backups.forms.retention import LossForm
from backups.forms.zones import zone_names
from backups.models import Options
from backups.retention import PolicyError
from backups.services.options import effective_policy, options_clean, options_update
from backups.services.policy_change import loss_words, policy_change
from backups.services.policy_record import policies_recorded
from maintenance.forms import OptionsForm
from maintenance.retention_plans import last_cleaned
from maintenance.trial import Look, options_trial, trial_options
from scheduling.exchange import wants_region


@requires("backups.view_options")
@require_safe
def options_edit(request: HttpRequest) -> HttpResponse:
    options = Options.load()
    return _page(request, OptionsForm(initial=OptionsForm.initial_from_options(options)), options)


@requires("backups.change_options")
@require_POST
def options_save(request: HttpRequest) -> HttpResponse:
    """Save, unless more would be lost than under what is saved: then the form comes back and asks for a name."""
    options, form = Options.load(), OptionsForm(request.POST)
    if not _accepts(form, options):
        return _page(request, form, options, status=422)
    values = form.values(options)
    change = policy_change(saved=options, tried=trial_options(values), now=timezone.now(), last_cleaned=last_cleaned())
    loss = LossForm(request.POST, change=change)
    if change.asks and not loss.is_valid():
        return _page(request, form, options, loss=loss, trial_waits=True, status=422)
    accepted = " ".join(loss_words(change)) if change.asks else ""
    with policies_recorded(by=request.user.get_username(), accepted=accepted):
        options_update(**values)
    messages.success(request, "Options are saved. The next cleanup goes by them; nothing was deleted now.")
    return redirect("maintenance:options_edit")


@requires("backups.change_options")
@require_POST
def policy_trial(request: HttpRequest) -> HttpResponse:
    """What the form's values would cost. Nothing is saved, nothing is deleted."""
    options, form = Options.load(), OptionsForm(request.POST)
    context: dict[str, Any] = {"form": form}
    if accepted := _accepts(form, options):
        tried = trial_options(form.values(options))
        look = Look.from_form(request.POST, day_only=wants_day(request))
        context["trial"] = options_trial(saved=options, tried=tried, now=timezone.now(), look=look)
    status = 200 if accepted else 422
    return render_trial(request, context, status) or _page(request, options=options, status=status, **context)


def wants_day(request: HttpRequest) -> bool:
    """Whether htmx asks for the day under the slider alone."""
    return wants_region(request) and request.headers.get("HX-Target") == "trial_day"


def render_trial(request: HttpRequest, context: dict[str, Any], status: int) -> HttpResponse | None:
    """The region with a trial, or the part of it that htmx asks for; None for a browser that wants the page."""
    if not wants_region(request):
        return None
    trial = context.get("trial")
    part = "#trial_day" if wants_day(request) and trial and trial.ahead else ""
    context |= {"trial_url": request.path, "trial_swap": True}
    response = render(request, f"maintenance/policy_trial.html{part}", context, status=status)
    if wants_day(request) and not part:
        # There is no such day: the pair is gone, or a rule cannot be read.
        response["HX-Retarget"] = "#trial"
    response["Vary"] = "HX-Request, HX-Target"
    return response


def _page(request: HttpRequest, form: OptionsForm, options: Options, status: int = 200, **extra: Any) -> HttpResponse:
    own_zone = options.retention.get("timezone", "")
    context = {
        "form": form,
        "zones": zone_names(),
        "own_zone": own_zone,
        "options": options,
        "trash_hours": options.trash_hours,
        "trial_url": reverse("maintenance:policy_trial"),
        **extra,
    }
    response = render(request, "maintenance/options_edit.html", context, status=status)
    response["Vary"] = "HX-Request"
    return response


def _accepts(form: OptionsForm, options: Options) -> bool:
    """Whether the form and the services agree to its values; what they refuse is in the form's errors."""
    if not form.is_valid():
        return False
    values = form.values(options)
    try:
        options_clean(**values)
        effective_policy(override=None, options=trial_options(values))
    except ValidationError as error:
        form.add_policy_errors(error)
    except PolicyError as error:  # the time zone, which only together with the policy turns out to be unusable
        form.add_policy_errors(ValidationError({field: [message] for field, message in error.errors.items()}))
    return not form.errors
