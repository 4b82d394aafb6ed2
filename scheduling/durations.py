"""How long a job's runs have taken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from scheduling.choices import RunStatus
from scheduling.registry import RunKind

NEWEST = 40
SHARE = 95


def usual_duration(kind: RunKind, job_id: int) -> timedelta | None:
    """How long 95 of 100 of the job's newest successful runs took at most; None when there is none. One query."""
    runs: Any = kind.run_model
    newest = runs.objects.filter(job_id=job_id, status=RunStatus.SUCCEEDED).order_by("-queued_at")
    spans = newest.values_list("started_at", "finished_at")[:NEWEST]
    return percentile([finished - started for started, finished in spans if started and finished], SHARE)


def percentile(values: Sequence[timedelta], share: int) -> timedelta | None:
    """The smallest of the values that `share` percent of them do not exceed; None of none."""
    return sorted(values)[-(-len(values) * share // 100) - 1] if values else None
