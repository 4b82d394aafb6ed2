from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from backups.models import BackupJob, Options, Storage, Target
from maintenance.models import MaintenanceJob


@dataclass(frozen=True, kw_only=True)
class Existing:
    """What the database holds, by name or key."""

    options: Options
    storages: dict[str, Storage]
    targets: dict[str, Target]
    backup_jobs: dict[str, BackupJob]
    maintenance_jobs: dict[str, MaintenanceJob]

    @classmethod
    def load(cls) -> Self:
        """A handful of queries, however many rows there are."""
        jobs = BackupJob.objects.select_related("storage").prefetch_related("targets")
        return cls(
            options=Options.load(),
            storages={storage.name: storage for storage in Storage.objects.all()},
            targets={target.name: target for target in Target.objects.all()},
            backup_jobs={job.name: job for job in jobs},
            maintenance_jobs={job.key: job for job in MaintenanceJob.objects.all()},
        )
