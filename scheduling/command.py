"""What Keepwell's commands share: their exit status, `--json`, and running a job to its end in this process."""

from __future__ import annotations

import difflib
import json
import os
import pwd
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import Any, override

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor

from scheduling.choices import RunOutcome, RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.hosts import SecondHostError, host_leaving, hosts_refuse_second
from scheduling.keeper import Keeper
from scheduling.ledger import run_cancel_queued, runs_recover
from scheduling.models import Run
from scheduling.printable import printable
from scheduling.registry import RunKind, get_kind

MAX_NAMES = 20
MAX_LISTED = 20
FOLLOW_SECONDS = 0.5


class ExitStatus(IntEnum):
    """What a command's exit status means, everywhere."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    REFUSED = 3


def failed(message: str) -> CommandError:
    """The work was tried and did not end well."""
    return CommandError(message, returncode=ExitStatus.FAILED)


def bad_input(message: str) -> CommandError:
    """What was asked for makes no sense; nothing was done."""
    return CommandError(message, returncode=ExitStatus.BAD_INPUT)


def refused(message: str) -> CommandError:
    """A guard said no; the message names it and says how to go on."""
    return CommandError(message, returncode=ExitStatus.REFUSED)


def unknown_name(what: str, name: str, names: Sequence[str]) -> CommandError:
    """Bad input: there is no `what` called `name`. Lists what there is (at most `MAX_NAMES`) and the closest match."""
    known = sorted(names)
    message = f"There is no {what} called “{printable(name)[:100]}”."
    if close := difflib.get_close_matches(name, known, n=1):
        message += f" Did you mean “{close[0]}”?"
    if not known:
        return bad_input(f"{message} There is none at all yet.")
    more = f", and {len(known) - MAX_NAMES} more" if len(known) > MAX_NAMES else ""
    return bad_input(f"{message} There are: {', '.join(known[:MAX_NAMES])}{more}.")


def sentences(error: ValidationError) -> str:
    """A service's refusal as one line of text."""
    return " ".join(error.messages)


class KeepwellCommand(BaseCommand):
    """A command over the services. Reports as text or, with `--json`, as one JSON object.

    Reports go to stdout, everything said on the way and every error to stderr.
    """

    # The checks load every page, which takes half of such a command's time; `make check` and the web process run them.
    requires_system_checks = []
    as_json = False

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", dest="as_json", help="report as one JSON object on stdout")

    @override
    def execute(self, *args: Any, **options: Any) -> str | None:
        self.as_json = bool(options.get("as_json"))
        return super().execute(*args, **options)

    def refuse_unprepared_database(self) -> None:
        """Refuse to work on tables of another version, or on none."""
        executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise refused(
                "The database is not prepared for this version of Keepwell. "
                "Run “python manage.py migrate” (“make run” does it at its start), then try again."
            )

    def report(self, value: dict[str, Any], text: str) -> None:
        """Print the outcome: `value` with `--json`, else `text`."""
        self.stdout.write(json.dumps(value, indent=2, default=str) if self.as_json else text)

    def say(self, text: str) -> None:
        """Something for the person who is waiting; nothing with `--json`."""
        if not self.as_json:
            self.stderr.write(text, self.style.NOTICE)
            self.stderr.flush()

    def echo(self, level: str, text: str) -> None:
        """Show a log line while the work goes on."""
        self.say(text if level == "info" else f"{level}: {text}")

    def run_job(
        self,
        kind_name: str,
        *,
        job: Any,
        params: dict[str, Any] | None = None,
        in_use: Callable[[], str],
    ) -> None:
        """Run a job here and report how it ended. Raises CommandError unless it succeeded.

        `in_use` says in a sentence what keeps the job from running now. A run that cannot start is cancelled rather
        than left waiting: a command that has returned must not leave something that starts later.
        """
        kind = get_kind(kind_name)
        try:
            hosts_refuse_second()
        except SecondHostError as error:
            raise refused(str(error)) from error
        runs_recover()
        model: Any = kind.run_model
        waiting: Run | None = model.objects.filter(job=job).queued().first()
        if waiting is not None and waiting.params != (params or {}):
            raise refused(
                f"Another run of {job} is waiting (run {waiting.pk}) and asks for something else. "
                "Let it run or cancel it on its page, then try again."
            )
        with stop_on_signals(self.say) as stop, host_leaving(), Keeper():
            run = scheduled_dispatch(
                kind_name,
                job.pk,
                inline=True,
                trigger=RunTrigger.COMMAND,
                requested_by=system_user(),
                params=params,
                echo=None if self.as_json else self.echo,
                stop=stop,
            )
            if run is None:
                raise bad_input(f"{job} was deleted just now. Nothing was run.")
            if run.status == RunStatus.QUEUED:
                run = self._give_up(kind, run, is_own=waiting is None or waiting.pk != run.pk, in_use=in_use)
            run = self._follow(kind, run, stop)
        self._report_run(run)

    def _give_up(self, kind: RunKind, run: Run, *, is_own: bool, in_use: Callable[[], str]) -> Run:
        reason = in_use() or f"what {run.job_name} needs is in use by another run."
        if not is_own:
            raise refused(f"Not run: {reason} Run {run.pk}, which was waiting before, still waits for the scheduler.")
        if run_cancel_queued(kind=kind, run_id=run.pk, message=f"Not started: {reason}"):
            raise refused(f"Not run: {reason} Nothing was left waiting. Try again when that has ended.")
        return self._again(kind, run)

    def _follow(self, kind: RunKind, run: Run, stop: threading.Event) -> Run:
        """Wait for a run that the scheduler took before this process could."""
        if run.is_active:
            self.say(f"The scheduler took run {run.pk} and runs it; waiting for its end.")
        while run.is_active:
            if stop.wait(FOLLOW_SECONDS):
                raise failed(f"Run {run.pk} goes on in the scheduler process. Cancel it on its page to stop it.")
            runs_recover()
            run = self._again(kind, run)
        return run

    @staticmethod
    def _again(kind: RunKind, run: Run) -> Run:
        model: Any = kind.run_model
        found: Run = model.objects.get(pk=run.pk)
        return found

    def _report_run(self, run: Run) -> None:
        self.report(run_mapping(run), run_text(run))
        if run.status != RunStatus.SUCCEEDED:
            raise failed(f"{run.job_name}: run {run.pk} {run.status}.")
        if run.outcome == RunOutcome.NEEDS_APPROVAL:
            raise refused(f"{run.job_name}: run {run.pk} needs approval. Read its reasons above, then approve it.")


def run_mapping(run: Run) -> dict[str, Any]:
    """A run as `--json` prints it; times in ISO 8601, UTC."""
    return {
        "id": run.pk,
        "kind": run.kind,
        "job": run.job_name,
        "status": str(run.status),
        "outcome": str(run.outcome),
        "message": run.message,
        "result": run.result_json,
        "queued_at": run.queued_at.isoformat(),
        "started_at": run.started_at.isoformat() if run.started_at else None,
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
    }


def run_text(run: Run) -> str:
    """How a run ended, for a terminal."""
    took = f" in {run.duration.total_seconds():.1f} s" if run.duration is not None else ""
    lines = [f"{run.job_name}: {run.get_status_display().lower()}{took} (run {run.pk})", run.message]
    return "\n".join([*lines, *figure_lines(run.result_json)])


def figure_lines(figures: dict[str, Any]) -> list[str]:
    """The figures of a result, one a line; of a list of texts the first `MAX_LISTED`."""
    lines: list[str] = []
    for key, value in figures.items():
        label = key.replace("_", " ")
        if isinstance(value, int):
            lines.append(f"  {label}: {value:,}")
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            lines.append(f"  {label}:")
            lines += [f"    {printable(item)}" for item in value[:MAX_LISTED]]
            if len(value) > MAX_LISTED:
                lines.append(f"    and {len(value) - MAX_LISTED:,} more")
    return lines


def system_user() -> str:
    """The name of the operating system's user who runs this process, or its number."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


@contextmanager
def stop_on_signals(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C or SIGTERM sets; a second one ends the process. Needs the main thread."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if stop.is_set():
            say("Stopped on request.")
