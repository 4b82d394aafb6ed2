from __future__ import annotations

from maintenance.models.job import MaintenanceJob
from maintenance.models.run import MaintenanceRun, MaintenanceRunLogLine

__all__ = ["MaintenanceJob", "MaintenanceRun", "MaintenanceRunLogLine"]
