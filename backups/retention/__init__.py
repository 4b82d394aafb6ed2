"""Which backups of a pair stay: pure functions over values, without Django and without a clock."""

from __future__ import annotations

from backups.retention.durations import Duration, DurationError
from backups.retention.planner import Candidate, Plan, Reason, Verdict, plan
from backups.retention.policy import FIELDS, RULES, Policy, PolicyError
from backups.retention.suspicion import suspect_reason

__all__ = [
    "FIELDS",
    "RULES",
    "Candidate",
    "Duration",
    "DurationError",
    "Plan",
    "Policy",
    "PolicyError",
    "Reason",
    "Verdict",
    "plan",
    "suspect_reason",
]
