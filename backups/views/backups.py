from __future__ import annotations

import shlex
from datetime import datetime

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.permissions import requires
from backups.audit_rows import AuditRow, audit_rows
from backups.choices import ON_STORAGE, BackupState
from backups.forms.protection import PinForm
from backups.models import AuditEntry, Backup, Options
from backups.outlook import Outlook, copy_outlook
from backups.references import run_reference
from backups.services.catalogue import backup_accept
from backups.services.protections import PINNABLE, protections_of
from backups.services.retention import Pair
from backups.trashed import TrashedCopy, purge_schedule, trashed_copies
from backups.verdict_words import delete_words, reasons_of
from backups.views.catalogue_filters import CatalogueFilters
from backups.views.trash import bring_back
from scheduling.exchange import render_region
from scheduling.printable import printable

PAGE_SIZE = 50
TRAIL = 30


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
    """One copy: what it is, where it is, why it stays or went, when it goes, and how to get it back."""
    return detail_page(request, backup_or_404(uid))


@requires("backups.accept_backup")
@require_POST
def accept(request: HttpRequest, uid: str) -> HttpResponse:
    backup = backup_or_404(uid)
    try:
        backup = backup_accept(backup=backup, by=request.user.get_username())
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, f"{backup.target_name}, {backup.uid}: counted as a good copy from now on.")
    return redirect(backup)


@requires("backups.untrash_backup")
@require_POST
def untrash(request: HttpRequest, uid: str) -> HttpResponse:
    """Undo of a deletion, as long as the bytes are in the trash."""
    backup = backup_or_404(uid)
    bring_back(request, [backup])
    return redirect(backup)


def backup_or_404(uid: str) -> Backup:
    return get_object_or_404(Backup.objects.select_related("storage", "job", "target", "run"), uid=uid)


def detail_page(request: HttpRequest, backup: Backup, *, pin_form: PinForm | None = None) -> HttpResponse:
    """The page of a copy; with a form that was refused it is answered as 422."""
    now, options = timezone.now(), Options.load()
    removed_by = run_reference(backup.removed_by)
    context = {
        "backup": backup,
        **_place(backup),
        "outlook": _outlook(backup, options, now),
        "trashed": _trashed(backup, options, now),
        "past_reasons": reasons_of(backup.verdict),
        "past_words": delete_words(reasons_of(backup.verdict)),
        "removed_by": removed_by,
        "protections": protections_of([backup], now=now).get(backup.pk, ()),
        "is_pinned": backup.is_pinned(now),
        "can_be_pinned": backup.state in PINNABLE,
        "pin_form": pin_form or PinForm(initial={"note": backup.pin_note} if backup.is_pinned(now) else None),
        "trail": _trail(request, backup),
    }
    refused = pin_form is not None and bool(pin_form.errors)
    return render(request, "backups/backup_detail.html", context, status=422 if refused else 200)


def _outlook(backup: Backup, options: Options, now: datetime) -> Outlook | None:
    """What becomes of a copy on storage; None for one that no pair's plan speaks of."""
    if backup.state not in ON_STORAGE or backup.job is None or backup.target is None:
        return None
    pair = Pair(job=backup.job, target_id=backup.target.pk, target_name=backup.target.name)
    return copy_outlook(backup=backup, pair=pair, options=options, now=now)


def _trashed(backup: Backup, options: Options, now: datetime) -> TrashedCopy | None:
    if backup.state != BackupState.TRASHED:
        return None
    [row] = trashed_copies([backup], options=options, purge=purge_schedule(now), now=now)
    return row


def _trail(request: HttpRequest, backup: Backup) -> list[AuditRow]:
    """What people and runs did to it, newest first."""
    if not request.user.has_perm("backups.view_auditentry"):
        return []
    return audit_rows(AuditEntry.objects.filter(backup_uid=backup.uid).order_by("-pk")[:TRAIL])


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
        place["restore_command"] = f".venv/bin/python manage.py restore {backup.uid} --to /new/folder"
    return place
