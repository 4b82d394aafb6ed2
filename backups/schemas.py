"""What the backups part of the API takes and answers. Times are UTC, sizes bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from ninja import Field, Schema
from pydantic import AfterValidator, AwareDatetime, model_validator

from backups import models
from backups.choices import AttemptStatus, BackupState, SourceKindName, StorageKind
from backups.services.protections import NOTE_LENGTH
from scheduling.api import Body, Id, NewestFirst, Run, Text, unset
from scheduling.job_schemas import JobSettings, JobSettingsCreate, JobSettingsUpdate

MAX_TARGETS = 1000
MAX_COPIES = 500

RETENTION_EXAMPLE = {"keep_last": 3, "keep_daily": 7, "keep_weekly": 4}
Path = Annotated[str, Field(max_length=1000, examples=["/srv/backups"])]
Note = Annotated[Text, Field(max_length=NOTE_LENGTH, examples=["tax records"])]
Uid = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$", examples=["0123456789abcdef"])]
TargetIds = Annotated[list[Id], Field(max_length=MAX_TARGETS)]


def _near(moment: datetime) -> datetime:
    # The years at the ends have no neighbours in every zone.
    if not 1970 <= moment.year <= 9998:
        raise ValueError("choose a year from 1970 to 9998")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_near), Field(examples=["2027-01-01T00:00:00Z"])]


class Storage(Schema):
    """A place where copies live. `uid` is what its sentinel file says; `epoch` counts the changes of its content."""

    id: int
    uid: str
    name: str
    kind: StorageKind
    path: str
    epoch: int
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


class BackupJob(JobSettings):
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


class BackupJobCreate(JobSettingsCreate):
    name: str = Field(examples=["nightly"])
    target_ids: TargetIds
    storage_id: Id
    schedule: str = Field("", examples=["30 2 * * *"])
    timezone: str = Field("", examples=["Europe/Berlin"])
    enabled: bool = True
    retention: dict[str, Any] | None = Field(None, examples=[RETENTION_EXAMPLE])


class BackupJobUpdate(JobSettingsUpdate):
    """What is left out stays as it is; `retention` null goes back to the policy in the options."""

    name: str = unset()
    target_ids: TargetIds = unset()
    storage_id: Id = unset()
    schedule: str = unset()
    timezone: str = unset()
    enabled: bool = unset()
    retention: dict[str, Any] | None = unset()


class Backup(Schema):
    """One copy of one target. `path` is relative to its storage; `good` copies are those that retention counts.

    `pinned_at` null: not pinned. A pin holds until `pin_until`, null for ever.
    """

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
    pinned_at: datetime | None
    pinned_by: str
    pin_until: datetime | None
    pin_note: str
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
    """`state=trashed` is the trash; `removed_by` is the run that moved copies there, such as `maintenance:12`."""

    target_id: Id | None = None
    job_id: Id | None = None
    storage_id: Id | None = None
    state: BackupState | None = None
    removed_by: Text | None = Field(None, max_length=40)


class PinBody(Body):
    """`until` null pins for ever."""

    until: Moment | None = None
    note: Note = ""


class UntrashBody(Body):
    """Either some copies or all that one run moved to the trash, such as `maintenance:12`."""

    uids: list[Uid] | None = Field(None, min_length=1, max_length=MAX_COPIES)
    run: Text | None = Field(None, min_length=1, max_length=40, examples=["maintenance:12"])

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.uids is None) == (self.run is None):
            raise ValueError("give either uids or run")
        return self


class LeftAlone(Schema):
    uid: str
    why: str


class Untrashed(Schema):
    """What came back, each pinned until `pin_until`, what did not and why, and how many of the run are still there:
    ask again for these.
    """

    back: list[Backup]
    problems: list[LeftAlone]
    remaining: int


class Hold(Schema):
    """A stop on deleting what all of job, target and storage cover; everything, when all are null."""

    id: int
    job_id: int | None
    target_id: int | None
    storage_id: int | None
    scope: str
    note: str
    placed_by: str
    placed_at: datetime
    until: datetime | None


class HoldCreate(Body):
    """`until` null holds until it is released."""

    job_id: Id | None = None
    target_id: Id | None = None
    storage_id: Id | None = None
    note: Note
    until: Moment | None = None


class AuditEntry(Schema):
    """Who did what to which copy, and why. Names are those of that time; `size` is null where it is not about one."""

    id: int
    at: datetime
    action: models.AuditAction
    actor: str
    backup_uid: str
    job_name: str
    target_name: str
    storage_name: str
    artifact: str
    size: int | None
    sha256: str
    run: str
    plan_digest: str
    policy_hash: str
    approved_by: str
    reason: str


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
    """`retention` is the policy of jobs without one of their own.

    The `guard_*` are what a cleanup may delete without approval, of one pair and in one storage: a share in percent of
    the good copies, a count, and bytes; null is no limit.
    """

    timezone: str
    retention: dict[str, Any]
    minimum_keep: int
    trash_hours: int
    guard_pair_share: int | None
    guard_pair_count: int | None
    guard_pair_bytes: int | None
    guard_storage_share: int | None
    guard_storage_count: int | None
    guard_storage_bytes: int | None
    updated_at: datetime


class OptionsUpdate(Body):
    """What is left out stays as it is; `retention` is replaced whole. A guard of null or 0 is no limit."""

    timezone: str = unset()
    retention: dict[str, Any] = unset()
    minimum_keep: int = unset()
    trash_hours: int = unset()
    guard_pair_share: int | None = unset()
    guard_pair_count: int | None = unset()
    guard_pair_bytes: int | None = unset()
    guard_storage_share: int | None = unset()
    guard_storage_count: int | None = unset()
    guard_storage_bytes: int | None = unset()
