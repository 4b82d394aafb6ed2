from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self


class BackupJobLike(Protocol):
    """What the scheduler needs to know of a backup job."""

    pk: int
    name: str
    schedule: str
    enabled: bool

    @property
    def zone_name(self) -> str: ...


class MaintenanceJobLike(Protocol):
    """What the scheduler needs to know of a maintenance job."""

    pk: int
    key: str
    schedule_cron: str
    enabled: bool

    @property
    def zone_name(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class ScheduledItem:
    """A job of either kind as the scheduler sees it: a plain value, with no table of its own.

    `schedule` is a cron expression or "" (never), `timezone` an IANA name.
    """

    kind: str
    job_id: int
    name: str
    schedule: str
    timezone: str
    enabled: bool

    @property
    def id(self) -> str:
        """The id under which the scheduler knows this item, such as `backup:3`."""
        return f"{self.kind}:{self.job_id}"

    @property
    def is_scheduled(self) -> bool:
        return self.enabled and bool(self.schedule.strip())

    @classmethod
    def from_backup_job(cls, job: BackupJobLike) -> Self:
        """The item of a backup job."""
        return cls(
            kind="backup",
            job_id=job.pk,
            name=job.name,
            schedule=job.schedule,
            timezone=job.zone_name,
            enabled=job.enabled,
        )

    @classmethod
    def from_maintenance_job(cls, job: MaintenanceJobLike) -> Self:
        """The item of a maintenance job."""
        return cls(
            kind="maintenance",
            job_id=job.pk,
            name=job.key,
            schedule=job.schedule_cron,
            timezone=job.zone_name,
            enabled=job.enabled,
        )
