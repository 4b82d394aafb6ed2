from __future__ import annotations

import zlib
from typing import Any, override

from django.core.management.base import CommandParser

from maintenance.models import MaintenanceRun
from maintenance.plans import Replayed, run_replay
from scheduling.command import MAX_LISTED, KeepwellCommand, bad_input, failed
from scheduling.printable import printable


class Command(KeepwellCommand):
    help = (
        "Decide anew what a cleanup decided, from the inputs that it stored, and compare every verdict and reason. "
        "Nothing is changed."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run", help="the number of the cleanup's run")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self.refuse_unprepared_database()
        text = options["run"]
        number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else 0
        run = MaintenanceRun.objects.filter(pk=number).first()
        if run is None:
            raise bad_input(f"There is no maintenance run {printable(text)[:100]}.")
        if not run.plans.exists():
            raise bad_input(f"Run {run.pk} stored no plan, so there is nothing to decide anew.")
        try:
            replayed = run_replay(run)
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise failed(f"The stored plan of run {run.pk} cannot be read: {type(error).__name__}: {error}") from error
        differing = [pair for pair in replayed if pair.differences]
        value = {
            "run": run.pk,
            "same": not differing,
            "pairs": [
                {"pair": pair.label, "copies": pair.copies, "differences": list(pair.differences)} for pair in replayed
            ],
        }
        self.report(value, replay_text(replayed))
        if differing:
            raise failed(f"{len(differing):,} of {len(replayed):,} pairs of run {run.pk} come out differently.")


def replay_text(replayed: list[Replayed]) -> str:
    """How each pair came out, for a terminal."""
    lines = []
    for pair in replayed:
        verdict = "differently" if pair.differences else "the same"
        copies = f"{pair.copies:,} {'copy' if pair.copies == 1 else 'copies'}"
        lines.append(f"{printable(pair.label)}: {copies}, decided {verdict}")
        lines += [f"  {printable(text)}" for text in pair.differences[:MAX_LISTED]]
        if len(pair.differences) > MAX_LISTED:
            lines.append(f"  and {len(pair.differences) - MAX_LISTED:,} more differences")
    return "\n".join(lines) or "The plan was of no pair."
