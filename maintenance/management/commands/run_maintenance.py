from __future__ import annotations

from typing import Any, override

from django.core.management.base import CommandParser

from backups.models import Backup, BackupJob, Target
from maintenance.choices import JobType
from maintenance.command import CleanupCommand, stop_lines, what_is_in_use
from maintenance.models import MaintenanceJob, MaintenanceRun
from maintenance.running import preview_maintenance_job
from scheduling.command import MAX_LISTED, bad_input, failed, unknown_name
from scheduling.context import RunResult
from scheduling.printable import printable


class Command(CleanupCommand):
    help = "Run a maintenance job now, in this process, and wait for its end; or say what it would do."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("key", help="the maintenance job's key, such as retention_cleanup_nightly")
        parser.add_argument("--dry-run", action="store_true", help="say what would be deleted and why; change nothing")
        parser.add_argument(
            "--job", metavar="NAME", help="with --target: clean up the copies of this job and target alone"
        )
        parser.add_argument(
            "--target", metavar="NAME", help="with --job: clean up the copies of this job and target alone"
        )

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self.refuse_unprepared_database()
        job = MaintenanceJob.objects.filter(key=options["key"]).first()
        if job is None:
            keys = list(MaintenanceJob.objects.values_list("key", flat=True))
            raise unknown_name("maintenance job", options["key"], keys)
        params = pair_params(job, job_name=options["job"], target_name=options["target"])
        if options["dry_run"]:
            self._preview(job, params)
        else:
            self.run_job(MaintenanceRun.KIND, job=job, params=params, in_use=lambda: what_is_in_use(job))

    def _preview(self, job: MaintenanceJob, params: dict[str, int]) -> None:
        result = preview_maintenance_job(job, params)
        value = {
            "dry_run": True,
            "job": job.key,
            "message": result.message,
            "failed": result.failed,
            "result": result.figures,
        }
        self.report(value, preview_text(result))
        if result.failed:
            raise failed("A run now would fail in part; nothing was changed.")


def pair_params(job: MaintenanceJob, *, job_name: str | None, target_name: str | None) -> dict[str, int]:
    """The run's params for one pair, {} without names. Raises CommandError for half a pair and for unknown names."""
    if job_name is None and target_name is None:
        return {}
    if job_name is None or target_name is None:
        raise bad_input("Give both --job and --target for one pair, or neither for all of them.")
    if job.job_type != JobType.RETENTION_CLEANUP:
        raise bad_input(f"{job.key} is not a retention cleanup, so it takes neither --job nor --target.")
    backup_job = BackupJob.objects.filter(name=job_name).first()
    if backup_job is None:
        raise unknown_name("backup job", job_name, list(BackupJob.objects.values_list("name", flat=True)))
    target = Target.objects.filter(name=target_name).first()
    if target is None:
        raise unknown_name("target", target_name, list(Target.objects.values_list("name", flat=True)))
    belongs = backup_job.targets.filter(pk=target.pk).exists()
    if not belongs and not Backup.objects.of_pair(backup_job.pk, target.pk).exists():
        names = ", ".join(backup_job.targets.values_list("name", flat=True))
        raise bad_input(f"{backup_job.name} does not back up {target.name}. Its targets are: {names}.")
    return {"job_id": backup_job.pk, "target_id": target.pk}


def preview_text(result: RunResult) -> str:
    """What a run would delete, pair by pair, each with its reasons, and which guards would stop it."""
    figures = result.figures
    lines = [result.message, *stop_lines(figures.get("stops", []))]
    deletions = figures.get("deletions", [])
    for pair in figures.get("pairs", []):
        lines.append(f"{pair['job']} / {pair['target']}: {pair['deleted']} would be deleted, {pair['kept']} kept")
        for item in deletions:
            if (item["job_id"], item["target_id"]) == (pair["job_id"], pair["target_id"]):
                lines.append(f"  {item['path']} ({item['size']:,} bytes)")
                lines.append(f"    {'; '.join(reason['text'] for reason in item['reasons'])}")
    listed, total = len(deletions), figures.get("deleted_count", 0)
    if total > listed:
        lines.append(f"Only the first {listed:,} of {total:,} are listed.")
    purged = figures.get("purged_paths", [])
    lines += [f"  {path}" for path in purged[:MAX_LISTED]]
    if len(purged) > MAX_LISTED:
        lines.append(f"  and {figures['purged_count'] - MAX_LISTED:,} more")
    lines += [f"Problem: {printable(problem)}" for problem in figures.get("problems", [])]
    lines.append("Nothing was changed.")
    return "\n".join(lines)
