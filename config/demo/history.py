"""Sixty days of backups and cleanups, each really run, under a clock that stands where the schedule says.

Nothing is made up afterwards: every run goes through the dispatch that the scheduler uses, every copy is a real
artifact of real files, and the only thing that is not of today is the time, which `execute_run` takes as a parameter.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backups.models import BackupJob, BackupRun
from backups.services.jobs import job_create
from backups.services.options import options_update
from backups.services.storages import storage_create
from backups.services.targets import target_create
from maintenance.models import MaintenanceRun
from maintenance.services import CLEANUP_NIGHTLY, PURGE_TRASH, get_job_by_key
from scheduling.choices import RunTrigger
from scheduling.cron import parse_cron
from scheduling.dispatch import scheduled_dispatch
from scheduling.items import ScheduledItem

DAYS = 60
ZONE = "Europe/Berlin"
RETENTION = {"keep_last": 3, "keep_daily": 7, "keep_weekly": 4, "keep_monthly": 12}
# Folders of the checkout that are small enough to be copied sixty times in a few seconds.
CODE_FOLDERS = ("config", "scheduling")
NOTES_FOLDER = "docs"
# Days before today: the machine was off, the notes' disk was not mounted, and most of the notes were gone for a day.
DAYS_OFF = frozenset({52, 38, 37, 36, 21, 9})
DAY_UNMOUNTED = 12
DAY_NEARLY_EMPTY = 5


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """One scheduled instant of one job: `days_ago` counts back from the last day."""

    slot: datetime
    kind: str
    job_id: int
    days_ago: int


class SimulatedClock:
    """Shows `start` when it is made and goes on at the pace of real time."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._began = time.monotonic()

    def __call__(self) -> datetime:
        return self._start + timedelta(seconds=time.monotonic() - self._began)


class Notes:
    """A folder whose content the demonstration may take away for a day: a copy of the checkout's documentation."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        self._away = folder.with_name(f"{folder.name}-elsewhere")
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, folder)

    def arrange(self, days_ago: int) -> None:
        """Put the folder into the state it was in on that day."""
        mishap = days_ago in (DAY_UNMOUNTED, DAY_NEARLY_EMPTY)
        if mishap and not self._away.exists():
            self.folder.rename(self._away)
            if days_ago == DAY_NEARLY_EMPTY:
                self.folder.mkdir()
                (self.folder / "README").write_text("The notes are on the other disk.\n", encoding="utf-8")
        elif not mishap and self._away.exists():
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self._away.rename(self.folder)


def build_history(*, data: Path, checkout: Path, now: datetime, say: Callable[[str], None]) -> None:
    """Set up a storage, targets and jobs in an empty database and run them for the `DAYS` days before `now`."""
    options_update(timezone=ZONE, retention=RETENTION)
    notes = Notes(data / "sources" / "notes", checkout / NOTES_FOLDER)
    storage = storage_create(name="nas", path=str(data / "storage"))
    code = [
        target_create(
            name=f"keepwell {name}",
            source="files",
            config={"paths": [str(checkout / name)], "exclude": ["__pycache__", "*.pyc"]},
        )
        for name in CODE_FOLDERS
    ]
    papers = target_create(name="notes", source="files", config={"paths": [str(notes.folder)], "exclude": []})
    nightly = job_create(name="nightly", targets=[*code, papers], storage=storage, schedule="30 2 * * *")
    weekly = job_create(
        name="weekly archive", targets=[papers], storage=storage, schedule="15 4 * * 0", retention={"keep_weekly": 26}
    )
    last_day = 0
    for occurrence in _occurrences([nightly, weekly], now):
        notes.arrange(occurrence.days_ago)
        scheduled_dispatch(
            occurrence.kind,
            occurrence.job_id,
            inline=True,
            trigger=RunTrigger.SCHEDULE,
            slot=occurrence.slot,
            now=SimulatedClock(occurrence.slot),
        )
        if occurrence.days_ago % 10 == 0 and occurrence.days_ago != last_day:
            last_day = occurrence.days_ago
            say(f"  {occurrence.slot:%d %B %Y}")
    notes.arrange(0)


def _occurrences(jobs: list[BackupJob], now: datetime) -> Iterator[Occurrence]:
    """Every slot of the last `DAYS` days on which the machine was on, oldest first."""
    items = [(BackupRun.KIND, ScheduledItem.from_backup_job(job)) for job in jobs]
    upkeep = (get_job_by_key(key) for key in (CLEANUP_NIGHTLY, PURGE_TRASH))
    items += [(MaintenanceRun.KIND, ScheduledItem.from_maintenance_job(job)) for job in upkeep]
    found = [
        Occurrence(slot=slot, kind=kind, job_id=item.job_id, days_ago=(now - slot).days)
        for kind, item in items
        for slot in _slots(item, now)
    ]
    for occurrence in sorted(found, key=lambda one: (one.slot, one.kind, one.job_id)):
        if occurrence.days_ago not in DAYS_OFF:
            yield occurrence


def _slots(item: ScheduledItem, now: datetime) -> Iterator[datetime]:
    cron = parse_cron(item.schedule)
    slot = cron.next_after(now - timedelta(days=DAYS), item.timezone)
    while slot < now:
        yield slot.astimezone(UTC)
        slot = cron.next_after(slot, item.timezone)
