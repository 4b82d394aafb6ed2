from __future__ import annotations

from backups.models.backup import Backup
from backups.models.job import BackupJob, BackupJobTarget
from backups.models.options import Options
from backups.models.run import BackupRun, BackupRunLogLine, BackupRunTarget
from backups.models.storage import Storage
from backups.models.target import Target

__all__ = [
    "Backup",
    "BackupJob",
    "BackupJobTarget",
    "BackupRun",
    "BackupRunLogLine",
    "BackupRunTarget",
    "Options",
    "Storage",
    "Target",
]
