"""What lists of copies say of each."""

from __future__ import annotations

from django import template
from django.utils import timezone

from backups.models import Backup

register = template.Library()


@register.filter
def pinned(backup: Backup) -> bool:
    """Whether someone keeps the copy from every cleanup now."""
    return backup.is_pinned(timezone.now())


@register.filter
def pin_words(backup: Backup) -> str:
    """Until when and by whom a copy is pinned, and why."""
    until = timezone.localtime(backup.pin_until) if backup.pin_until else None
    end = f"until {until.day} {until:%B %Y}" if until else "for ever"
    by = f" by {backup.pinned_by}" if backup.pinned_by else ""
    return f"Pinned {end}{by}{f': {backup.pin_note}' if backup.pin_note else ''}"
