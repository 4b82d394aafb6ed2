"""Copies, policies and restic's words for them, shared by the tests of retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from backups.retention import Candidate, Duration, Guards, Plan, Policy, Protection, Verdict
from backups.retention.policy import COUNT_RULES, WITHIN_RULES

START = datetime(2026, 1, 1, 2, 30, tzinfo=UTC)
LONG_AFTER = datetime(2100, 1, 1, tzinfo=UTC)
UNLIMITED_GUARDS = Guards(max_share=None, max_count=None)


def copy_at(created: datetime, uid: str = "", **traits: object) -> Candidate:
    """One good copy; its uid says when it was created unless one is given."""
    return Candidate(**{"uid": uid or f"{created:%Y%m%dT%H%M%S%z}", "created": created, "size": 1000} | traits)


def daily_copies(number: int, start: datetime = START) -> list[Candidate]:
    """One copy a day, oldest first."""
    return [copy_at(start + timedelta(days=day)) for day in range(number)]


def kept(plan: Plan) -> set[str]:
    return {verdict.uid for verdict in plan.keep}


def deleted(plan: Plan) -> set[str]:
    return {verdict.uid for verdict in plan.delete}


def verdict_on(plan: Plan, copy: Candidate) -> Verdict:
    return next(verdict for verdict in plan.verdicts if verdict.uid == copy.uid)


def kinds(verdict: Verdict) -> list[str]:
    return [reason.kind for reason in verdict.reasons]


def restic_matches(policy: Policy, verdict: Verdict) -> list[str]:
    """The `matches` that restic prints for our reasons to keep; those that restic does not have are left out."""
    matches = []
    for reason in verdict.reasons:
        if reason.kind not in {"rule", "oldest", "within"}:
            continue
        oldest = "oldest " if reason.kind == "oldest" else ""
        if reason.rule in COUNT_RULES:
            matches.append(f"{oldest}{reason.rule} snapshot")
        else:
            period = reason.rule.removeprefix("within").removeprefix("_")
            matches.append(f"{oldest}{period} within {policy.duration(reason.rule)}".strip().replace("  ", " "))
    return matches


def restic_policy(policy: dict[str, int | str], timezone: str = "UTC") -> Policy:
    """A policy in restic's short names (`daily`, `within_daily`)."""
    return Policy.from_mapping({f"keep_{rule}": value for rule, value in policy.items()} | {"timezone": timezone})


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Antarctica/Troll")

durations = st.builds(
    Duration,
    years=st.integers(0, 1),
    months=st.integers(0, 3),
    days=st.integers(0, 40),
    hours=st.integers(0, 30),
)
counts = st.one_of(st.just(0), st.just(0), st.integers(-1, 8))


def policies(*, windows: bool = True, empty: bool = False) -> st.SearchStrategy[Policy]:
    """Policies with few rules on; `windows` allows the `within_*` rules by period, `empty` one without any rule."""
    fields = {f"keep_{rule}": counts for rule in COUNT_RULES}
    for rule in WITHIN_RULES if windows else ("within",):
        fields[f"keep_{rule}"] = st.one_of(st.none(), st.none(), durations)
    made = st.builds(Policy, timezone=st.sampled_from(ZONES), **fields)
    return made if empty else made.filter(lambda policy: not policy.is_empty)


def protections(*, ending: bool) -> st.SearchStrategy[tuple[Protection, ...]]:
    """Mostly none; those that are `ending` may end within two years, or have ended."""
    ends = st.integers(0, 60 * 24 * 800).map(lambda minutes: START + timedelta(minutes=minutes))
    one = st.builds(
        Protection,
        kind=st.sampled_from(("pinned", "held", "in_use")),
        text=st.sampled_from(("by anna", "audit")),
        until=st.one_of(st.none(), ends) if ending else st.none(),
    )
    return st.one_of(st.just(()), st.just(()), st.just(()), st.lists(one, min_size=1, max_size=2).map(tuple))


@st.composite
def schedules(
    draw: st.DrawFn,
    *,
    flaws: bool = True,
    protected: str = "",
    smallest: int = 0,
    largest: int = 40,
) -> list[Candidate]:
    """Copies at irregular times, oldest first: bursts, gaps, ties, DST days; some verified and some flawed.

    Some are protected: "for ever", or "ending".
    """
    gaps = st.one_of(
        st.integers(0, 90),
        st.integers(60, 60 * 30),
        st.just(60 * 24),
        st.integers(60 * 24, 60 * 24 * 60),
    )
    moment = START + timedelta(minutes=draw(st.integers(0, 60 * 24 * 365)))
    copies = []
    for number, gap in enumerate(draw(st.lists(gaps, min_size=smallest, max_size=largest))):
        moment += timedelta(minutes=gap)
        verified = moment if draw(st.integers(0, 5)) == 0 else None
        flaw = draw(st.sampled_from(("", "", "", "", "suspect", "missing"))) if flaws else ""
        # The uids run against the times, so that nothing is right only because the two agree.
        uid = f"{999 - number:04d}"
        held = draw(protections(ending=protected == "ending")) if protected else ()
        copies.append(copy_at(moment, uid, size=1000 + number, verified_at=verified, flaw=flaw, protections=held))
    return copies
