"""Lines of a log as HTML: thousands of them on a page, which the template language would take seconds for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag
def log_lines(lines: Iterable[Any], base: str = "") -> SafeString:
    """Items of `#log-lines` from lines with `at`, `level`, `text`, `seq`; `base` comes before the # of their links."""
    return format_html_join(
        "\n",
        '<li data-level="{}"{}>{}<time datetime="{}">{}</time><span class="log-level">{}</span>'
        '<span class="log-text">{}</span></li>',
        _parts(lines, base or ""),
    )


def _parts(lines: Iterable[Any], base: str) -> Iterator[tuple[object, ...]]:
    zone = timezone.get_current_timezone()
    for line in lines:
        at = line.at.astimezone(zone)
        place: tuple[str, str] = ("", "")
        if line.seq:
            # Not among the stops of the Tab key: there can be thousands, and the log itself is one.
            link = format_html('<a class="log-no" href="{}#L{}" tabindex="-1">{}</a>', base, line.seq, line.seq)
            place = (format_html(' id="L{}"', line.seq), link)
        yield (line.level, *place, at.isoformat(timespec="seconds"), at.strftime("%H:%M:%S"), line.level, line.text)
