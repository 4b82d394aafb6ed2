from __future__ import annotations

from typing import Any, override

from django.core.management.base import CommandParser

from backups.models import Storage
from backups.services.reconcile import Reconciliation, storage_reconcile
from backups.storage import ForeignStorageError, SentinelMissingError, StorageError
from scheduling.command import MAX_LISTED, KeepwellCommand, failed, refused, system_user, unknown_name
from scheduling.printable import printable


class Command(KeepwellCommand):
    help = (
        "Make the catalogue agree with a storage that has changed without it: enter the copies that lie there with "
        "their sidecars, mark those that are gone as missing, and let cleanups go on. No file is moved or deleted."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="the storage's name")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self.refuse_unprepared_database()
        storage = Storage.objects.filter(name=options["name"]).first()
        if storage is None:
            raise unknown_name("storage", options["name"], list(Storage.objects.values_list("name", flat=True)))
        try:
            result = storage_reconcile(storage=storage, by=system_user())
        except (SentinelMissingError, ForeignStorageError) as error:
            raise refused(str(error)) from error
        except StorageError as error:
            raise failed(str(error)) from error
        self.report(reconciliation_mapping(result), reconciliation_text(result))


def reconciliation_mapping(result: Reconciliation) -> dict[str, Any]:
    """The reconciliation as `--json` prints it."""
    return {
        "name": result.storage.name,
        "message": result.message,
        "lead": result.lead,
        "epoch": result.epoch,
        "adopted": result.adopted,
        "adopted_trashed": result.adopted_trashed,
        "missing": result.missing,
        "trashed": result.trashed,
        "found": result.found,
        "left": result.left,
    }


def reconciliation_text(result: Reconciliation) -> str:
    """The reconciliation for a terminal."""
    lines = [result.message]
    if result.lead:
        lines.append(f"The storage was {result.lead:,} changes ahead of the database. Cleanups can go on now.")
    for label, texts in (
        ("entered into the catalogue, not verified", result.adopted),
        ("entered as lying in the trash", result.adopted_trashed),
        ("marked as missing", result.missing),
        ("found in the trash", result.trashed),
        ("found in place again", result.found),
        ("not settled, left as they were", result.left),
    ):
        if texts:
            lines.append(f"  {label}: {len(texts):,}")
            lines += [f"    {printable(text)}" for text in texts[:MAX_LISTED]]
        if len(texts) > MAX_LISTED:
            lines.append(f"    and {len(texts) - MAX_LISTED:,} more")
    return "\n".join(lines)
