from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Any, override

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser

from backups.models import Storage
from backups.services.contents import StorageContents, storage_contents
from backups.services.storages import storage_initialise
from backups.storage import ForeignStorageError, SentinelMissingError, StorageError
from scheduling.command import MAX_LISTED, KeepwellCommand, failed, refused, sentences, unknown_name
from scheduling.printable import printable


class Command(KeepwellCommand):
    help = (
        "Open a storage, check that it is the right one, and compare its files with the catalogue. "
        "Reports only; the files' bytes are not read."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="the storage's name")
        parser.add_argument(
            "--initialise",
            action="store_true",
            help="first write a lost sentinel file again; refused unless the copies it should hold are there",
        )

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self.refuse_unprepared_database()
        name = options["name"]
        storage = Storage.objects.filter(name=name).first()
        if storage is None:
            raise unknown_name("storage", name, list(Storage.objects.values_list("name", flat=True)))
        if options["initialise"]:
            try:
                storage_initialise(storage)
            except ValidationError as error:
                raise refused(sentences(error)) from error
        try:
            contents = storage_contents(storage)
        except SentinelMissingError as error:
            command = f"check_storage {shlex.quote(storage.name)} --initialise"
            raise refused(f"{error} The command for that: {command}") from error
        except ForeignStorageError as error:
            raise refused(str(error)) from error
        except StorageError as error:
            raise failed(str(error)) from error
        value = {
            "name": storage.name,
            "path": storage.path,
            "uid": storage.uid,
            "is_whole": contents.is_whole,
            **asdict(contents),
        }
        self.report(value, contents_text(storage, contents))
        if not contents.is_whole:
            faults = len(contents.missing) + len(contents.other_size)
            raise failed(f"{storage.name}: {faults:,} copies are not as the catalogue says.")


def contents_text(storage: Storage, contents: StorageContents) -> str:
    """The comparison for a terminal."""
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(contents.states.items())) or "none"
    share = contents.free * 100 // max(contents.total, 1)
    lines = [
        f"{storage.name} ({storage.path}) is the right storage.",
        f"  free: {contents.free:,} of {contents.total:,} bytes ({share} %)",
        f"  backups in the catalogue: {states}",
        f"  artifacts in their folders: {contents.files:,} ({contents.file_bytes:,} bytes)",
    ]
    for label, paths in (
        ("missing", contents.missing),
        ("of another size than stored", contents.other_size),
        ("not in the catalogue, left alone", contents.unknown),
        ("never published (a running or a crashed backup)", contents.parts),
    ):
        lines.append(f"  {label}: {len(paths):,}")
        lines += [f"    {printable(path)}" for path in paths[:MAX_LISTED]]
        if len(paths) > MAX_LISTED:
            lines.append(f"    and {len(paths) - MAX_LISTED:,} more")
    return "\n".join(lines)
