from __future__ import annotations

from scheduling.models.job import Job, job_constraints
from scheduling.models.run import LogLine, Run, run_constraints, run_indexes
from scheduling.models.state import ClockAnchor, Host, Pause, SchedulerState
from scheduling.models.text import RunText

__all__ = [
    "ClockAnchor",
    "Host",
    "Job",
    "LogLine",
    "Pause",
    "Run",
    "RunText",
    "SchedulerState",
    "job_constraints",
    "run_constraints",
    "run_indexes",
]
