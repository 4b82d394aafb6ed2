from __future__ import annotations

from maintenance.models.job import MaintenanceJob
from maintenance.models.plan import CleanupPlan, CleanupPlanPair
from maintenance.models.run import MaintenanceRun, MaintenanceRunLogLine, MaintenanceRunText

__all__ = [
    "CleanupPlan",
    "CleanupPlanPair",
    "MaintenanceJob",
    "MaintenanceRun",
    "MaintenanceRunLogLine",
    "MaintenanceRunText",
]
