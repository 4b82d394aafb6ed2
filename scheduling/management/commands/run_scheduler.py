from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scheduling.scheduler_lock import SchedulerRunningError, scheduler_lock
from scheduling.worker import SchedulerProcess


class Command(BaseCommand):
    help = (
        "Run the scheduler: fires schedules, starts queued runs, and mends what dead processes left. "
        "Stop it with SIGTERM or Ctrl-C."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workers", type=int, default=None, help="runs at a time (default: KEEPWELL_WORKERS, 4)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["workers"] is not None and options["workers"] < 1:
            raise CommandError("--workers takes a whole number from 1.", returncode=2)
        try:
            with scheduler_lock():
                process = SchedulerProcess(size=options["workers"])

                def stop(_signal: int, _frame: FrameType | None) -> None:
                    process.stopping.set()

                signal.signal(signal.SIGTERM, stop)
                signal.signal(signal.SIGINT, stop)
                process.run()
        except SchedulerRunningError as error:
            raise CommandError(str(error), returncode=3) from error
