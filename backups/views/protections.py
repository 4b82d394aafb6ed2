from __future__ import annotations

from collections.abc import Iterable

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.permissions import requires
from backups.choices import ON_STORAGE, BackupState
from backups.forms.errors import add_service_errors
from backups.forms.protection import HoldForm, PinForm
from backups.models import Backup, Hold
from backups.services import protections
from backups.trashed import covered
from backups.views.backups import backup_or_404, detail_page
from backups.views.trash import day_shown
from scheduling.exchange import posted
from scheduling.filters import number

PAGE_SIZE = 50


@requires("backups.pin_backup")
@require_POST
def pin(request: HttpRequest, uid: str) -> HttpResponse:
    """Keep a copy from every cleanup, until a day or for ever."""
    backup = backup_or_404(uid)
    form = PinForm(posted(request))
    if form.is_valid():
        try:
            backup = protections.backup_pin(backup=backup, by=request.user.get_username(), **form.cleaned_data)
        except ValidationError as error:
            add_service_errors(form, error)
        else:
            end = f"until {day_shown(backup.pin_until)}" if backup.pin_until else "until someone takes the pin off"
            messages.success(request, f"{backup.target_name}, {backup.uid}, is pinned {end}: no cleanup deletes it.")
            return redirect(backup)
    return detail_page(request, backup, pin_form=form)


@requires("backups.pin_backup")
@require_POST
def unpin(request: HttpRequest, uid: str) -> HttpResponse:
    """Let cleanups decide about a copy again."""
    backup = backup_or_404(uid)
    try:
        protections.backup_unpin(backup=backup, by=request.user.get_username())
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(
            request, f"{backup.target_name}, {backup.uid}, is pinned no longer. The next cleanup decides about it."
        )
    return redirect(backup)


@requires("backups.view_hold")
@require_safe
def hold_list(request: HttpRequest) -> HttpResponse:
    """The holds in force; the address may name what a new one is to cover."""
    asked = {name: number(request.GET.get(name)) for name in ("target", "job", "storage")}
    return _hold_page(request, HoldForm(initial={name: pk for name, pk in asked.items() if pk is not None}))


@requires("backups.add_hold")
@require_POST
def hold_create(request: HttpRequest) -> HttpResponse:
    """Stop deleting what the form names."""
    form = HoldForm(posted(request))
    if form.is_valid():
        try:
            hold = protections.hold_place(by=request.user.get_username(), **form.cleaned_data)
        except ValidationError as error:
            add_service_errors(form, error)
        else:
            end = f"until {day_shown(hold.until)}" if hold.until else "until someone releases it"
            messages.success(request, f"Held {end}: {hold.scope}. No cleanup deletes what this covers.")
            return redirect("backups:hold_list")
    return _hold_page(request, form)


@requires("backups.delete_hold")
@require_POST
def hold_release(request: HttpRequest, pk: int) -> HttpResponse:
    """Let cleanups go on with what a hold covered."""
    hold = get_object_or_404(Hold.objects.select_related("job", "target", "storage"), pk=pk)
    protections.hold_release(hold=hold, by=request.user.get_username())
    messages.success(request, f"The hold on {hold.scope} is released. The next cleanup decides about its copies again.")
    return redirect("backups:hold_list")


def _hold_page(request: HttpRequest, form: HoldForm) -> HttpResponse:
    now = timezone.now()
    holds = Hold.objects.in_force(now).select_related("job", "target", "storage")
    page = Paginator(holds, PAGE_SIZE).get_page(request.GET.get("page"))
    counts = _covered_counts(page.object_list)
    context = {
        "page": page,
        "rows": [(hold, counts.get(hold.pk, 0)) for hold in page.object_list],
        "total": page.paginator.count,
        "form": form,
        "is_prefilled": any(form.initial.get(name) for name in ("target", "job", "storage")),
    }
    return render(request, "backups/hold_list.html", context, status=422 if form.errors else 200)


def _covered_counts(holds: Iterable[Hold]) -> dict[int, int]:
    """How many copies that could be deleted each hold covers, in one query."""
    counts = {f"hold_{hold.pk}": Count("pk", filter=covered(hold)) for hold in holds}
    if not counts:
        return {}
    there = Backup.objects.filter(state__in=(*ON_STORAGE, BackupState.TRASHED))
    return {int(name.removeprefix("hold_")): count for name, count in there.aggregate(**counts).items()}
