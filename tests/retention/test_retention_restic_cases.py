"""The cases of restic's own tests. Keepwell has no rule for tags, so the three cases with `tags` are left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from retention_samples import kept, restic_matches, restic_policy

from backups.retention import Candidate, Plan, plan
from backups.retention.policy import COUNT_RULES

ORACLE = json.loads((Path(__file__).parents[1] / "oracles" / "restic.json").read_text())
NOW = datetime(2026, 8, 1, tzinfo=UTC)
CASES = [case for case in ORACLE["cases"] if case["policy"] and "tags" not in case["policy"]]


def copies() -> list[Candidate]:
    # restic leaves copies of the same moment in the order given; Keepwell orders them by uid.
    return [
        Candidate(uid=f"{snapshot['i']:03d}", created=datetime.fromisoformat(snapshot["time"]), size=1)
        for snapshot in ORACLE["snapshots"]
    ]


def in_restic_words(made: Plan) -> list[dict[str, Any]]:
    """The survivors as the oracle writes them, with the count that every rule has left after each."""
    left = {rule: made.policy.count(rule) for rule in COUNT_RULES}
    answer = []
    for verdict in made.verdicts:
        matches = restic_matches(made.policy, verdict)
        for reason in verdict.reasons:
            if reason.kind in {"rule", "oldest"} and left.get(reason.rule, 0) > 0:
                left[reason.rule] -= 1
                assert reason.used == made.policy.count(reason.rule) - left[reason.rule]
        # The two promises that restic does not make (the newest, the verified) are no part of its answer.
        if matches:
            counters = {rule: count for rule, count in left.items() if count}
            answer.append({"i": int(verdict.uid), "matches": matches, "counters": counters})
    return answer


def test_the_oracle_has_37_cases_without_tags_of_which_one_is_empty() -> None:
    assert len(ORACLE["cases"]) == 40
    assert len(CASES) == 36


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_plan_agrees_with_restic_on_survivors_reasons_and_counters(case: Mapping[str, Any]) -> None:
    made = plan(copies(), restic_policy(case["policy"]), NOW)

    expected = [{key: entry[key] for key in ("i", "matches", "counters")} for entry in case["keep"]]
    assert in_restic_words(made) == expected
    assert len(made.keep) == case["keep_count"]
    times = [verdict.candidate.created for verdict in made.keep]
    assert times == [datetime.fromisoformat(entry["time"]) for entry in case["keep"]]


def test_the_empty_policy_of_case_0_keeps_everything_where_the_library_of_restic_keeps_nothing() -> None:
    case = ORACLE["cases"][0]
    assert (case["policy"], case["keep"]) == ({}, [])

    made = plan(copies(), restic_policy({}), NOW)

    assert kept(made) == {copy.uid for copy in copies()}
    assert made.notes == ("No rule is set: everything is kept.",)
