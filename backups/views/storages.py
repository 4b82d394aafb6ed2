from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.permissions import requires
from backups.coverage import Copies, copies_by
from backups.forms.errors import add_service_errors
from backups.forms.storage import StorageForm
from backups.models import Backup, Storage
from backups.services.probing import storages_probe
from backups.services.storages import storage_create, storage_delete, storage_initialise, storage_update
from scheduling.exchange import posted, wants_region

PAGE_SIZE = 50
RECENT = 8


@requires("backups.view_storage")
@require_safe
def list_(request: HttpRequest) -> HttpResponse:
    """Where copies live, and whether these places answer."""
    storages = Storage.objects.order_by("name").prefetch_related("jobs")
    page = Paginator(storages, PAGE_SIZE).get_page(request.GET.get("page"))
    listed = list(page.object_list)
    states = storages_probe(listed)
    copies = copies_by("storage_id", Backup.objects.filter(storage__in=listed))
    rows = [(storage, states[storage.pk], copies.get(storage.pk, Copies())) for storage in listed]
    context = {
        "page": page,
        "rows": rows,
        "total": page.paginator.count,
        "unusable": sum(not state.is_usable for state in states.values()),
    }
    return render(request, "backups/storage_list.html", context)


@requires("backups.add_storage")
@require_http_methods(["GET", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    form = StorageForm(posted(request))
    if form.is_valid():
        try:
            storage = storage_create(**form.cleaned_data)
        except ValidationError as error:
            add_service_errors(form, error)
        else:
            messages.success(request, f"{storage.name} is ready: copies can go to {storage.path}.")
            return redirect(storage)
    return render(request, "backups/storage_form.html", {"form": form}, status=422 if form.errors else 200)


@requires("backups.view_storage")
@require_safe
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One storage: whether it answers, how full it is, what it holds and who uses it."""
    storage = get_object_or_404(Storage, pk=pk)
    backups = Backup.objects.filter(storage=storage)
    context = {
        "storage": storage,
        "state": storages_probe([storage])[storage.pk],
        "copies": copies_by("storage_id", backups).get(storage.pk, Copies()),
        "trashed": backups.trashed().count(),
        "recent": backups.on_storage().select_related("target", "job")[:RECENT],
        "jobs": storage.jobs.order_by("name"),
    }
    return render(request, "backups/storage_detail.html", context)


@requires("backups.change_storage")
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    storage = get_object_or_404(Storage, pk=pk)
    form = StorageForm(posted(request), initial={"name": storage.name, "path": storage.path})
    if form.is_valid():
        try:
            storage = storage_update(storage=storage, **form.cleaned_data)
        except ValidationError as error:
            add_service_errors(form, error)
        else:
            messages.success(request, f"{storage.name} was changed.")
            return redirect(storage)
    context = {"form": form, "storage": storage}
    return render(request, "backups/storage_form.html", context, status=422 if form.errors else 200)


@requires("backups.delete_storage")
@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    storage = get_object_or_404(Storage, pk=pk)
    if request.method == "POST":
        try:
            storage_delete(storage=storage)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return redirect("backups:storage_delete", pk=pk)
        text = f"{storage.name} is a storage no longer. Its folder {storage.path} was left as it is."
        messages.success(request, text)
        return redirect("backups:storage_list")
    context = {
        "storage": storage,
        "jobs": storage.jobs.order_by("name"),
        "backups": Backup.objects.filter(storage=storage).count(),
    }
    return render(request, "backups/storage_delete.html", context)


@requires("backups.change_storage")
@require_POST
def check(request: HttpRequest, pk: int) -> HttpResponse:
    """Open the storage now and say what was found."""
    storage = get_object_or_404(Storage, pk=pk)
    state = storages_probe([storage])[storage.pk]
    if wants_region(request):
        context = {"storage": storage, "state": state, "looked": True}
        return render(request, "backups/storage_detail.html#state", context)
    if state.problem:
        messages.error(request, state.problem)
    else:
        messages.success(request, f"{storage.name} answers, and {storage.path} carries its sentinel.")
    return redirect(storage)


@requires("backups.change_storage")
@require_POST
def initialise(request: HttpRequest, pk: int) -> HttpResponse:
    """Write a lost sentinel again, when every copy the catalogue counts on is in the folder."""
    storage = get_object_or_404(Storage, pk=pk)
    try:
        storage_initialise(storage)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, f"{storage.name} has its sentinel again and can be used.")
    return redirect(storage)
