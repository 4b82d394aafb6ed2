from __future__ import annotations

from typing import Any, override

from django.core.management.base import CommandParser

from scheduling.command import KeepwellCommand, bad_input, refused
from scheduling.engine.delivery import is_queue_name
from scheduling.hosts import SecondHostError
from scheduling.printable import printable
from scheduling.worker_process import WorkerProcess, host_join


class Command(KeepwellCommand):
    help = (
        "Run the queued runs of some queues on this host, without a clock: for every host but the one that “make run” "
        "runs on. Stop it with SIGTERM or Ctrl-C."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--queue",
            action="append",
            default=[],
            metavar="NAME",
            help="a queue to work, once for each (default: KEEPWELL_QUEUES)",
        )
        parser.add_argument("--workers", type=int, default=None, help="runs at a time (default: KEEPWELL_WORKERS, 4)")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        if options["workers"] is not None and options["workers"] < 1:
            raise bad_input("--workers takes a whole number from 1.")
        for name in options["queue"]:
            if not is_queue_name(name):
                raise bad_input(
                    f"“{printable(name)[:100]}” is not the name of a queue. "
                    "Use up to 32 letters, digits, hyphens, dots and underscores, such as nas1."
                )
        self.refuse_unprepared_database()
        process = WorkerProcess(size=options["workers"], queues=options["queue"])
        process.stop_on_signals()
        try:
            host_join(process)
        except SecondHostError as error:
            raise refused(str(error)) from error
        process.run()
