"""What becomes of one copy: what the next cleanup decides and why, and when the copy goes if all runs as scheduled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from backups.models import Backup, Options
from backups.retention import PolicyError, Verdict
from backups.services.forecast import Forecast, forecast_pair, forecast_until
from backups.services.retention import Pair
from backups.verdict_words import day_words, delete_words, going_words, keep_words
from scheduling.units import counted

YEAR = 365
AHEAD = timedelta(days=400)
"""How far ahead is looked: a year, and what a cleanup a month later would still say about it."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """`summary` is the next cleanup's verdict in a sentence and `reasons` all of it; `going` says when the copy goes or
    why it stays. `goes_at` is None when it stays as far as was looked. With a `problem` nothing of this is known.
    """

    summary: str = ""
    reasons: Sequence[Mapping[str, Any]] = ()
    keep: bool = True
    going: str = ""
    goes_at: datetime | None = None
    next_cleanup: datetime | None = None
    problem: str = ""


def copy_outlook(*, backup: Backup, pair: Pair, options: Options, now: datetime) -> Outlook | None:
    """The outlook for a copy of this pair; None when the pair's plan does not speak of it."""
    try:
        until = forecast_until(pair=pair, now=now, until=now + AHEAD)
        forecast = forecast_pair(pair=pair, options=options, now=now, until=until)
    except PolicyError as error:
        return Outlook(problem=str(error))
    verdict = next((verdict for verdict in forecast.plan.verdicts if verdict.uid == backup.uid), None)
    if verdict is None:
        return None
    reasons = [reason.to_mapping() for reason in verdict.reasons]
    fate = forecast.timeline.fates.get(backup.uid)
    goes_at = fate.deleted_at if fate else None
    return Outlook(
        summary=_summary(verdict, reasons, stopped=bool(forecast.plan.stops)),
        reasons=reasons,
        keep=verdict.keep,
        going=_going(backup, forecast, verdict, now),
        goes_at=goes_at,
        next_cleanup=forecast.next_cleanup,
    )


def _summary(verdict: Verdict, reasons: Sequence[Mapping[str, Any]], *, stopped: bool) -> str:
    if verdict.keep:
        return f"The next cleanup keeps it: {keep_words(reasons)}."
    if stopped:
        return f"The next cleanup asks first whether to move it to the trash: {delete_words(reasons)}."
    return f"The next cleanup moves it to the trash: {delete_words(reasons)}."


def _going(backup: Backup, forecast: Forecast, verdict: Verdict, now: datetime) -> str:
    timeline = forecast.timeline
    fate = timeline.fates.get(backup.uid)
    if fate is None or fate.deleted_at is None:
        return _staying(forecast, verdict)
    day = fate.deleted_at.astimezone(timeline.zone).date()
    when = f"Goes on {day_words(day)} {day.year}"
    ends = [held.until for held in verdict.candidate.protections if held.until and now < held.until <= fate.deleted_at]
    if ends and fate.deleted_at - max(ends) <= timedelta(days=2):
        kinds = [kind for kind in ("pinned", "held") if _only(verdict, kind)]
        return f"{when}, after it stops being {kinds[0] if kinds else 'protected'}."
    words = going_words(
        [reason.to_mapping() for reason in fate.reasons],
        created=fate.created,
        deleted_at=fate.deleted_at,
        by_at=fate.by_at,
        zone=timeline.zone,
    )
    if fate.deleted_at in timeline.approvals:
        # The forecast takes such a cleanup as approved; whoever reads this page may be the one who does not approve it.
        when = f"{when} if someone approves it"
    return f"{when}, {words}." if words else f"{when}."


def _staying(forecast: Forecast, verdict: Verdict) -> str:
    """Why nothing deletes it as far as one can see."""
    if verdict.candidate.flaw:
        return "Stays until someone looks at it: a cleanup never deletes what is not good."
    if forecast.plan.policy.is_empty:
        return "Stays: no rule is set, so nothing is ever deleted."
    endless = [held for held in verdict.candidate.protections if held.until is None]
    if endless and not all(held.kind == "in_use" for held in endless):
        what = "its pin is taken off" if _only(verdict, "pinned") else "the hold on it is released"
        return f"Stays until {what}, whatever the policy says."
    if forecast.next_cleanup is None:
        return "Stays: no cleanup is scheduled, so nothing deletes it by itself."
    if not any(day.made for day in forecast.timeline.days):
        return "Stays as long as its job makes no newer copies, and the job makes none by itself."
    days = (forecast.timeline.until - forecast.timeline.start).days
    return f"Stays for at least {'a year' if days >= YEAR else counted(days, 'day')} under this policy."


def _only(verdict: Verdict, kind: str) -> bool:
    return {held.kind for held in verdict.candidate.protections} == {kind}
