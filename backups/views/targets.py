from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.permissions import requires
from backups.choices import SourceKindName
from backups.coverage import targets_cover, targets_unprotected, targets_without_copy
from backups.forms.errors import add_service_errors
from backups.forms.target import TargetForm
from backups.models import Backup, Target
from backups.services.targets import target_create, target_delete, target_problems, target_update
from scheduling.exchange import posted, wants_region
from scheduling.printable import printable

PAGE_SIZE = 100
RECENT = 8


@requires("backups.view_target")
@require_safe
def list_(request: HttpRequest) -> HttpResponse:
    """What is to be protected, and whether it is."""
    page = Paginator(Target.objects.order_by("name"), PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "covers": targets_cover(list(page.object_list), now=timezone.now()),
        "total": page.paginator.count,
        "without_copy": targets_without_copy().count(),
        "unprotected": targets_unprotected().count(),
    }
    return render(request, "backups/target_list.html", context)


@requires("backups.add_target")
@require_http_methods(["GET", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    form = TargetForm(posted(request))
    if form.is_valid():
        name = form.cleaned_data["name"]
        try:
            target = target_create(name=name, source=SourceKindName.FILES, config=form.config())
        except ValidationError as error:
            add_service_errors(form, error)
        else:
            messages.success(request, f"{target.name} was added. It is protected once a backup job names it.")
            return redirect(target)
    return render(request, "backups/target_form.html", {"form": form}, status=422 if form.errors else 200)


@requires("backups.view_target")
@require_safe
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One target: what is read, who backs it up, and its copies."""
    target = get_object_or_404(Target, pk=pk)
    [cover] = targets_cover([target], now=timezone.now())
    recent = Backup.objects.filter(target=target).on_storage().select_related("storage", "job")[:RECENT]
    context = {"target": target, "cover": cover, "recent": recent, **_shown_paths(target)}
    return render(request, "backups/target_detail.html", context)


@requires("backups.change_target")
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    target = get_object_or_404(Target, pk=pk)
    form = TargetForm(posted(request), target=target)
    if form.is_valid():
        try:
            target = target_update(target=target, name=form.cleaned_data["name"], config=form.config())
        except ValidationError as error:
            add_service_errors(form, error)
        else:
            messages.success(request, f"{target.name} was changed. The next backup reads it as it says here.")
            return redirect(target)
    context = {"form": form, "target": target}
    return render(request, "backups/target_form.html", context, status=422 if form.errors else 200)


@requires("backups.delete_target")
@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    target = get_object_or_404(Target, pk=pk)
    jobs = list(target.jobs.order_by("name"))
    if request.method == "POST":
        try:
            target_delete(target=target)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return redirect("backups:target_delete", pk=pk)
        messages.success(request, f"{target.name} is a target no longer. Its backups stay where they are.")
        return redirect("backups:target_list")
    copies = Backup.objects.filter(target=target).on_storage().count()
    return render(request, "backups/target_delete.html", {"target": target, "jobs": jobs, "copies": copies})


@requires("backups.change_target")
@require_POST
def test(request: HttpRequest, pk: int) -> HttpResponse:
    """Look at the target's paths as a backup would, without reading what is in them."""
    target = get_object_or_404(Target, pk=pk)
    problems = target_problems(target)
    if wants_region(request):
        context = {"target": target, "tested": True, "problems": problems}
        return render(request, "backups/target_detail.html#test", context)
    for problem in problems:
        messages.error(request, problem)
    if not problems:
        messages.success(request, f"Everything that {target.name} names is there and can be read.")
    return redirect(target)


def _shown_paths(target: Target) -> dict[str, list[str]]:
    return {
        "paths": [printable(path) for path in target.paths],
        "exclude": [printable(pattern) for pattern in target.exclude],
    }
