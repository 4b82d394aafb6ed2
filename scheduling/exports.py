"""Runs as files: CSV for spreadsheets, JSON for programs, written row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from scheduling.models import Run

# What a spreadsheet takes for a formula when a cell begins with it.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
COLUMNS = (
    "kind",
    "id",
    "job_id",
    "job_name",
    "status",
    "outcome",
    "trigger",
    "requested_by",
    "cancelled_by",
    "host",
    "attempt",
    "parent_id",
    "scheduled_for",
    "queued_at",
    "started_at",
    "finished_at",
    "duration_seconds",
    "message",
)


def csv_lines(runs: Iterable[Run]) -> Iterator[str]:
    writer = csv.writer(_Line())
    # The mark by which spreadsheets know that it is UTF-8.
    yield "\ufeff" + writer.writerow(COLUMNS)
    for run in runs:
        yield writer.writerow([_cell(value) for value in _values(run).values()])


def json_lines(runs: Iterable[Run]) -> Iterator[str]:
    """One array, one run a line."""
    before = "[\n"
    for run in runs:
        yield before + json.dumps(_values(run), ensure_ascii=False)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


class _Line:
    """A file for the csv module that hands each line back."""

    def write(self, line: str) -> str:
        return line


def _values(run: Any) -> dict[str, Any]:
    values = {
        "id": run.pk,
        "scheduled_for": run.slot,
        # Of a run that has ended: what goes on has no length yet.
        "duration_seconds": run.duration.total_seconds() if run.finished_at and run.duration is not None else None,
    }
    return {name: _plain(values[name] if name in values else getattr(run, name)) for name in COLUMNS}


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA) else value
