from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import dateformat, timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.permissions import requires
from backups.models import Backup, Options
from backups.querysets import BackupQuerySet
from backups.references import run_reference
from backups.services.moved import Moved
from backups.services.trash import UNTRASH_PIN, backups_untrash
from backups.trashed import TrashedRun, purge_schedule, trash_summary, trashed_copies, trashed_runs
from backups.views.catalogue_filters import CatalogueFilters
from scheduling.exchange import render_region
from scheduling.filters import Chip, link
from scheduling.units import binary_size, counted

PAGE_SIZE = 50
LISTED = 20
PROBLEMS_LISTED = 5
UNDO_AT_ONCE = 500
"""A request brings back so many; moving more takes longer than people wait for a page."""

ORDERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "": ("Newest first", ("-trashed_at", "-created_at", "-pk")),
    "soonest": ("Removed soonest", ("trashed_at", "created_at", "pk")),
}
UID = re.compile(r"[0-9a-f]{16}")


class TrashFilters(CatalogueFilters):
    """What the address of the trash asks for: a target, a job, a storage, the run that moved it, and the order."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self.state = ""
        self.order = request.GET.get("order", "") if request.GET.get("order", "") in ORDERS else ""
        self.runs = trashed_runs(Backup.objects.trashed())
        asked = request.GET.get("run", "")
        self.run = asked if run_reference(asked) or any(run.text == asked for run in self.runs) else ""
        if self.run and all(run.text != self.run for run in self.runs):
            self.runs += trashed_runs(Backup.objects.trashed().filter(removed_by=self.run))

    def backups(self) -> BackupQuerySet:
        rows = Backup.objects.trashed().filter(
            **{f"{noun}_id": pk for noun, pk in self.chosen.items() if pk is not None}
        )
        return rows.filter(removed_by=self.run) if self.run else rows

    @property
    def clear_url(self) -> str:
        return self.request.path if self.run or super().clear_url else ""

    @property
    def summary(self) -> str:
        named = super().summary
        run = run_reference(self.run)
        by = f"what {run.label if run else self.run} moved here" if self.run else ""
        return ", ".join(filter(None, (named, by)))

    @property
    def hidden(self) -> list[tuple[str, str]]:
        kept = [("run", self.run), ("order", self.order)]
        return [*super().hidden, *((name, value) for name, value in kept if value)]

    @property
    def run_chips(self) -> list[Chip]:
        """ "All", then each run that left something here, by when it did."""
        if len(self.runs) < 2 and not self.run:
            return []
        named = [self._chip("run", run.text, _run_words(run), active=run.text == self.run) for run in self.runs]
        return [self._chip("run", "", "All", active=not self.run), *named]

    @property
    def order_chips(self) -> list[Chip]:
        return [self._chip("order", value, label, active=value == self.order) for value, (label, _) in ORDERS.items()]

    @property
    def whole_run(self) -> TrashedRun | None:
        """The run to offer undoing as a whole: the one asked for, or the only one there is."""
        chosen = [run for run in self.runs if run.text == self.run] or ([] if self.clear_url else self.runs)
        return chosen[0] if len(chosen) == 1 and chosen[0].run else None


@requires("backups.view_backup")
@require_safe
def list_(request: HttpRequest) -> HttpResponse:
    """What a cleanup deleted and nothing has removed for good yet."""
    now, options, filters = timezone.now(), Options.load(), TrashFilters(request)
    purge = purge_schedule(now)
    rows = filters.backups().select_related("storage").order_by(*ORDERS[filters.order][1])
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "rows": trashed_copies(list(page.object_list), options=options, purge=purge, now=now),
        "filters": filters,
        "summary": trash_summary(filters.backups(), options=options, purge=purge, now=now),
        "any_trashed": bool(page.paginator.count) or Backup.objects.trashed().exists(),
        "purge": purge,
        "trash_hours": options.trash_hours,
        "query": request.GET.urlencode(),
        "all_chosen": request.GET.get("select") == "page",
        "select_url": link(request, select="page"),
        "unselect_url": link(request, select=""),
        "soonest_url": link(request, order="soonest", page=""),
    }
    return render_region(request, "backups/trash_list.html", "trash", context)


@requires("backups.untrash_backup")
@require_POST
def undo(request: HttpRequest) -> HttpResponse:
    """Bring back what was ticked: one at once, several when it was said what that does."""
    uids = request.POST.getlist("only")[:1] or list(dict.fromkeys(request.POST.getlist("uid")))
    chosen = [uid for uid in uids if UID.fullmatch(uid)]
    back_url = _back_url(request)
    if not chosen:
        messages.warning(request, "Nothing was brought back: no backup was ticked. Tick those that should come back.")
        return redirect(back_url)
    rows = Backup.objects.filter(uid__in=chosen).order_by("trashed_at", "pk")
    if len(chosen) > 1 and "confirmed" not in request.POST:
        return _confirm(request, rows.trashed(), [("uid", uid) for uid in chosen], back_url)
    return _bring_back(request, rows, back_url)


@requires("backups.untrash_backup")
@require_http_methods(["GET", "HEAD", "POST"])
def undo_run(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """Bring back everything that one run moved to the trash and that is still there."""
    back_url = _back_url(request)
    rows = Backup.objects.trashed().filter(removed_by=f"{kind}:{pk}").order_by("trashed_at", "pk")
    if not rows.exists():
        messages.warning(request, f"Nothing that {kind} run {pk} deleted is in the trash, so there is nothing to undo.")
        return redirect(back_url)
    if request.method == "POST" and "confirmed" in request.POST:
        return _bring_back(request, rows, back_url)
    return _confirm(request, rows, [], back_url, run=f"{kind} run {pk}")


def bring_back(request: HttpRequest, backups: Sequence[Backup]) -> None:
    """Undo the deletion of these, and say what became of each."""
    now = timezone.now()
    result = backups_untrash(backups=backups, by=request.user.get_username(), now=now)
    if result.done:
        ends = [backup.pin_until for backup in result.done if backup.pin_until]
        pinned = f"pinned until {day_shown(min(ends))}" if ends else "and still pinned"
        if len(result.done) == 1:
            [backup] = result.done
            words = f"{backup.target_name}, {backup.uid}, is back in its place, {pinned}."
        else:
            words = f"{counted(len(result.done), 'backup')} are back in their place, {pinned}."
        messages.success(request, words)
    if problems := _problems(result):
        messages.error(request, problems)


def _bring_back(request: HttpRequest, rows: BackupQuerySet, back_url: str) -> HttpResponse:
    found = rows.count()
    bring_back(request, list(rows.select_related("storage")[:UNDO_AT_ONCE]))
    if found > UNDO_AT_ONCE:
        messages.warning(
            request,
            f"{counted(found - UNDO_AT_ONCE, 'backup')} of these are still in the trash: {UNDO_AT_ONCE} come back at "
            "once. Undo the rest the same way.",
        )
    return redirect(back_url)


def _confirm(
    request: HttpRequest, rows: BackupQuerySet, hidden: list[tuple[str, str]], back_url: str, run: str = ""
) -> HttpResponse:
    listed = list(rows.select_related("storage").defer("verdict"))
    count = len(listed)
    if not count:
        messages.warning(request, "None of these is in the trash any more, so there is nothing to undo.")
        return redirect(back_url)
    what = counted(count, "backup")
    storages = sorted({backup.storage.name for backup in listed})
    ends = day_shown(timezone.now() + UNTRASH_PIN)
    they, are = ("It", "is") if count == 1 else ("They", "are")
    consequences = [
        f"{what} ({binary_size(sum(backup.size for backup in listed))}) "
        f"{'returns to its' if count == 1 else 'return to their'} place in {_listed(storages)}, as whole as before.",
        f"{they} {are} pinned for {UNTRASH_PIN.days} days, until {ends}, so that the next cleanup does not take "
        f"{'it' if count == 1 else 'them'} again. After that the policy decides anew.",
    ]
    if count > UNDO_AT_ONCE:
        consequences.append(f"{UNDO_AT_ONCE} come back at once; undo the rest the same way.")
    context = {
        "what": what,
        "run": run,
        "button": f"Bring {what} back",
        "consequences": consequences,
        "hidden": [*hidden, ("confirmed", "yes"), ("back", request.POST.get("back", ""))],
        "cancel_url": back_url,
        "listed": listed[:LISTED],
        "more": max(0, count - LISTED),
    }
    return render(request, "backups/trash_undo.html", context)


def _problems(result: Moved) -> SafeString | str:
    """What was not brought back, and why; "" when everything was."""
    problems = [(backup, str(problem)) for backup, problem in (*result.left, *result.failed)]
    if not problems:
        return ""
    words = [f"{backup.target_name}, {backup.uid}, was not brought back: {text}" for backup, text in problems]
    if len(words) == 1:
        return words[0]
    shown = [(text,) for text in words[:PROBLEMS_LISTED]]
    if len(words) > PROBLEMS_LISTED:
        shown.append((f"And {len(words) - PROBLEMS_LISTED} more, which are still in the trash.",))
    return format_html(
        "{} were not brought back:<ul>{}</ul>",
        counted(len(words), "backup"),
        format_html_join("", "<li>{}</li>", shown),
    )


def _back_url(request: HttpRequest) -> str:
    """The trash page with the filters it was left with."""
    query = QueryDict(request.POST.get("back", ""), mutable=True)
    query.pop("select", None)
    path = reverse("backups:trash_list")
    return f"{path}?{query.urlencode()}" if query else path


def _run_words(run: TrashedRun) -> str:
    return f"{dateformat.format(timezone.localtime(run.at), 'D j M, H:i')} ({run.count:,})"


def day_shown(moment: datetime) -> str:
    """A day, with its year when it is another one: `24 Dec`."""
    local = timezone.localtime(moment)
    return dateformat.format(local, "j M" if local.year == timezone.localdate().year else "j M Y")


def _listed(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"their {len(names)} storages"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
