"""What the commands about cleanups share."""

from __future__ import annotations

from typing import override

from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling.choices import RunOutcome
from scheduling.command import KeepwellCommand, refused, run_mapping, run_text
from scheduling.models import Run
from scheduling.printable import printable

MAX_STOPS = 20


class CleanupCommand(KeepwellCommand):
    """A command that runs a cleanup here. One that a guard stopped is refused, with how to go on."""

    @override
    def _report_run(self, run: Run) -> None:
        if run.outcome != RunOutcome.NEEDS_APPROVAL:
            super()._report_run(run)
            return
        stops = run.result("stops", [])
        self.report(run_mapping(run), "\n".join([run_text(run), *stop_lines(stops)]))
        raise refused(f"{run.job_name}: run {run.pk} stopped at a guard. {_way_on(run, stops)}")


def what_is_in_use(job: MaintenanceJob | None) -> str:
    """Which run keeps the job from starting now, as a sentence; "" when none does."""
    active = MaintenanceRun.objects.filter(job=job).active().first()
    return f"{active.job_name} is already running (run {active.pk})." if active is not None else ""


def stop_lines(stops: list[dict[str, str]]) -> list[str]:
    """The guards in the way, one a line."""
    lines = [f"  stopped: {printable(': '.join(filter(None, (stop['pair'], stop['text']))))}" for stop in stops]
    more = [f"  and {len(lines) - MAX_STOPS:,} more"] if len(lines) > MAX_STOPS else []
    return lines[:MAX_STOPS] + more


def _way_on(run: Run, stops: list[dict[str, str]]) -> str:
    stuck = {stop["pair"] for stop in stops if not stop.get("approvable")}
    if any(stop["pair"] not in stuck for stop in stops):
        return f"Look at it on its page, or run: python manage.py approve_cleanup {run.pk}"
    return "Put right what is named above, then run it again."
