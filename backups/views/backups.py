from __future__ import annotations

import shlex
from datetime import datetime, timedelta

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.permissions import requires
from backups.choices import ON_STORAGE, BackupState
from backups.models import Backup, Options
from backups.retention import Verdict
from backups.services.catalogue import backup_accept
from backups.services.retention import Pair, plan_pair
from backups.services.storages import storage_backend
from backups.services.trash import BackupChangedError, backup_untrash
from backups.storage import StorageError
from backups.views.catalogue_filters import CatalogueFilters
from scheduling.exchange import render_region
from scheduling.printable import printable
from scheduling.registry import all_kinds

PAGE_SIZE = 50


@requires("backups.view_backup")
@require_safe
def list_(request: HttpRequest) -> HttpResponse:
    """The catalogue, newest first."""
    filters = CatalogueFilters(request)
    rows = filters.backups().select_related("storage", "job", "target").order_by("-created_at", "-pk")
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"page": page, "filters": filters, "any_backup": bool(page.paginator.count) or Backup.objects.exists()}
    return render_region(request, "backups/backup_list.html", "backups", context)


@requires("backups.view_backup")
@require_safe
def detail(request: HttpRequest, uid: str) -> HttpResponse:
    """One copy: what it is, where it is, why it stays or went, and how to get it back."""
    backup = get_object_or_404(Backup.objects.select_related("storage", "job", "target", "run"), uid=uid)
    options = Options.load()
    context = {
        "backup": backup,
        **_place(backup),
        "removed_by": _removing_run(backup),
        "verdict": _verdict(backup, options),
        "past_verdict": backup.verdict if isinstance(backup.verdict, dict) else None,
        "purged_at": _purged_at(backup, options),
    }
    return render(request, "backups/backup_detail.html", context)


@requires("backups.accept_backup")
@require_POST
def accept(request: HttpRequest, uid: str) -> HttpResponse:
    backup = get_object_or_404(Backup, uid=uid)
    try:
        backup = backup_accept(backup=backup)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, f"{backup.target_name}, {backup.uid}: counted as a good copy from now on.")
    return redirect(backup)


@requires("backups.untrash_backup")
@require_POST
def untrash(request: HttpRequest, uid: str) -> HttpResponse:
    """Undo of a deletion, as long as the bytes are in the trash."""
    backup = get_object_or_404(Backup.objects.select_related("storage"), uid=uid)
    try:
        with storage_backend(backup.storage).open() as storage:
            backup = backup_untrash(backup=backup, storage=storage)
    except (StorageError, BackupChangedError, ValueError) as error:
        messages.error(request, f"{backup.target_name}, {backup.uid}, was not brought back: {error}")
    else:
        messages.success(request, f"{backup.target_name}, {backup.uid}, is back in its place.")
    return redirect(backup)


def _verdict(backup: Backup, options: Options) -> Verdict | None:
    """What a cleanup would decide about a copy on storage now; None for one that no pair's plan speaks of."""
    if backup.state not in ON_STORAGE or backup.job is None or backup.target is None:
        return None
    pair = Pair(job=backup.job, target_id=backup.target.pk, target_name=backup.target.name)
    plan = plan_pair(pair=pair, options=options, now=timezone.now()).plan
    return next((verdict for verdict in plan.verdicts if verdict.uid == backup.uid), None)


def _purged_at(backup: Backup, options: Options) -> datetime | None:
    if backup.state != BackupState.TRASHED or backup.trashed_at is None:
        return None
    return backup.trashed_at + timedelta(hours=options.trash_hours)


def _removing_run(backup: Backup) -> tuple[str, int] | None:
    """Kind and id of the run that deleted it, from a `removed_by` such as "maintenance:12"."""
    kind, _, pk = backup.removed_by.partition(":")
    known = {found.kind for found in all_kinds()}
    return (kind, int(pk)) if kind in known and pk.isascii() and pk.isdecimal() else None


def _place(backup: Backup) -> dict[str, str]:
    """Where the artifact is or was, and the commands that restore it; blank when there is nothing left to restore."""
    try:
        name = backup.artifact
    except ValueError as error:
        return {"path": f"Nowhere: {error}", "restore_command": "", "tar_command": ""}
    in_trash = backup.state in (BackupState.TRASHED, BackupState.PURGING)
    path = f"{backup.storage.path}/{name.trash_relative if in_trash else name.relative}"
    place = {"path": printable(path), "restore_command": "", "tar_command": ""}
    if backup.state in (BackupState.AVAILABLE, BackupState.TRASHED):
        place["tar_command"] = f"mkdir /new/folder\ntar --zstd -xf {shlex.quote(printable(path))} -C /new/folder"
    if backup.state == BackupState.AVAILABLE:
        place["restore_command"] = f"manage.py restore {backup.uid} --to /new/folder"
    return place
