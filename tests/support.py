"""Real folders, real artifacts and real jobs for tests."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

from django.utils import timezone

from backups.choices import BackupState
from backups.models import Backup, BackupJob, Storage, Target
from backups.models.options import GUARD_FIELDS
from backups.services.audit import Authority
from backups.services.jobs import job_create
from backups.services.moved import Moved
from backups.services.options import options_update
from backups.services.purge import backups_purge
from backups.services.storages import storage_backend, storage_create
from backups.services.targets import target_create
from backups.services.trash import backups_trash
from backups.storage import ArtifactName, OpenStorage, Sidecar, folder_slug, new_uid
from backups.storage.names import is_bookkeeping
from maintenance.choices import JobType
from maintenance.models import MaintenanceJob
from maintenance.services import CLEANUP_MANUAL, CLEANUP_NIGHTLY, PURGE_TRASH
from scheduling import holders


def make_tree(folder: Path, files: int = 3, size: int = 100) -> Path:
    """A folder with some files of known content."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        (folder / f"file-{number}.txt").write_bytes(bytes([number % 256]) * size)
    return folder


def make_storage(folder: Path, name: str = "nas") -> Storage:
    return storage_create(name=name, path=str(folder / name))


def make_target(folder: Path, name: str = "etc", **config: Any) -> Target:
    """A target over a real tree below `folder`."""
    tree = make_tree(folder / f"source-{name}")
    return target_create(name=name, source="files", config={"paths": [str(tree)], **config})


def make_job(folder: Path, name: str = "nightly", targets: tuple[str, ...] = ("etc",), **values: Any) -> BackupJob:
    """A job over real trees to a real storage, both below `folder`."""
    storage = values.pop("storage", None) or make_storage(folder, f"{name}-storage")
    made = [make_target(folder, target) for target in targets]
    return job_create(name=name, targets=made, storage=storage, **{"schedule": "30 2 * * *", **values})


def add_backup(
    job: BackupJob, created: datetime, *, target: Target | None = None, content: bytes = b"x" * 64, **values: Any
) -> Backup:
    """A published artifact with its sidecar and row, taken at `created`; the bytes are not an archive, but they are
    there.
    """
    target = target or job.targets.get()
    name = ArtifactName(
        folder=folder_slug(target.name), created=created.replace(microsecond=0), uid=new_uid(), suffix=".tar.zst"
    )
    digest = hashlib.sha256(content).hexdigest()
    with storage_backend(job.storage).open() as storage, storage.stage(name, "0", "0") as staged:
        staged.file.write(content)
        staged.publish(
            Sidecar(
                name=name, target=target.name, kind="files", job=job.name, run="0", size=len(content), sha256=digest
            ).to_mapping()
        )
    return Backup.objects.create(
        uid=name.uid,
        job=job,
        job_name=job.name,
        target=target,
        target_name=target.name,
        storage=job.storage,
        folder=name.folder,
        suffix=name.suffix,
        created_at=name.created,
        size=len(content),
        sha256=digest,
        entries=1,
        source_bytes=len(content),
        **values,
    )


def no_blast_radius() -> None:
    """Let cleanups delete as much as their policy says, for tests that are about something else."""
    options_update(**dict.fromkeys(GUARD_FIELDS))


def move_to_trash(
    *backups: Backup, verdict: dict[str, Any] | None = None, run: str = "maintenance:1", **values: Any
) -> Moved:
    """What a cleanup does with copies of one pair that its plan deletes."""
    with holders.hold() as holder, storage_backend(backups[0].storage).open() as storage:
        return backups_trash(
            items=[(backup, verdict or {"keep": False}) for backup in backups],
            storage=storage,
            authority=Authority(actor="test", run=run),
            holder=holder,
            **{"minimum_keep": 1, "now": timezone.now(), **values},
        )


def purge(*backups: Backup, **values: Any) -> Moved:
    """What emptying the trash does with copies of one storage, due or not."""
    with holders.hold() as holder, storage_backend(backups[0].storage).open() as storage:
        return backups_purge(
            backups=backups,
            storage=storage,
            authority=Authority(actor="test", run="maintenance:2"),
            holder=holder,
            **{"trashed_before": timezone.now(), "now": timezone.now(), **values},
        )


def give_back(storage: OpenStorage, name: ArtifactName) -> None:
    """Bring one artifact back from the trash, or raise why that failed."""
    for error in storage.restore_all_from_trash([name]).values():
        raise error


def artifact_path(backup: Backup) -> Path:
    return Path(backup.storage.path) / backup.artifact.relative


def files_in(storage: Storage) -> set[str]:
    """Every file of a storage but what it keeps about itself, by relative path."""
    root = Path(storage.path)
    names = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return {name for name in names if not is_bookkeeping(name)}


def assert_catalogue_matches_storage(storage: Storage) -> None:
    """No artifact without a row, no row without its artifact, each with its sidecar, and nothing in transit."""
    names: set[str] = set()
    for backup in Backup.objects.filter(storage=storage).exclude(state=BackupState.DELETED):
        assert backup.state in (BackupState.AVAILABLE, BackupState.TRASHED, BackupState.QUARANTINED), backup.state
        in_trash = backup.state == BackupState.TRASHED
        name = backup.artifact.trash_relative if in_trash else backup.artifact.relative
        names |= {name, f"{name}.meta.json"}
    assert files_in(storage) == names


def now() -> datetime:
    return timezone.now()


def default_jobs() -> dict[str, MaintenanceJob]:
    """The maintenance jobs of a new installation by key; a test that empties the database takes them from the next."""
    shared = {"job_type": JobType.RETENTION_CLEANUP}
    nightly = {**shared, "name": "Nightly cleanup", "schedule_cron": "0 3 * * *"}
    manual = {**shared, "name": "Cleanup by hand", "visible_in_ui": False}
    purge = {"job_type": JobType.PURGE_TRASH, "name": "Empty the trash", "schedule_cron": "30 3 * * *"}
    made = {CLEANUP_NIGHTLY: nightly, CLEANUP_MANUAL: manual, PURGE_TRASH: purge}
    return {key: MaintenanceJob.objects.get_or_create(key=key, defaults=values)[0] for key, values in made.items()}
