from __future__ import annotations

from backups.models.audit import AuditAction, AuditEntry
from backups.models.backup import Backup
from backups.models.job import BackupJob, BackupJobTarget
from backups.models.options import Options
from backups.models.protection import Hold, Lease, LeasePurpose
from backups.models.run import BackupRun, BackupRunLogLine, BackupRunTarget, BackupRunText
from backups.models.storage import Storage
from backups.models.target import Target

__all__ = [
    "AuditAction",
    "AuditEntry",
    "Backup",
    "BackupJob",
    "BackupJobTarget",
    "BackupRun",
    "BackupRunLogLine",
    "BackupRunTarget",
    "BackupRunText",
    "Hold",
    "Lease",
    "LeasePurpose",
    "Options",
    "Storage",
    "Target",
]
