"""Verdicts in one sentence: the decisive one of several reasons, put for people. Pure.

Reasons are mappings as `Reason.to_mapping` writes them: a verdict of today and one that was stored read the same.
"""

from __future__ import annotations

from calendar import month_name
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

type Reasons = Sequence[Mapping[str, Any]]

UNITS = {"hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month", "yearly": "year"}
# From the rule that lets go of a copy first to the one that holds it longest.
RULES = ("last", *UNITS)
LENGTHS = {"hourly": 1 / 24, "daily": 1.0, "weekly": 7.0, "monthly": 30.4, "yearly": 365.2}
PROTECTIONS = ("pinned", "held", "in_use")
# A cleanup deletes on account of a copy that was made since the one before it; most run once a day.
JUST_NOW = timedelta(hours=36)


def reasons_of(verdict: object) -> list[Mapping[str, Any]]:
    """The reasons in a stored verdict; what is not one, in a row of anybody's making, is left out."""
    found = verdict.get("reasons") if isinstance(verdict, Mapping) else None
    if not isinstance(found, list):
        return []
    return [reason for reason in found if isinstance(reason, Mapping) and str(reason.get("text", "")).strip()]


def keep_words(reasons: Reasons) -> str:
    """Why a copy stays, such as "it is the newest of its day (daily 3 of 7)"; "" without a reason."""
    kinds = {reason.get("kind"): reason for reason in reversed(reasons)}
    protection = next((kinds[kind] for kind in PROTECTIONS if kind in kinds), None)
    if protection and "would_delete" in kinds:
        return f"no rule holds it, but it is {protection['text']}"
    minimum = kinds.get("minimum")
    if minimum and minimum.get("used") == 1:
        return "it is the newest good copy"
    if (rule := max(_all(reasons, "rule"), key=_rank, default=None)) is not None:
        return _rule_words(rule)
    if "within" in kinds:
        unit = UNITS.get(str(kinds["within"].get("rule", "")).removeprefix("within_"))
        text = kinds["within"]["text"]
        return f"it is the newest of its {unit} ({text})" if unit else f"it was taken {text}"
    if "oldest" in kinds:
        return f"it is the oldest copy, and the rule has a place left ({kinds['oldest']['text']})"
    for kind, words in (
        ("verified", "it is the newest verified copy"),
        ("no_rule", "no rule is set, so everything is kept"),
        ("future", "it is dated in the future, so it does not count"),
    ):
        if kind in kinds:
            return words
    if "flaw" in kinds:
        flaw = str(kinds["flaw"]["text"]).rpartition(": ")[2]
        return f"it is {flaw}, and what is not good is neither counted nor deleted"
    return f"it is {reasons[0]['text']}" if reasons else ""


def delete_words(reasons: Reasons) -> str:
    """Why a copy goes, such as "2026-11-03 23:00 is newer in the same week"; "" without a reason."""
    if (pushed_out := _pushed_out(reasons)) is not None:
        return used_up_words(pushed_out)
    if (replaced := _first(reasons, "replaced")) is not None:
        return str(replaced["text"]).partition(": ")[2] or str(replaced["text"])
    if (exhausted := max(_all(reasons, "exhausted"), key=_horizon, default=None)) is not None:
        return used_up_words(exhausted)
    if (outside := _first(reasons, "outside")) is not None:
        return f"it is older than the rule reaches ({outside['text']})"
    return str(reasons[0]["text"]) if reasons else ""


def used_up_words(exhausted: Mapping[str, Any]) -> str:
    """That newer copies use all that a rule keeps."""
    count, rule = exhausted.get("count"), exhausted.get("rule")
    if not isinstance(count, int) or rule not in RULES:
        return str(exhausted["text"])
    if rule == "last":
        return "a newer copy is there" if count == 1 else f"{count:,} newer copies are there"
    if count == 1:
        return f"the one {rule} place is used by a newer copy"
    return f"all {count:,} {rule} places are used by newer copies"


def going_words(
    reasons: Reasons, *, created: datetime, deleted_at: datetime, by_at: datetime | None, zone: tzinfo
) -> str:
    """What lets a copy go when a simulated cleanup deletes it, such as "when the copy of 2 December takes its place as
    the newest of week 49"; "" without a reason. `by_at` is when the copy that replaces it is made, `zone` the policy's.
    """
    if (pushed_out := _pushed_out(reasons)) is not None:
        return f"when {used_up_words(pushed_out)}"
    replaced = _first(reasons, "replaced")
    if replaced is not None and by_at is not None and deleted_at - by_at <= JUST_NOW:
        day = day_words(by_at.astimezone(zone).date())
        return f"when the copy of {day} takes its place as the newest of {_period(replaced)}"
    exhausted = max(_all(reasons, "exhausted"), key=_horizon, default=None)
    outside = _first(reasons, "outside")
    if outside is not None and (exhausted is None or _horizon(exhausted) * 3 / 2 < deleted_at - created):
        name = str(outside["text"]).partition(": ")[0]
        return f"when it is older than the rule reaches ({name} of the newest)"
    if exhausted is not None:
        return f"when {used_up_words(exhausted)}"
    words = delete_words(reasons)
    return f"because {words}" if words else ""


def day_words(day: date) -> str:
    """A day without its year, such as "2 December"."""
    return f"{day.day} {month_name[day.month]}"


def _period(reason: Mapping[str, Any]) -> str:
    """The period of a reason in words: `2026-W49` of a weekly one is week 49."""
    period = str(reason.get("period", ""))
    try:
        match str(reason.get("rule", "")).removeprefix("within_"):
            case "daily":
                return day_words(date.fromisoformat(period))
            case "weekly":
                return f"week {int(period.rpartition('-W')[2])}"
            case "monthly":
                first = date.fromisoformat(f"{period}-01")
                return f"{month_name[first.month]} {first.year}"
            case "yearly":
                return period
            case _:
                return "its hour"
    except ValueError:
        return "its period"


def _horizon(exhausted: Mapping[str, Any]) -> timedelta:
    """About how far back a full rule reaches: with one copy a day, when it is about numbers."""
    count = exhausted.get("count")
    days = LENGTHS.get(str(exhausted.get("rule")), 1.0)
    return timedelta(days=days * min(count, 10_000)) if isinstance(count, int) else timedelta()


def _pushed_out(reasons: Reasons) -> Mapping[str, Any] | None:
    """The full rule that held the copy until just now: one place more, as the hint says, would hold it still."""
    hint = _first(reasons, "hint")
    if hint is None or not isinstance(hint.get("count"), int):
        return None
    for reason in _all(reasons, "exhausted"):
        if reason.get("rule") == hint.get("rule") and reason.get("count") == hint["count"] - 1:
            return reason
    return None


def _all(reasons: Reasons, kind: str) -> Iterator[Mapping[str, Any]]:
    return (reason for reason in reasons if reason.get("kind") == kind)


def _first(reasons: Reasons, kind: str) -> Mapping[str, Any] | None:
    return next(_all(reasons, kind), None)


def _rank(reason: Mapping[str, Any]) -> int:
    rule = str(reason.get("rule", ""))
    return RULES.index(rule) if rule in RULES else -1


def _rule_words(reason: Mapping[str, Any]) -> str:
    unit = UNITS.get(str(reason.get("rule")))
    place = "the newest of its " + unit if unit else "one of the newest"
    return f"it is {place} ({reason['text']})"
