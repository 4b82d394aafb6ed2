"""What every page needs to show sizes, times, statuses and the sidebar the same way."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django import template
from django.template.context import Context
from django.urls import reverse
from django.utils import dateformat, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scheduling.units import binary_size, spoken

register = template.Library()

ABSENT: Final = "–"
NO_BREAK: Final = "\u00a0"
THIN_NO_BREAK: Final = "\u202f"

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR

# Status -> name of the Lucide icon that is its shape. The stylesheet maps the same words to colours.
STATUS_SHAPES: Final[dict[str, str]] = {
    "queued": "clock",
    "running": "loader-circle",
    "cancelling": "loader-circle",
    "succeeded": "check",
    "failed": "x",
    "cancelled": "minus",
    "skipped": "minus",
    "paused": "circle-pause",
    "lost": "circle-dashed",
    "ok": "check",
    "warning": "triangle-alert",
    "needs_approval": "hand",
    "available": "circle-small",
    "verified": "circle-check",
    "suspect": "triangle-alert",
    "missing": "circle-dashed",
    "quarantined": "octagon-x",
    "deleting": "loader-circle",
    "trashed": "trash-2",
    "purging": "loader-circle",
    "deleted": "minus",
    "keep": "check",
    "delete": "trash-2",
    "pinned": "pin",
    "held": "hand",
    "in_use": "lock",
    "enabled": "check",
    "disabled": "minus",
    "hidden": "eye-off",
    "info": "info",
    "error": "x",
    "success": "check",
}

_STATUS_WORDS: Final[dict[str, str]] = {"ok": "OK", "trashed": "In trash"}


@register.filter
def filesize(value: float | None) -> str:
    """Bytes in binary units with three significant figures at most: `1.4 GiB`, `312 B`; a dash for None."""
    return ABSENT if value is None else binary_size(value, space=NO_BREAK)


@register.filter
def number(value: int | None) -> str:
    """A whole number in groups of three with thin no-break spaces: `12 345`; a dash for None."""
    if value is None:
        return ABSENT
    return f"{value:,d}".replace(",", THIN_NO_BREAK).replace("-", "−")


@register.filter
def duration(value: timedelta | float | None) -> str:
    """A timedelta or seconds in at most two units: `0.4 s`, `1 min 12 s`, `2 d 3 h`; a dash for None."""
    if value is None:
        return ABSENT
    seconds = max(value.total_seconds() if isinstance(value, timedelta) else float(value), 0.0)
    if 0 < seconds < 0.1:
        return f"<{NO_BREAK}0.1{NO_BREAK}s"
    if 0 < seconds < 9.95:
        return f"{seconds:.1f}{NO_BREAK}s"
    return spoken(round(seconds), space=NO_BREAK)


def _distance(seconds: float) -> str:
    """Words for a distance from now in seconds; positive is the future. The past is coarser: it is only ever older."""
    if seconds > 0:
        return f"in {spoken(int(seconds), space=NO_BREAK)}" if seconds >= 1 else "now"
    past = int(-seconds)
    if past < 5:
        return "just now"
    for limit, size, unit in ((_MINUTE, 1, "s"), (_HOUR, _MINUTE, "min"), (2 * _DAY, _HOUR, "h")):
        if past < limit:
            return f"{past // size}{NO_BREAK}{unit} ago"
    if past < 60 * _DAY:
        return f"{past // _DAY}{NO_BREAK}days ago"
    if past < 730 * _DAY:
        return f"{past // (30 * _DAY)}{NO_BREAK}months ago"
    return f"{past // (365 * _DAY)}{NO_BREAK}years ago"


def _full(local: datetime) -> str:
    """A local time with everything: `Tuesday 24 November 2026, 14:04:11 CET`."""
    return dateformat.format(local, "l j F Y, H:i:s T")


@register.filter
def ago(value: datetime | None) -> SafeString | str:
    """An aware datetime as its distance from now, in a `<time>` whose title is the full time in the current zone."""
    if value is None:
        return ABSENT
    distance = _distance((value - timezone.now()).total_seconds())
    local = timezone.localtime(value)
    return format_html('<time datetime="{}" title="{}">{}</time>', local.isoformat(), _full(local), distance)


@register.filter
def moment(value: datetime | None) -> SafeString | str:
    """An aware datetime in the current zone in a `<time>`: with the weekday within a week, else with the year."""
    if value is None:
        return ABSENT
    local = timezone.localtime(value)
    near = abs((local.date() - timezone.localdate()).days) < 7
    shown = dateformat.format(local, "D j M, H:i" if near else "j M Y, H:i")
    return format_html('<time datetime="{}" title="{}">{}</time>', local.isoformat(), _full(local), shown)


@register.filter
def status_word(status: str) -> str:
    """The word people read for a status value: `needs_approval` is "Needs approval"."""
    text = str(status)
    return _STATUS_WORDS.get(text, text.replace("_", " ").capitalize())


@register.filter
def status_shape(status: str) -> str:
    """The Lucide icon that stands for a status; a plain dash for one that is not known."""
    return STATUS_SHAPES.get(str(status), "minus")


@register.inclusion_tag("includes/nav_item.html", takes_context=True)
def nav_item(context: Context, view: str, label: str, icon: str, also: str = "") -> dict[str, Any]:
    """A line of the sidebar. It is current on its own page, and on every page of the same noun in the same app.

    `also` lists further `app:noun` pairs, space separated, whose pages belong under this line.
    """
    match = getattr(context.get("request"), "resolver_match", None)
    here = match.view_name if match else ""
    current = "page" if here == view else "true" if here and _noun(here) in {_noun(view), *also.split()} else ""
    return {"url": reverse(view), "label": label, "icon": icon, "current": current}


def _noun(view: str) -> str:
    """`backups:job_list` -> `backups:job`."""
    return view.rsplit("_", 1)[0]
