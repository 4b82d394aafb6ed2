from __future__ import annotations

from typing import Any, override

from django.core.management.base import CommandParser

from backups.models import BackupJob, BackupRun, BackupRunTarget
from scheduling.command import KeepwellCommand, unknown_name


class Command(KeepwellCommand):
    help = "Run a backup job now, in this process, and wait for its end. Ctrl-C stops it; nothing half-made is kept."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="the backup job's name")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self.refuse_unprepared_database()
        job = BackupJob.objects.filter(name=options["name"]).first()
        if job is None:
            raise unknown_name("backup job", options["name"], list(BackupJob.objects.values_list("name", flat=True)))
        self.run_job(BackupRun.KIND, job=job, in_use=lambda: what_is_in_use(job))


def what_is_in_use(job: BackupJob) -> str:
    """Which run keeps the job from starting now, as a sentence; "" when none does."""
    active = BackupRun.objects.filter(job=job).active().first()
    if active is not None:
        return f"{job.name} is already running (run {active.pk})."
    attempt = BackupRunTarget.objects.filter(active=True, target__in=job.targets.all()).select_related("run").first()
    if attempt is not None:
        return f"{attempt.target_name} is being backed up by {attempt.run.job_name} (run {attempt.run_id})."
    return ""
