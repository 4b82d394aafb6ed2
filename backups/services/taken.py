"""What keeps a queued backup run from starting: targets that another run is at."""

from __future__ import annotations

from backups.models import BackupRun, BackupRunTarget
from scheduling.registry import Taken

# A job of hundreds of targets waits for all of them; naming the first few says enough.
MOST = 5


def taken_targets(run: BackupRun) -> list[Taken]:
    """The targets of the run's job that runs of other jobs are at."""
    attempts = (
        BackupRunTarget.objects.filter(active=True, target__jobs=run.job_id)
        .exclude(run__job=run.job_id)
        .select_related("run")
        .order_by("target_name", "pk")
    )
    return [Taken(what=f"target {attempt.target_name}", run=attempt.run) for attempt in attempts[:MOST]]
