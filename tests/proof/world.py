"""A small real Keepwell for the machine: three pairs in two storages, real folders, a real SQLite file, a clock."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import sqlite3
import tarfile
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import zstandard
from django.db import connection

from backups.models import Backup, BackupJob, Storage
from backups.services.epochs import storage_changing
from backups.services.storages import storage_backend
from maintenance.models import MaintenanceJob
from tests.proof.wire import NAME, TRASH
from tests.support import add_backup, default_jobs, make_job, make_storage

START = datetime(2026, 3, 20, 2, 30, tzinfo=UTC)  # a week before the clocks of Europe change
PAIRS = {"etc": "nas", "www": "nas", "home": "usb"}
BOOKKEEPING = {".keepwell-storage.json", ".keepwell-epoch.json", ".keepwell-epoch.json.part"}
STRANGERS = {
    "holiday.jpg": b"jpg",
    "etc/notes.txt": b"somebody's notes",
    "etc/2020-01-01T000000Z-00112233aabbccdd.tar.zst": b"somebody's only copy",
    f"{TRASH}/2020-01-01T000000Z-ffffffffffffffff.tar.zst": b"in the trash, and nobody's",
    "Photos/one.raw": b"raw",
}


@dataclass(kw_only=True)
class Files:
    """What lies in one storage: by uid, the digest of each name that is there."""

    artifacts: dict[str, dict[str, str]] = field(default_factory=dict)
    sidecars: dict[str, dict[str, str]] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    strangers: dict[str, bytes] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)


class World:
    """Made once; `reset` brings it back to how it was made."""

    def __init__(self, folder: Path) -> None:
        self.root, self._template = folder / "live", folder / "template"
        self.now = START
        self.chance = random.Random(0)
        self.steps = 0
        self._changes = -1
        self._digests: dict[tuple[int, int, int], str] = {}
        self.root.mkdir()
        storages = {name: make_storage(self.root, name) for name in ("nas", "usb")}
        self.places = {name: self.root / name for name in storages}
        self.storage_names = {storage.pk: name for name, storage in storages.items()}
        self.jobs = {
            pair: make_job(self.root, name=f"job-{pair}", targets=(pair,), storage=storages[storage])
            for pair, storage in PAIRS.items()
        }
        self.targets = {pair: job.targets.get() for pair, job in self.jobs.items()}
        self.storages = storages
        self.maintenance: dict[str, MaintenanceJob] = default_jobs()
        for storage in storages:
            for relative, content in STRANGERS.items():
                path = self.places[storage] / relative
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
        for pair in PAIRS:
            self.add_copies(pair, START - timedelta(days=10), [timedelta(days=1)] * 8)
        self._database = self.copy_database()
        shutil.copytree(self.root, self._template)

    def clock(self) -> datetime:
        return self.now

    def reset(self) -> None:
        self.chance = random.Random(0)
        self.now = START
        self.restore_database(self._database)
        shutil.rmtree(self.root)
        shutil.copytree(self._template, self.root)
        self.places = {name: self.root / name for name in self.storages}
        self._digests.clear()

    def has_written(self) -> bool:
        """Whether any row was changed since this was last asked."""
        before, self._changes = self._changes, connection.connection.total_changes
        return before != self._changes

    def copy_database(self) -> bytes:
        connection.ensure_connection()
        with closing(sqlite3.connect(":memory:")) as copy:
            connection.connection.backup(copy)
            saved = copy.serialize()
        # Marked as written without a log beside it: in memory there is no place for one.
        return saved[:18] + b"\1\1" + saved[20:]

    def restore_database(self, saved: bytes) -> None:
        connection.ensure_connection()
        with closing(sqlite3.connect(":memory:")) as copy:
            copy.deserialize(saved)
            copy.backup(connection.connection)

    def add_copies(self, pair: str, start: datetime, gaps: Iterable[timedelta]) -> list[Backup]:
        """Published copies of usual size without the work of a run, the first a gap after `start`."""
        job, made = BackupJob.objects.select_related("storage").get(pk=self.jobs[pair].pk), []
        with (
            storage_backend(job.storage).open() as handle,
            storage_changing(storage=job.storage, handle=handle),
        ):
            for gap in gaps:
                start += gap
                made.append(add_backup(job, start, target=self.targets[pair], content=self.archive()))
        return made

    def archive(self) -> bytes:
        """A whole archive that restores, of about 2 kB."""
        content, file = self.chance.randbytes(self.chance.randint(1700, 2300)), io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            entry = tarfile.TarInfo("file.bin")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        return zstandard.compress(file.getvalue())

    def write_source(self, pair: str, kind: str) -> None:
        """Let the next backup of a pair be `usual`, `small`, or `failing`."""
        folder = self.root / f"source-{pair}"
        shutil.rmtree(folder, ignore_errors=True)
        if kind != "failing":
            folder.mkdir()
            (folder / "file.bin").write_bytes(self.chance.randbytes(2000 if kind == "usual" else 20))

    def row(self, storage: str) -> Storage:
        return Storage.objects.get(pk=self.storages[storage].pk)

    def epoch_lead(self, storage: str) -> int:
        """By how much the storage's own count is ahead of its row, wherever its folder is."""
        file = self.places[storage] / ".keepwell-epoch.json"
        count: int = json.loads(file.read_bytes())["epoch"] if file.exists() else 0
        return count - self.row(storage).epoch

    def files(self, storage: str) -> Files:
        found = Files()
        root = self.places[storage]
        for folder in ("", *(entry.name for entry in os.scandir(root) if entry.is_dir())):
            place = "trash" if folder == TRASH else "place"
            for entry in os.scandir(root / folder):
                relative = f"{folder}/{entry.name}".lstrip("/")
                match = NAME.fullmatch(entry.name)
                if entry.is_dir() or relative in BOOKKEEPING:
                    continue
                if relative in STRANGERS or (match is None and not entry.name.endswith(".part")):
                    found.strangers[relative] = Path(entry).read_bytes()
                elif match is None:
                    found.parts.append(relative)
                elif match["sidecar"]:
                    found.sidecars.setdefault(match["uid"], {})[place] = self._digest(entry)
                else:
                    found.artifacts.setdefault(match["uid"], {})[place] = self._digest(entry)
                    found.paths[match["uid"]] = Path(entry)
        return found

    def _digest(self, entry: os.DirEntry[str]) -> str:
        found = entry.stat()
        key = (found.st_ino, found.st_size, found.st_mtime_ns)
        if key not in self._digests:
            self._digests[key] = hashlib.sha256(Path(entry).read_bytes()).hexdigest()
        return self._digests[key]


def created_of(path: Path) -> datetime:
    """The moment in an artifact's name."""
    return datetime.strptime(path.name[:18], "%Y-%m-%dT%H%M%SZ").replace(tzinfo=UTC)


def rows() -> dict[str, dict[str, Any]]:
    """The catalogue as it is."""
    fields = ("uid", "state", "suspect_reason", "accepted_at", "verified_at", "pinned_at", "pin_until", "trashed_at")
    return {row["uid"]: row for row in Backup.objects.order_by().values(*fields, "size", "sha256")}
