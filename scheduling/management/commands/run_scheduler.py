from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from scheduling.command import bad_input, refused
from scheduling.hosts import SecondHostError
from scheduling.scheduler_lock import SchedulerRunningError, scheduler_seat
from scheduling.scheduler_process import SchedulerProcess
from scheduling.worker_process import host_join


class Command(BaseCommand):
    help = (
        "Run the scheduler: fires schedules, starts queued runs, and mends what dead processes left. On PostgreSQL "
        "several may run: one is active, the others stand by. Stop it with SIGTERM or Ctrl-C."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workers", type=int, default=None, help="runs at a time (default: KEEPWELL_WORKERS, 4)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["workers"] is not None and options["workers"] < 1:
            raise bad_input("--workers takes a whole number from 1.")
        try:
            with scheduler_seat() as seat:
                process = SchedulerProcess(size=options["workers"], seat=seat)
                process.stop_on_signals()
                host_join(process)
                process.run()
        except (SchedulerRunningError, SecondHostError) as error:
            raise refused(str(error)) from error
