from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

from backups.models import BackupJob, Options, Storage, Target
from maintenance.models import MaintenanceJob
from scheduling.job_settings import job_id


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

    @cached_property
    def references(self) -> dict[str, str]:
        """What a file calls each job, by the job's id: `backup:nightly` for `backup:3`."""
        return {
            **{job_id(job): f"{job.KIND}:{name}" for name, job in self.backup_jobs.items()},
            **{job_id(job): f"{job.KIND}:{key}" for key, job in self.maintenance_jobs.items()},
        }

    @cached_property
    def run_after(self) -> dict[str, str]:
        """After which job each job runs, both as a file calls them; "" for none."""
        jobs = [*self.backup_jobs.values(), *self.maintenance_jobs.values()]
        return {self.references[job_id(job)]: self.references.get(job.run_after, "") for job in jobs}
