from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, override

from django.core.management.base import CommandParser

from backups.archive import ArchiveError, DestinationError, Stopped
from backups.services.finding import BackupNotFoundError, backup_find, newer_copies
from backups.services.restore import (
    DamagedBackupError,
    DestinationRefusedError,
    Restored,
    RestoreRefusedError,
    backup_restore,
)
from backups.storage import ForeignStorageError, SentinelMissingError, StorageError
from scheduling.command import KeepwellCommand, bad_input, failed, refused, stop_on_signals
from scheduling.units import counted

PROGRESS_SECONDS = 5.0


class Command(KeepwellCommand):
    help = "Check a backup and unpack it into a new or empty folder. Nothing outside that folder is touched."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("backup", help="a uid or its first six digits or more, TARGET@latest, or JOB/TARGET@latest")
        parser.add_argument("--to", metavar="DIR", required=True, help="a new or empty folder to unpack into")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self.refuse_unprepared_database()
        if not options["to"].strip():
            raise bad_input("--to is empty. Give a new or an empty folder to unpack into.")
        # Not resolved: a link as the destination must be seen as one.
        destination = Path(options["to"]).expanduser().absolute()
        try:
            backup = backup_find(options["backup"])
        except BackupNotFoundError as error:
            raise bad_input(str(error)) from error
        self.say(f"Restoring {backup} from {backup.storage.name} to {destination}.")
        if newer := newer_copies(backup):
            self.say(f"warning: {newer} newer {'copy is' if newer == 1 else 'copies are'} there but not good.")
        self._shown = time.monotonic()
        try:
            with stop_on_signals(self.say) as stop:
                restored = backup_restore(
                    backup=backup, destination=destination, stop=stop, log=self.echo, progress=self._progress
                )
        except (DestinationRefusedError, DestinationError) as error:
            raise bad_input(str(error)) from error
        except (RestoreRefusedError, SentinelMissingError, ForeignStorageError) as error:
            raise refused(str(error)) from error
        except (DamagedBackupError, StorageError) as error:
            raise failed(str(error)) from error
        except ArchiveError as error:
            raise failed(f"{error} What was unpacked until then is in {destination}.") from error
        except Stopped:
            raise failed(f"Restoring was stopped. {destination} may hold a part of the copy.") from None
        self.report(restored_mapping(restored), restored_text(restored))

    def _progress(self, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._shown >= PROGRESS_SECONDS:
            self._shown = now
            self.say(f"{phase}: {done * 100 // max(total, 1)} % of {total:,} bytes")


def restored_mapping(restored: Restored) -> dict[str, Any]:
    """What was restored, as `--json` prints it."""
    backup = restored.backup
    return {
        "uid": backup.uid,
        "job": backup.job_name,
        "target": backup.target_name,
        "created_at": backup.created_at.isoformat(),
        "artifact": backup.artifact.relative,
        "sha256": backup.sha256,
        "destination": str(restored.destination),
        **asdict(restored.summary),
    }


def restored_text(restored: Restored) -> str:
    """What was restored, for a terminal."""
    summary = restored.summary
    links = summary.symlinks + summary.hardlinks
    lines = [
        f"Restored {restored.backup} to {restored.destination}.",
        f"  {counted(summary.files, 'file')}, {counted(summary.directories, 'folder')}, {counted(links, 'link')}, "
        f"{summary.bytes:,} bytes",
        f"  sha256 {restored.backup.sha256} matched",
    ]
    if summary.warnings:
        lines.append(f"  {counted(summary.warnings, 'warning')}, shown above")
    return "\n".join(lines)
