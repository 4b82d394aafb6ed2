"""Rows for tests. A factory makes rows only; `real_storage` and the services make real folders and files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from backups.choices import BackupState
from backups.models import (
    AuditAction,
    AuditEntry,
    Backup,
    BackupJob,
    BackupRun,
    BackupRunTarget,
    Hold,
    Lease,
    LeasePurpose,
    Storage,
    Target,
)
from backups.storage import new_uid
from maintenance.choices import JobType, PlanStatus
from maintenance.models import CleanupPlan, MaintenanceJob, MaintenanceRun
from scheduling.choices import RunOutcome, RunStatus, RunTrigger
from scheduling.models import Host


class StorageFactory(DjangoModelFactory[Storage]):
    class Meta:
        model = Storage

    name = factory.Sequence(lambda n: f"storage {n}")
    path = factory.Sequence(lambda n: f"/nowhere/storage-{n}")


class TargetFactory(DjangoModelFactory[Target]):
    class Meta:
        model = Target

    name = factory.Sequence(lambda n: f"target {n}")
    config = factory.Sequence(lambda n: {"paths": [f"/nowhere/target-{n}"], "exclude": []})


class BackupJobFactory(DjangoModelFactory[BackupJob]):
    class Meta:
        model = BackupJob
        skip_postgeneration_save = True

    name = factory.Sequence(lambda n: f"job {n}")
    storage = factory.SubFactory(StorageFactory)
    schedule = "30 2 * * *"

    @factory.post_generation
    def targets(self, create: bool, extracted: list[Target] | None, **_: object) -> None:
        if create:
            self.targets.set(extracted if extracted is not None else [TargetFactory()])


class _RunFactory(DjangoModelFactory):
    class Meta:
        abstract = True

    class Params:
        running = factory.Trait(status=RunStatus.RUNNING, started_at=factory.LazyFunction(timezone.now))
        succeeded = factory.Trait(
            status=RunStatus.SUCCEEDED,
            outcome=RunOutcome.OK,
            started_at=factory.LazyFunction(timezone.now),
            finished_at=factory.LazyFunction(timezone.now),
        )
        failed = factory.Trait(
            status=RunStatus.FAILED,
            message="It did not work. Check the disk, then run again.",
            started_at=factory.LazyFunction(timezone.now),
            finished_at=factory.LazyFunction(timezone.now),
        )

    trigger = RunTrigger.MANUAL
    job_name = factory.LazyAttribute(lambda run: run.job.name if run.job else "a deleted job")


class BackupRunFactory(_RunFactory):
    class Meta:
        model = BackupRun

    job = factory.SubFactory(BackupJobFactory)


class BackupRunTargetFactory(DjangoModelFactory[BackupRunTarget]):
    class Meta:
        model = BackupRunTarget

    run = factory.SubFactory(BackupRunFactory)
    target = factory.SubFactory(TargetFactory)
    target_name = factory.SelfAttribute("target.name")


class BackupFactory(DjangoModelFactory[Backup]):
    """A catalogue row; `pair` of the job's only target unless told otherwise."""

    class Meta:
        model = Backup

    class Params:
        trashed = factory.Trait(state=BackupState.TRASHED, trashed_at=factory.LazyFunction(timezone.now))
        deleted = factory.Trait(
            state=BackupState.DELETED,
            trashed_at=factory.LazyFunction(timezone.now),
            deleted_at=factory.LazyFunction(timezone.now),
        )
        suspect = factory.Trait(suspect_reason="1 B is under half of 1.0 KiB, the copy before it")

    uid = factory.LazyFunction(new_uid)
    job = factory.SubFactory(BackupJobFactory)
    job_name = factory.LazyAttribute(lambda backup: backup.job.name if backup.job else "a deleted job")
    target = factory.LazyAttribute(lambda backup: backup.job.targets.first() if backup.job else None)
    target_name = factory.LazyAttribute(lambda backup: backup.target.name if backup.target else "a deleted target")
    storage = factory.LazyAttribute(lambda backup: backup.job.storage if backup.job else StorageFactory())
    folder = "target"
    suffix = ".tar.zst"
    created_at = factory.Sequence(lambda n: datetime(2026, 1, 1, tzinfo=UTC) + n * timedelta(hours=1))
    size = 1024
    sha256 = "0" * 64
    entries = 3
    source_bytes = 4096


class HoldFactory(DjangoModelFactory[Hold]):
    """A hold on everything unless it is told otherwise."""

    class Meta:
        model = Hold

    note = "until the new disk is in"
    placed_by = "anna"
    placed_at = factory.LazyFunction(timezone.now)


class LeaseFactory(DjangoModelFactory[Lease]):
    """A lease whose process is gone, unless `holder` is a lock that is held."""

    class Meta:
        model = Lease

    backup = factory.SubFactory(BackupFactory)
    purpose = LeasePurpose.RESTORE
    holder = "0" * 24
    taken_at = factory.LazyFunction(timezone.now)


class AuditEntryFactory(DjangoModelFactory[AuditEntry]):
    class Meta:
        model = AuditEntry

    at = factory.LazyFunction(timezone.now)
    action = AuditAction.PIN
    actor = "anna"
    reason = "for ever: tax records"


class MaintenanceJobFactory(DjangoModelFactory[MaintenanceJob]):
    class Meta:
        model = MaintenanceJob

    key = factory.Sequence(lambda n: f"cleanup_{n}")
    name = factory.Sequence(lambda n: f"Cleanup {n}")
    job_type = JobType.RETENTION_CLEANUP
    schedule_cron = "0 3 * * *"


class MaintenanceRunFactory(_RunFactory):
    class Meta:
        model = MaintenanceRun

    job = factory.SubFactory(MaintenanceJobFactory)
    job_key = factory.LazyAttribute(lambda run: run.job.key if run.job else "gone")
    job_type = JobType.RETENTION_CLEANUP


class CleanupPlanFactory(DjangoModelFactory[CleanupPlan]):
    """The plan of a run that a guard stopped, without pairs."""

    class Meta:
        model = CleanupPlan

    status = PlanStatus.WAITING
    digest = "0" * 64
    created_at = factory.LazyFunction(timezone.now)
    run = factory.SubFactory(MaintenanceRunFactory, succeeded=True)


class HostFactory(DjangoModelFactory):
    class Meta:
        model = Host

    host = factory.Sequence(lambda n: f"{n:016x}")
    hostname = factory.Sequence(lambda n: f"nas{n}")
    pid = 1
    started_at = factory.LazyFunction(timezone.now)
    seen_at = factory.LazyFunction(timezone.now)
