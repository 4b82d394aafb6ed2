"""How a backup run is recorded and carried out."""

from __future__ import annotations

import traceback
from collections.abc import Hashable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db.models import Count, Max, QuerySet
from django.utils import timezone

from backups.archive import Stopped, write_archive
from backups.choices import AttemptStatus
from backups.models import BackupJob, BackupJobTarget, BackupRun, BackupRunLogLine, BackupRunTarget, Options
from backups.services.catalogue import backup_register
from backups.services.epochs import storage_changing
from backups.services.recovery import attempts_settle, backups_recover
from backups.services.storages import storage_backend
from backups.sources import SOURCES, SourceError
from backups.storage import ArtifactName, Sidecar, StorageError, folder_slug, new_uid
from scheduling.choices import RunOutcome
from scheduling.context import RunContext, RunFailedError, RunResult, RunStoppedError
from scheduling.dispatch import dispatch_run
from scheduling.items import ScheduledItem
from scheduling.models import Run
from scheduling.registry import RunKind, register_kind
from scheduling.units import binary_size, counted

COMPRESSION_SUFFIX = ".zst"
DONE = (AttemptStatus.SUCCEEDED, AttemptStatus.WARNING)


def execute_backup_job(job_id: int, *, inline: bool = True, **request: Any) -> Run | None:
    """Record a run of a backup job and, when `inline`, run it to its end here; None when there is no such job."""
    job = BackupJob.objects.filter(pk=job_id).first()
    if job is None:
        return None
    return dispatch_run(
        kind_name=BackupRun.KIND,
        job=job,
        job_name=job.name,
        item=ScheduledItem.from_backup_job(job),
        inline=inline,
        **request,
    )


def perform_backup(run: BackupRun, context: RunContext) -> RunResult:
    """Back up every target of the run.

    One that fails does not keep the others from being tried; the run is then failed.
    """
    job = run.job
    if job is None:
        raise RunFailedError(f"{run.job_name} was deleted before this run started. Nothing was backed up.")
    attempts = list(run.attempts.select_related("target"))
    if not attempts:
        raise RunFailedError(f"{run.job_name} has no targets. Edit the job and choose what it protects.")
    for attempt in attempts:
        context.checkpoint()
        _attempt(run, job, attempt, context)
    return _result(run)


def _attempt(run: BackupRun, job: BackupJob, attempt: BackupRunTarget, context: RunContext) -> None:
    try:
        _back_up(run, job, attempt, context)
    except (Stopped, RunStoppedError):
        _end(attempt, AttemptStatus.CANCELLED, f"{attempt.target_name} was stopped before it was done.", context.now())
        raise RunStoppedError from None
    except (SourceError, StorageError) as error:
        message = f"{attempt.target_name} was not backed up: {error}"
        context.error(message)
        _end(attempt, AttemptStatus.FAILED, message, context.now())
    except Exception as error:  # noqa: BLE001 - one target's surprise must not keep the others from being backed up
        context.error(traceback.format_exc())
        message = f"{attempt.target_name} was not backed up: unexpected {type(error).__name__}, see the log."
        _end(attempt, AttemptStatus.FAILED, message, context.now())


def _back_up(run: BackupRun, job: BackupJob, attempt: BackupRunTarget, context: RunContext) -> None:
    target = attempt.target
    if target is None:
        raise SourceError("the target was deleted after this run was recorded.")
    source = SOURCES[target.source]
    context.info(f"{target.name}: backing up to {job.storage.name}.")
    with storage_backend(job.storage).open() as storage, storage_changing(storage=job.storage, handle=storage):
        name = ArtifactName(
            folder=folder_slug(target.name),
            created=context.now().replace(microsecond=0),
            uid=new_uid(),
            suffix=source.SUFFIX + COMPRESSION_SUFFIX,
        )
        _announce(attempt, job, name, context.now())
        with storage.stage(name, run.pk, run.fence) as staged:
            with source.open(
                target.config, log=context.log, stop=context.stop, forbidden=[Path(job.storage.path)]
            ) as stream:
                written = write_archive(stream, staged.file, stop=context.stop)
            summary = stream.summary.to_mapping()
            if not int(summary.get("files", 0)):
                raise SourceError(
                    f"nothing in {', '.join(target.paths)} is left to back up. Check its paths and exclude patterns."
                )
            staged.publish(
                Sidecar(
                    name=name,
                    target=target.name,
                    kind=target.source,
                    job=run.job_name,
                    run=str(run.pk),
                    size=written.size,
                    sha256=written.sha256,
                    summary=summary,
                ).to_mapping()
            )
    warnings = int(summary.get("warnings", 0))
    message = (
        f"{target.name}: {counted(int(summary['files']), 'file')}, {binary_size(written.stream_bytes)} read, "
        f"{binary_size(written.size)} stored."
    )
    if warnings:
        message += f" {counted(warnings, 'warning')}, see the log."
    backup = backup_register(
        attempt=attempt,
        size=written.size,
        sha256=written.sha256,
        summary=summary,
        message=message,
        status=AttemptStatus.WARNING if warnings else AttemptStatus.SUCCEEDED,
        now=context.now(),
    )
    context.log("warning" if attempt.status == AttemptStatus.WARNING else "info", attempt.message)
    context.info(f"{target.name}: stored as {backup.artifact.relative}, sha256 {backup.sha256}.")


def _announce(attempt: BackupRunTarget, job: BackupJob, name: ArtifactName, now: datetime) -> None:
    """Write down which artifact is about to be made, before its first byte, so that a crash leaves nothing unknown."""
    attempt.storage = job.storage
    attempt.uid, attempt.folder, attempt.suffix, attempt.stamped_at = name.uid, name.folder, name.suffix, name.created
    attempt.status, attempt.unsettled, attempt.started_at = AttemptStatus.RUNNING, True, now
    # These alone: the target may have been deleted since the run claimed it, and its key is not to be written back.
    attempt.save(
        update_fields=["storage", "uid", "folder", "suffix", "stamped_at", "status", "unsettled", "started_at"]
    )


def _end(attempt: BackupRunTarget, status: AttemptStatus, message: str, now: datetime) -> None:
    BackupRunTarget.objects.filter(pk=attempt.pk).update(status=status, message=message, finished_at=now)
    attempt.refresh_from_db()
    if attempt.unsettled:
        attempts_settle([attempt])


def _result(run: BackupRun) -> RunResult:
    attempts = list(run.attempts.all())
    backups = list(run.backups.all())
    failed = [attempt for attempt in attempts if attempt.status not in DONE]
    warned = [attempt for attempt in attempts if attempt.status == AttemptStatus.WARNING]
    files = sum(backup.entries for backup in backups)
    stored_bytes = sum(backup.size for backup in backups)
    figures = {
        "targets_processed": len(attempts),
        "succeeded_count": len(attempts) - len(failed),
        "failed_count": len(failed),
        "warning_count": sum(int(attempt.summary.get("warnings", 0)) for attempt in attempts),
        "files": files,
        "source_bytes": sum(backup.source_bytes for backup in backups),
        "stored_bytes": stored_bytes,
        "backups": [backup.uid for backup in backups],
    }
    if failed:
        message = (
            failed[0].message
            if len(failed) == 1
            else f"{len(failed)} of {len(attempts)} targets were not backed up. {failed[0].message}"
        )
        return RunResult(message=message, figures=figures, failed=True)
    if len(attempts) == 1:
        message = attempts[0].message
    else:
        message = f"{len(attempts)} targets backed up: {counted(files, 'file')}, {binary_size(stored_bytes)} stored."
    return RunResult(message=message, figures=figures, outcome=RunOutcome.WARNING if warned else RunOutcome.OK)


def _claim(run: BackupRun) -> None:
    """Take the run's targets; the constraint refuses a target that another run is at."""
    if run.job is None:
        return
    BackupRunTarget.objects.bulk_create(
        [
            BackupRunTarget(run=run, target=target, target_name=target.name, storage=run.job.storage)
            for target in run.job.targets.order_by("name")
        ]
    )


def _ready(queued: QuerySet[BackupRun]) -> QuerySet[BackupRun]:
    """Leave out the runs whose targets another run is at: tried again and again, they would keep others waiting."""
    taken = BackupRunTarget.objects.filter(active=True).values("target")
    return queued.exclude(job__in=BackupJobTarget.objects.filter(target__in=taken).values("job"))


def _release(run: BackupRun) -> None:
    """Give the targets back; attempts that the run did not end are ended with it."""
    ended = BackupRun.objects.get(pk=run.pk)
    status = AttemptStatus.LOST if ended.status == "lost" else AttemptStatus.CANCELLED
    unfinished = (AttemptStatus.PENDING, AttemptStatus.RUNNING)
    run.attempts.filter(status__in=unfinished).update(status=status, message=ended.message, finished_at=timezone.now())
    run.attempts.update(active=False)


def _items() -> Iterator[ScheduledItem]:
    zone = Options.load().timezone
    for job in BackupJob.objects.only("name", "schedule", "timezone", "enabled").order_by().iterator():
        job.timezone = job.timezone or zone
        yield ScheduledItem.from_backup_job(job)


def _revision() -> Hashable:
    jobs = BackupJob.objects.aggregate(count=Count("pk"), newest=Max("updated_at"))
    return (jobs["count"], jobs["newest"], Options.objects.values_list("timezone", flat=True).first())


def register() -> None:
    """Make backup runs known to the scheduler."""
    register_kind(
        RunKind(
            kind=BackupRun.KIND,
            label="Backup",
            run_model=BackupRun,
            log_model=BackupRunLogLine,
            execute=execute_backup_job,
            perform=perform_backup,
            claim=_claim,
            release=_release,
            recover=backups_recover,
            ready=_ready,
            items=_items,
            revision=_revision,
            figures_template="backups/run_figures.html",
            may_retry=lambda _run: True,
            view_permission="backups.view_backuprun",
            run_permission="backups.run_backupjob",
        )
    )
