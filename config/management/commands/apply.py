from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, override

from django.core.management.base import CommandParser

from config.configuration import (
    Action,
    Applied,
    ApplyRefusedError,
    Change,
    ConfigurationError,
    UnreadableFileError,
    apply_configuration,
    read_configuration,
)
from scheduling.command import KeepwellCommand, bad_input, refused


class Command(KeepwellCommand):
    help = (
        "Create or update storages, targets, jobs and options from a TOML file. Everything is checked before anything "
        "is written, and applying a file twice changes nothing."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", help="the TOML file")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="also remove jobs, targets and storages that the file does not name; backups are never removed",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would change; change nothing")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self.refuse_unprepared_database()
        path, dry_run = Path(options["file"]), options["dry_run"]
        try:
            raw = read_configuration(path)
            applied = apply_configuration(raw, prune=options["prune"], dry_run=dry_run)
        except UnreadableFileError as error:
            raise bad_input(str(error)) from error
        except ConfigurationError as error:
            if self.as_json:
                self.report({"errors": [asdict(problem) for problem in error.problems]}, "")
            count = len(error.problems)
            what = "1 problem" if count == 1 else f"{count} problems"
            raise bad_input(f"{path} was not applied: {what}, nothing was changed.\n{error}") from error
        except ApplyRefusedError as error:
            raise refused(f"{path} was not applied: {error}") from error
        self.report(applied_mapping(applied, dry_run=dry_run), applied_text(applied, dry_run=dry_run))


def applied_mapping(applied: Applied, *, dry_run: bool) -> dict[str, Any]:
    """The changes by action, as `--json` prints them."""
    return {
        "dry_run": dry_run,
        **{str(action): [_change_mapping(change) for change in applied.of(action)] for action in Action},
    }


def applied_text(applied: Applied, *, dry_run: bool) -> str:
    """The changes for a terminal, unchanged entries as a count."""
    would = "would be " if dry_run else ""
    lines = []
    for action in (Action.CREATED, Action.UPDATED, Action.REMOVED, Action.KEPT):
        for change in applied.of(action):
            detail = ", ".join(change.fields) or change.reason
            prefix = "" if action == Action.KEPT else would
            lines.append(f"{prefix}{action} {_words(change)}{f': {detail}' if detail else ''}")
    if not applied.is_change:
        lines.append("Nothing would change." if dry_run else "Nothing changed.")
    elif dry_run:
        lines.append("Nothing was changed: this was a dry run.")
    lines.append(f"unchanged: {len(applied.of(Action.UNCHANGED))}")
    return "\n".join(lines)


def _words(change: Change) -> str:
    """One entry as people call it: the tables of the file are named for many."""
    noun = change.table.replace("_", " ")
    return noun if change.table == "options" else f"{noun.removesuffix('s')} “{change.name}”"


def _change_mapping(change: Change) -> dict[str, Any]:
    value: dict[str, Any] = {"table": change.table, "name": change.name}
    if change.fields:
        value["fields"] = list(change.fields)
    if change.reason:
        value["reason"] = change.reason
    return value
