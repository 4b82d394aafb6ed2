"""A real scheduler or worker whose runs do nothing but write down, outside the database, when they were at work:
`python -m tests.chaos.witness run_scheduler|run_worker [arguments]`, told by the environment:

WITNESS_FILE where to write; WITNESS_SECONDS from and to how long a run takes, such as 0.1,0.5; WITNESS_FAILS which
share of them fails; WITNESS_DIES `before` or `after`: kill this process where a fire has become due and is not
recorded yet, or is and the clock's store does not know yet.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from dataclasses import replace
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402

from scheduling import dispatch  # noqa: E402
from scheduling.clock import ScheduleStore  # noqa: E402
from scheduling.context import RunContext, RunFailedError, RunResult  # noqa: E402
from scheduling.registry import all_kinds, register_kind  # noqa: E402

LINES = os.open(os.environ["WITNESS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
SHORTEST, LONGEST = map(float, os.environ.get("WITNESS_SECONDS", "0,0").split(","))
FAILS = float(os.environ.get("WITNESS_FAILS", "0"))


def note(what: str, run: Any) -> None:
    line = f"{time.monotonic_ns()} {what} {run.kind}:{run.job_id} {run.pk} {os.getpid()}\n"
    os.write(LINES, line.encode())


def perform(run: Any, context: RunContext) -> RunResult:
    note("start", run)
    until = time.monotonic() + random.uniform(SHORTEST, LONGEST)
    try:
        while time.monotonic() < until:
            context.checkpoint()
            note("step", run)
            time.sleep(0.05)
        if random.random() < FAILS:
            raise RunFailedError("It was to fail.")
    finally:
        note("end", run)
    return RunResult(message="Witnessed.")


def die(*_args: Any, **_kwargs: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    for kind in all_kinds():
        register_kind(replace(kind, perform=perform, may_retry=lambda _run: True))
    match os.environ.get("WITNESS_DIES"):
        case "before":
            dispatch.run_record = die
        case "after":
            ScheduleStore.update_job = die
    call_command(*sys.argv[1:])


if __name__ == "__main__":
    main()
