"""Sentences about what another retention policy would cost. Pure but for the time zone of the page."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.dateformat import format as format_date

from backups.listing_words import SPACE
from backups.models import Options
from backups.retention import Stop
from backups.services.policy_change import PairChange, PolicyChange
from scheduling.units import binary_size, counted


def answer_words(change: PolicyChange) -> tuple[str, str]:
    """The one sentence that everything else explains, and what is to be said beside it."""
    if not change.pairs:
        return ("Nothing can be said about these rules." if change.failed else "This is what is saved already.", "")
    when = when_words(change.at, change.now)
    deletes = sum(changed.new_count for changed in change.pairs)
    total = f"In all, {counted(deletes, 'backup')} would go." if deletes else "No backup would go."
    spared = f"{counted(change.spared, 'backup')} would stay that the saved policy deletes." if change.spared else ""
    if change.lost:
        lost = f"{counted(change.lost, 'backup')} ({binary_size(change.lost_bytes, space=SPACE)})"
        return (f"{when} would move {lost} to the trash that the saved policy keeps.", f"{total} {spared}".strip())
    return ("Nothing more is deleted than today.", spared or f"{when} would do the same as under the saved policy.")


def when_words(at: datetime | None, now: datetime) -> str:
    """The next cleanup as the subject of a sentence."""
    if at is None:
        return "A cleanup now"
    local = timezone.localtime(at)
    if at - now < timedelta(hours=24) and (local.hour < 9 or local.hour >= 18):
        return "Tonight’s cleanup"
    return f"The next cleanup ({format_date(local, 'D j M, H:i')})"


def stop_words(changed: PairChange, stop: Stop, limits: Options) -> str:
    """Why a cleanup would stop at this pair, in one sentence."""
    asks = "so it would stop and ask." if stop.approvable else "so it would stop."
    if stop.kind == "pair_share":
        what = f"That is {changed.share_deleted}{SPACE}% of {changed.pair.target_name}, by {changed.pair.job.name}"
        limit = f"more than the {limits.guard_pair_share}{SPACE}% that a cleanup may delete without approval"
        return f"{what}: {limit}, {asks}"
    return f"{changed.pair.label}: {stop.text.removesuffix('.')}, {asks}"


def span_words(span: timedelta) -> str:
    """A length of time as people say it: hours under two days, days under two months, then months and years."""
    days = span / timedelta(days=1)
    if days < 2:
        return counted(round(days * 24), "hour")
    if days < 61:
        return counted(round(days), "day")
    if days < 700:
        return counted(round(days / 30.4), "month")
    return f"{days / 365.25:.1f} years"
