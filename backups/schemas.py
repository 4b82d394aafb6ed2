"""What the backups part of the API takes and answers. Times are UTC, sizes bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from ninja import Field, Schema

from backups import models
from backups.choices import AttemptStatus, BackupState, SourceKindName, StorageKind
from scheduling.api import Body, Id, NewestFirst, Run, unset

MAX_TARGETS = 1000

RETENTION_EXAMPLE = {"keep_last": 3, "keep_daily": 7, "keep_weekly": 4}
Path = Annotated[str, Field(max_length=1000, examples=["/srv/backups"])]
TargetIds = Annotated[list[Id], Field(max_length=MAX_TARGETS)]


class Storage(Schema):
    """A place where copies live. `uid` is what its sentinel file says."""

    id: int
    uid: str
    name: str
    kind: StorageKind
    path: str
    created_at: datetime
    updated_at: datetime


class StorageCreate(Body):
    """`use_existing` accepts a folder that holds other files; they are never touched."""

    name: str = Field(examples=["nas"])
    path: Path
    kind: str = "local"
    use_existing: bool = False


class StorageUpdate(Body):
    """What is left out stays as it is. A new `path` must hold this storage's sentinel when backups are at stake."""

    name: str = unset()
    path: Path = unset()
    use_existing: bool = False


class Target(Schema):
    """Something to protect. For the source `files`, `config` has `paths` and `exclude`."""

    id: int
    name: str
    source: SourceKindName
    config: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class TargetCreate(Body):
    name: str = Field(examples=["etc"])
    source: str = "files"
    config: dict[str, Any] = Field(examples=[{"paths": ["/etc"], "exclude": ["*.tmp"]}])


class TargetUpdate(Body):
    """What is left out stays as it is; `config` is replaced whole."""

    name: str = unset()
    config: dict[str, Any] = unset()


class BackupJob(Schema):
    """`retention` null: the policy in the options is in force. A blank `schedule` runs by hand only."""

    id: int
    name: str
    target_ids: list[int]
    storage_id: int
    schedule: str
    timezone: str
    enabled: bool
    retention: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime

    @staticmethod
    def resolve_target_ids(job: models.BackupJob) -> list[int]:
        return sorted(link.target_id for link in job.job_targets.all())


class BackupJobCreate(Body):
    name: str = Field(examples=["nightly"])
    target_ids: TargetIds
    storage_id: Id
    schedule: str = Field("", examples=["30 2 * * *"])
    timezone: str = Field("", examples=["Europe/Berlin"])
    enabled: bool = True
    retention: dict[str, Any] | None = Field(None, examples=[RETENTION_EXAMPLE])


class BackupJobUpdate(Body):
    """What is left out stays as it is; `retention` null goes back to the policy in the options."""

    name: str = unset()
    target_ids: TargetIds = unset()
    storage_id: Id = unset()
    schedule: str = unset()
    timezone: str = unset()
    enabled: bool = unset()
    retention: dict[str, Any] | None = unset()


class Backup(Schema):
    """One copy of one target. `path` is relative to its storage; `good` copies are those that retention counts."""

    uid: str
    job_id: int | None
    job_name: str
    target_id: int | None
    target_name: str
    storage_id: int
    storage_name: str
    run_id: int | None
    path: str | None
    created_at: datetime
    size: int
    sha256: str
    entries: int
    source_bytes: int
    state: BackupState
    state_reason: str
    good: bool
    suspect_reason: str
    accepted_at: datetime | None
    verified_at: datetime | None
    removed_by: str
    trashed_at: datetime | None
    deleted_at: datetime | None
    verdict: dict[str, Any] | None

    @staticmethod
    def resolve_storage_name(backup: models.Backup) -> str:
        return backup.storage.name

    @staticmethod
    def resolve_path(backup: models.Backup) -> str | None:
        """Null for a damaged row whose ids make no name: one such must not keep the others from being listed."""
        try:
            return backup.artifact.relative
        except ValueError:
            return None

    @staticmethod
    def resolve_good(backup: models.Backup) -> bool:
        return not backup.flaw


class BackupFilters(NewestFirst):
    target_id: Id | None = None
    job_id: Id | None = None
    storage_id: Id | None = None
    state: BackupState | None = None


class Attempt(Schema):
    """What happened to one target of a run; `uid` is the copy's when there is one."""

    target_id: int | None
    target_name: str
    status: AttemptStatus
    message: str
    uid: str
    summary: dict[str, Any]
    started_at: datetime | None
    finished_at: datetime | None


class BackupRun(Run):
    """One execution of a backup job."""

    result: dict[str, Any]

    @staticmethod
    def resolve_result(run: models.BackupRun) -> dict[str, Any]:
        return run.result_json if isinstance(run.result_json, dict) else {}


class BackupRunDetail(BackupRun):
    attempts: list[Attempt]


class Options(Schema):
    """`retention` is the policy of jobs without one of their own."""

    timezone: str
    retention: dict[str, Any]
    minimum_keep: int
    trash_hours: int
    updated_at: datetime


class OptionsUpdate(Body):
    """What is left out stays as it is; `retention` is replaced whole."""

    timezone: str = unset()
    retention: dict[str, Any] = unset()
    minimum_keep: int = unset()
    trash_hours: int = unset()
