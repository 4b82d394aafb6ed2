"""Makes jobs and records runs of them, in a process of its own: `python -m tests.hosts.feeder RUNS [QUEUE...]`.

Jobs share targets, so that runs are in each other's way. Prints how many runs it recorded.
"""

from __future__ import annotations

import random
import sys
import time

import django

django.setup()

from backups.models import BackupJob, BackupJobTarget, BackupRun, Storage, Target  # noqa: E402 - only after the set-up
from maintenance.models import MaintenanceJob, MaintenanceRun  # noqa: E402
from scheduling.choices import RunTrigger  # noqa: E402
from scheduling.dispatch import scheduled_dispatch  # noqa: E402

RUN_MODELS = (BackupRun, MaintenanceRun)
JOBS = 48
TARGETS = 40
CHORES = 16
SECONDS = 0.06


def make_jobs(queues: list[str]) -> list[tuple[str, int]]:
    storage = Storage.objects.create(name="nas", path="/nowhere")
    targets = [Target.objects.create(name=f"target {n}", config={"paths": [f"/{n}"]}) for n in range(TARGETS)]
    jobs: list[tuple[str, int]] = []
    for number in range(JOBS):
        job = BackupJob.objects.create(name=f"job {number}", storage=storage, queue=queues[number % len(queues)])
        for target in random.sample(targets, random.choice((1, 1, 2))):
            BackupJobTarget.objects.create(job=job, target=target)
        jobs.append(("backup", job.pk))
    for number in range(CHORES):
        chore = MaintenanceJob.objects.create(
            key=f"chore_{number}", name=f"chore {number}", job_type="purge_trash", queue=queues[number % len(queues)]
        )
        jobs.append(("maintenance", chore.pk))
    return jobs


def those_that_wait() -> set[tuple[str, int]]:
    queued = [(run_model.KIND, run_model.objects.queued().values_list("job", flat=True)) for run_model in RUN_MODELS]
    return {(kind, job_id) for kind, job_ids in queued for job_id in job_ids}


def feed(wanted: int, jobs: list[tuple[str, int]]) -> int:
    recorded: set[tuple[str, int]] = set()
    while len(recorded) < wanted:
        before, waiting = len(recorded), those_that_wait()
        for kind, job_id in random.sample(jobs, len(jobs)):
            if len(recorded) < wanted and (kind, job_id) not in waiting:
                # The same for each, so that a request while one waits gives back the one that waits.
                run = scheduled_dispatch(kind, job_id, trigger=RunTrigger.MANUAL, params={"seconds": SECONDS})
                assert run is not None
                recorded.add((kind, run.pk))
        if len(recorded) == before:
            time.sleep(0.05)
    return len(recorded)


if __name__ == "__main__":
    sys.stdout.write(f"{feed(int(sys.argv[1]), make_jobs(sys.argv[2:] or ['']))}\n")
