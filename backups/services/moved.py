from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backups.models import Backup
from backups.storage import ArtifactName, StorageError

BATCH = 50
"""How many copies go at once: a process that dies leaves at most so many to be mended."""


@dataclass(kw_only=True)
class Moved:
    """What became of the copies of one request: `done`, `left` as they were with why, and `failed` with what failed."""

    done: list[Backup] = field(default_factory=list)
    left: list[tuple[Backup, str]] = field(default_factory=list)
    failed: list[tuple[Backup, Exception]] = field(default_factory=list)

    def sort_out(self, backups: Sequence[Backup], failures: Mapping[ArtifactName, StorageError]) -> list[Backup]:
        """Enter those that failed, and return the others."""
        self.failed += [(backup, failures[backup.artifact]) for backup in backups if backup.artifact in failures]
        return [backup for backup in backups if backup.artifact not in failures]

    @property
    def settled(self) -> set[int]:
        """The keys of all that something became of."""
        return {backup.pk for backup in (*self.done, *(row for row, _ in self.left), *(row for row, _ in self.failed))}


def unnamed(backup: Backup) -> ValueError | None:
    """What is wrong with a row that names no possible file."""
    try:
        backup.artifact  # noqa: B018 - building the name is the check
    except ValueError as error:
        return error
    return None


def verdict_text(verdict: Mapping[str, Any]) -> str:
    """The reasons of a stored verdict, as one line."""
    reasons = verdict.get("reasons", ()) if isinstance(verdict, Mapping) else ()
    return "; ".join(str(reason.get("text", "")) for reason in reasons if isinstance(reason, Mapping))
