from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.permissions import requires
from backups.audit_rows import audit_rows
from backups.models import AuditAction, AuditEntry
from backups.models.audit import AuditQuerySet
from scheduling.exchange import render_region
from scheduling.filters import link, number

PAGE_SIZE = 50
MAX_TEXT = 200
UID = re.compile(r"[0-9a-f]{16}")
SEARCHED = ("actor", "approved_by", "target_name", "job_name", "storage_name", "artifact")
COLUMNS = (
    "at",
    "action",
    "actor",
    "approved_by",
    "backup_uid",
    "job_name",
    "target_name",
    "storage_name",
    "artifact",
    "size",
    "sha256",
    "run",
    "plan_digest",
    "policy_hash",
    "reason",
)
# What a spreadsheet takes for a formula when a cell begins with it.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class AuditFilters:
    """What the address of the audit page asks for: an action, and a text that actors, names or a uid contain."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        asked = request.GET.get("action", "")
        self.action = asked if asked in AuditAction.values else ""
        # No database looks for NUL, and the pattern for a long text is too much for some.
        self.text = " ".join(request.GET.get("q", "").replace("\0", "").split())[:MAX_TEXT]

    @property
    def choices(self) -> list[tuple[str, str]]:
        return [(str(value), str(label)) for value, label in AuditAction.choices]

    @property
    def is_on(self) -> bool:
        return bool(self.action or self.text)

    @property
    def summary(self) -> str:
        """The filters in words; "" for none."""
        action = AuditAction(self.action).label.lower() if self.action else ""
        text = f"with “{self.text}”" if self.text else ""
        return " ".join(filter(None, (action, text)))

    @property
    def export_url(self) -> str:
        query = link(self.request, page="").partition("?")[2]
        path = reverse("backups:audit_export")
        return f"{path}?{query}" if query else path

    def entries(self) -> AuditQuerySet:
        """The entries, newest first."""
        rows = AuditEntry.objects.order_by("-pk")
        if self.action:
            rows = rows.filter(action=self.action)
        if UID.fullmatch(self.text.lower()):
            return rows.filter(backup_uid=self.text.lower())
        if self.text:
            found = Q(backup_uid__startswith=self.text.lower()) | Q(run=self.text)
            for field in SEARCHED:
                found |= Q(**{f"{field}__icontains": self.text})
            rows = rows.filter(found)
        return rows


@requires("backups.view_auditentry")
@require_safe
def list_(request: HttpRequest) -> HttpResponse:
    """Who did what to which copy and why, newest first, page by page from the id of the last entry shown."""
    filters = AuditFilters(request)
    entries, newer, older = _page(filters, request.GET.get("before"), request.GET.get("after"))
    context = {
        "rows": audit_rows(entries),
        "filters": filters,
        "newer": link(request, after=newer) if newer else "",
        "older": link(request, before=older) if older else "",
        "any_entry": bool(entries) or AuditEntry.objects.exists(),
    }
    return render_region(request, "backups/audit_list.html", "audit", context)


@requires("backups.view_auditentry")
@require_safe
def export(request: HttpRequest) -> HttpResponseBase:
    """The filtered list as CSV, all of it: one entry a line, times in UTC, sizes in bytes."""
    name = f"keepwell-audit-{timezone.localdate():%Y-%m-%d}.csv"
    return StreamingHttpResponse(
        _csv(AuditFilters(request).entries()),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _page(filters: AuditFilters, before: str | None, after: str | None) -> tuple[list[AuditEntry], int, int]:
    """A page of entries with the places of its neighbours, 0 where there is none.

    A place that cannot be read, or that has nothing on its side, gives the newest page.
    """
    rows = filters.entries()
    start, end = number(before), number(after)
    if start is not None and (found := list(rows.filter(pk__lt=start)[: PAGE_SIZE + 1])):
        return found[:PAGE_SIZE], found[0].pk, found[PAGE_SIZE - 1].pk if found[PAGE_SIZE:] else 0
    if start is None and end is not None:
        found = list(rows.filter(pk__gt=end).order_by("pk")[: PAGE_SIZE + 1])[::-1]
        if len(found) > PAGE_SIZE:
            return found[1:], found[1].pk, found[-1].pk
    found = list(rows[: PAGE_SIZE + 1])
    return found[:PAGE_SIZE], 0, found[PAGE_SIZE - 1].pk if found[PAGE_SIZE:] else 0


class _Line:
    """A file that hands back what is written to it."""

    def write(self, text: str) -> str:
        return text


def _csv(entries: AuditQuerySet) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(COLUMNS)
    for entry in entries.iterator(chunk_size=2000):
        yield writer.writerow([_cell(getattr(entry, column)) for column in COLUMNS])


def _cell(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
