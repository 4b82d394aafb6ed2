from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from accounts.permissions import requires
from backups.models import Backup, Storage
from backups.services.epochs import epoch_lead
from backups.services.reconcile import storage_reconcile
from backups.services.storages import storage_backend
from backups.storage import StorageError


@requires("backups.change_storage")
@require_http_methods(["GET", "HEAD", "POST"])
def reconcile(request: HttpRequest, pk: int) -> HttpResponse:
    """Say how far a storage is ahead of the catalogue; a POST lets the catalogue follow it."""
    storage = get_object_or_404(Storage, pk=pk)
    if request.method == "POST":
        try:
            result = storage_reconcile(storage=storage, by=request.user.get_username())
        except StorageError as error:
            messages.error(request, str(error))
            return redirect("backups:storage_reconcile", pk=pk)
        messages.success(request, result.message)
        for text in result.left[:5]:
            messages.warning(request, text)
        return redirect(storage)
    lead, problem = 0, ""
    try:
        with storage_backend(storage).open() as handle:
            lead = epoch_lead(storage=storage, handle=handle)
    except StorageError as error:
        problem = str(error)
    known = Backup.objects.filter(storage=storage).on_storage().count()
    context = {"storage": storage, "lead": lead, "problem": problem, "known": known}
    return render(request, "backups/storage_reconcile.html", context)
