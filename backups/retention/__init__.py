"""Which backups of a pair stay: pure functions over values, without Django and without a clock."""

from __future__ import annotations

from backups.retention.comparison import Comparison, compare
from backups.retention.durations import Duration, DurationError
from backups.retention.guards import Guards, Stop, StoragePart, storage_stops
from backups.retention.planner import plan, replay
from backups.retention.plans import Plan
from backups.retention.policy import FIELDS, RULES, Policy, PolicyError
from backups.retention.simulation import Copy, Day, Fate, Schedule, Timeline, simulate
from backups.retention.suspicion import suspect_reason
from backups.retention.verdicts import Candidate, Protection, Reason, Verdict

__all__ = [
    "FIELDS",
    "RULES",
    "Candidate",
    "Comparison",
    "Copy",
    "Day",
    "Duration",
    "DurationError",
    "Fate",
    "Guards",
    "Plan",
    "Policy",
    "PolicyError",
    "Protection",
    "Reason",
    "Schedule",
    "Stop",
    "StoragePart",
    "Timeline",
    "Verdict",
    "compare",
    "plan",
    "replay",
    "simulate",
    "storage_stops",
    "suspect_reason",
]
