"""How a backup run is recorded and carried out."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from backups.archive import Stopped, write_archive
from backups.choices import AttemptStatus
from backups.models import (
    Backup,
    BackupJob,
    BackupJobTarget,
    BackupRun,
    BackupRunLogLine,
    BackupRunTarget,
    Target,
)
from backups.services.catalogue import backup_register
from backups.services.epochs import storage_changing
from backups.services.job_rows import jobs_in_zones, jobs_revision
from backups.services.recovery import attempts_settle, backups_recover
from backups.services.shared_schedules import shared_schedules
from backups.services.storages import storage_backend
from backups.services.taken import taken_targets
from backups.sources import SOURCES, SourceError
from backups.storage import ArtifactName, Sidecar, StorageError, folder_slug, new_uid
from scheduling.choices import RunOutcome
from scheduling.context import RunContext, RunFailedError, RunResult, RunStoppedError
from scheduling.dispatch import dispatch_run
from scheduling.fencing import Fence, RunFence
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
    for number, attempt in enumerate(attempts, start=1):
        step = f"Backing up {attempt.target_name}"
        if len(attempts) > 1:
            step += f" ({number} of {len(attempts)})"
        try:
            context.checkpoint()
            _attempt(run, job, attempt, step, context)
        except RunStoppedError:
            raise RunStoppedError(_figures(run), done=_done_until_then(run, len(attempts))) from None
    return _result(run)


def _attempt(run: BackupRun, job: BackupJob, attempt: BackupRunTarget, step: str, context: RunContext) -> None:
    try:
        _back_up(run, job, attempt, step, context)
    except (Stopped, RunStoppedError):
        _end(attempt, AttemptStatus.CANCELLED, f"{attempt.target_name} was stopped before it was done.", context)
        raise RunStoppedError from None
    except (SourceError, StorageError) as error:
        message = f"{attempt.target_name} was not backed up: {error}"
        context.error(message)
        _fail(attempt, message, context)
    except Exception as error:  # noqa: BLE001 - one target's surprise must not keep the others from being backed up
        context.error(traceback.format_exc())
        message = f"{attempt.target_name} was not backed up: unexpected {type(error).__name__}, see the log."
        _fail(attempt, message, context)


def _fail(attempt: BackupRunTarget, message: str, context: RunContext) -> None:
    """End an attempt as failed, or as stopped: what is ended under it looks like a failure, too."""
    stopped = context.stop.is_set()
    _end(attempt, AttemptStatus.CANCELLED if stopped else AttemptStatus.FAILED, message, context)
    if stopped:
        raise RunStoppedError


def _back_up(run: BackupRun, job: BackupJob, attempt: BackupRunTarget, step: str, context: RunContext) -> None:
    fence = RunFence(context=context)
    target = attempt.target
    if target is None:
        raise SourceError("the target was deleted after this run was recorded.")
    source = SOURCES[target.source]
    context.info(f"{target.name}: backing up to {job.storage.name}.")
    context.progress.update(step=step, bytes=0, files=0, **_expected(job, target))
    with storage_backend(job.storage).open() as storage, storage_changing(storage=job.storage, handle=storage):
        name = ArtifactName(
            folder=folder_slug(target.name),
            created=context.now().replace(microsecond=0),
            uid=new_uid(),
            suffix=source.SUFFIX + COMPRESSION_SUFFIX,
        )
        _announce(attempt, job, name, fence, context.now())
        with storage.stage(name, run.pk, run.fence) as staged:
            with (
                source.open(
                    target.config,
                    log=context.log,
                    stop=context.stop,
                    children=context.stop.child_group,
                    forbidden=[Path(job.storage.path)],
                ) as stream,
                context.progress.following(lambda: {"bytes": stream.bytes_read, "files": stream.files_read}),
            ):
                written = write_archive(stream, staged.file, stop=context.stop)
            summary = stream.summary.to_mapping()
            if not int(summary.get("files", 0)):
                raise SourceError(
                    f"nothing in {', '.join(target.paths)} is left to back up. Check its paths and exclude patterns."
                )
            staged.sync()
            context.checkpoint()
            # From here on it takes a moment: what would be another's by now has to be seen before, not after.
            fence.confirm()
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
        fence=fence,
    )
    context.log("warning" if attempt.status == AttemptStatus.WARNING else "info", attempt.message)
    context.info(f"{target.name}: stored as {backup.artifact.relative}, sha256 {backup.sha256}.")


def _expected(job: BackupJob, target: Target) -> dict[str, int | bool]:
    """How much there will be to read, going by the newest good copy of the same pair."""
    last = Backup.objects.of_pair(job.pk, target.pk).good().order_by("-created_at").first()
    if last is None or not last.source_bytes:
        return {}
    return {"bytes_total": last.source_bytes, "files_total": last.entries, "estimated": True}


def _announce(attempt: BackupRunTarget, job: BackupJob, name: ArtifactName, fence: Fence, now: datetime) -> None:
    """Write down which artifact is about to be made, before its first byte, so that a crash leaves nothing unknown."""
    attempt.storage = job.storage
    attempt.uid, attempt.folder, attempt.suffix, attempt.stamped_at = name.uid, name.folder, name.suffix, name.created
    attempt.status, attempt.unsettled, attempt.started_at = AttemptStatus.RUNNING, True, now
    with transaction.atomic():
        fence.hold()
        # These alone: the target may have been deleted since the run claimed it, and its key is not to be written back.
        attempt.save(
            update_fields=["storage", "uid", "folder", "suffix", "stamped_at", "status", "unsettled", "started_at"]
        )


def _end(attempt: BackupRunTarget, status: AttemptStatus, message: str, context: RunContext) -> None:
    """End an attempt and clear away what it left; one of a run that was called lost is recovery's to end."""
    with transaction.atomic():
        RunFence(context=context).hold()
        BackupRunTarget.objects.filter(pk=attempt.pk).update(
            status=status, message=context.run_log.clean(message), finished_at=context.now()
        )
    attempt.refresh_from_db()
    if attempt.unsettled:
        attempts_settle([attempt])


def _figures(run: BackupRun) -> dict[str, Any]:
    attempts = [attempt for attempt in run.attempts.all() if attempt.status != AttemptStatus.PENDING]
    backups = list(run.backups.all())
    return {
        "targets_processed": len(attempts),
        "succeeded_count": sum(attempt.status in DONE for attempt in attempts),
        "failed_count": sum(attempt.status == AttemptStatus.FAILED for attempt in attempts),
        "warning_count": sum(int(attempt.summary.get("warnings", 0)) for attempt in attempts),
        "files": sum(backup.entries for backup in backups),
        "source_bytes": sum(backup.source_bytes for backup in backups),
        "stored_bytes": sum(backup.size for backup in backups),
        "backups": [backup.uid for backup in backups],
    }


def _done_until_then(run: BackupRun, total: int) -> str:
    """What a run of several targets has to show when it is stopped; "" for nothing."""
    done = run.attempts.filter(status__in=DONE).count()
    if not done:
        return ""
    return f"{done} of {counted(total, 'target')} had been backed up until then. Nothing half-made was kept."


def _result(run: BackupRun) -> RunResult:
    attempts = list(run.attempts.all())
    failed = [attempt for attempt in attempts if attempt.status not in DONE]
    warned = [attempt for attempt in attempts if attempt.status == AttemptStatus.WARNING]
    figures = _figures(run)
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
        message = f"{len(attempts)} targets backed up: {counted(figures['files'], 'file')}, "
        message += f"{binary_size(figures['stored_bytes'])} stored."
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
    return map(ScheduledItem.from_backup_job, jobs_in_zones(BackupJob, "name", "schedule"))


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
            revision=lambda: jobs_revision(BackupJob),
            figures_template="backups/run_figures.html",
            may_retry=lambda _run: True,
            view_permission="backups.view_backuprun",
            run_permission="backups.run_backupjob",
            taken=taken_targets,
            shared_schedules=shared_schedules,
        )
    )
