"""What the maintenance part of the API takes and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from ninja import Field, Schema
from pydantic import BeforeValidator, model_validator

from backups.services.options import MAX_MINIMUM_KEEP
from maintenance.choices import JobType
from maintenance.models import MaintenanceRun as MaintenanceRunRow
from scheduling.api import Body, Id, Run, unset
from scheduling.choices import RunOutcome

MAX_VERDICTS = 1000


class MaintenanceJob(Schema):
    """A scheduled maintenance task.

    A blank `schedule_cron` runs by hand only, a blank `timezone` takes the one in the options.
    """

    id: int
    key: str
    name: str
    job_type: JobType
    schedule_cron: str
    timezone: str
    enabled: bool
    visible_in_ui: bool
    options: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class MaintenanceJobCreate(Body):
    key: str = Field(examples=["retention_cleanup_weekly"])
    job_type: JobType
    name: str = ""
    schedule_cron: str = Field("", examples=["0 3 * * 0"])
    timezone: str = Field("", examples=["Europe/Berlin"])
    enabled: bool = True
    visible_in_ui: bool = True


class MaintenanceJobUpdate(Body):
    """What is left out stays as it is."""

    name: str = unset()
    schedule_cron: str = unset()
    timezone: str = unset()
    enabled: bool = unset()
    visible_in_ui: bool = unset()


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _mappings(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


Count = Annotated[int, BeforeValidator(_count)]
Texts = Annotated[list[str], BeforeValidator(_texts)]
Mappings = Annotated[list[dict[str, Any]], BeforeValidator(_mappings)]


class MaintenanceRunResult(Schema):
    """A run's figures. What a run did not record, an older version's run for example, is 0 or empty.

    Sizes are in bytes. The path lists are bounded; the counts are not. `left_alone_count` are copies that changed after
    the plan was made, and stayed.
    """

    targets_processed: Count = 0
    deleted_count: Count = 0
    kept_count: Count = 0
    failed_count: Count = 0
    deleted_paths: Texts = []
    failed_paths: Texts = []
    deleted_bytes: Count = 0
    freed_bytes: Count = 0
    purged_count: Count = 0
    left_alone_count: Count = 0
    unknown_count: Count = 0
    unknown_files: Texts = []
    problems: Texts = []
    pairs: Mappings = []

    @classmethod
    def from_stored(cls, stored: object) -> Self:
        """Read a run's `result_json`, whatever wrote it. A path list without its count is counted."""
        figures = stored if isinstance(stored, dict) else {}
        counted = {f"{name}_count": len(_texts(figures.get(f"{name}_paths"))) for name in ("deleted", "failed")}
        return cls(**{name: value for name, value in {**counted, **figures}.items() if name in cls.model_fields})


class MaintenanceRun(Run):
    """One execution of a maintenance job. `params` names the pair when only one was cleaned up."""

    job_key: str
    job_type: str
    params: dict[str, Any]
    result: MaintenanceRunResult

    @staticmethod
    def resolve_params(run: MaintenanceRunRow) -> dict[str, Any]:
        return run.params if isinstance(run.params, dict) else {}

    @staticmethod
    def resolve_result(run: MaintenanceRunRow) -> MaintenanceRunResult:
        return MaintenanceRunResult.from_stored(run.result_json)


class PairBody(Body):
    """Both ids name one pair of a backup job and a target; neither means every pair."""

    job_id: Id | None = None
    target_id: Id | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> PairBody:
        if (self.job_id is None) != (self.target_id is None):
            raise ValueError("give job_id and target_id together for one pair, or neither for every pair")
        return self

    @property
    def params(self) -> dict[str, int]:
        """The run's parameters: both ids, or nothing."""
        if self.job_id is None or self.target_id is None:
            return {}
        return {"job_id": self.job_id, "target_id": self.target_id}


class RetentionRunBody(PairBody):
    pass


class RetentionPreviewBody(PairBody):
    """`retention` is a policy to try instead of the one in force."""

    retention: dict[str, Any] | None = Field(default=None, examples=[{"keep_last": 3, "keep_daily": 7}])
    minimum_keep: int | None = Field(default=None, ge=1, le=MAX_MINIMUM_KEEP)


class Verdict(Schema):
    uid: str
    path: str
    created_at: datetime
    size: int
    keep: bool
    text: str
    reasons: list[dict[str, Any]]


class PairPreview(Schema):
    """The plan for one pair, newest first; at most as many verdicts in all as the answer's `verdict_limit`."""

    job: str
    job_id: int
    target: str
    target_id: int
    kept: int
    deleted: int
    policy: dict[str, Any]
    minimum_keep: int
    digest: str
    notes: list[str]
    verdicts: list[Verdict]
    verdicts_left_out: int


class RetentionPreview(Schema):
    """What a cleanup would do now, in the figures of a run's result. Nothing was changed."""

    message: str
    outcome: RunOutcome = RunOutcome.OK
    targets_processed: int
    deleted_count: int
    kept_count: int
    failed_count: int
    deleted_bytes: int
    deleted_paths: list[str]
    failed_paths: list[str]
    problems: list[str]
    verdict_limit: int = MAX_VERDICTS
    pairs: list[PairPreview]
