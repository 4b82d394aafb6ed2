"""What the maintenance part of the API takes and answers."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Self

from ninja import Field, Schema
from pydantic import BeforeValidator, model_validator

from backups.forecast_schemas import MAX_FORECAST_DAYS, Fate, Timeline
from backups.services.options import MAX_MINIMUM_KEEP
from maintenance.choices import JobType, PlanStatus
from maintenance.models import CleanupPlan, CleanupPlanPair
from maintenance.models import MaintenanceRun as MaintenanceRunRow
from maintenance.plan_view import pair_verdicts
from scheduling.api import Body, Id, Problem, Run, unset
from scheduling.choices import RunOutcome
from scheduling.job_schemas import JobSettings, JobSettingsCreate, JobSettingsUpdate

MAX_VERDICTS = 1000


class MaintenanceJob(JobSettings):
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


class MaintenanceJobCreate(JobSettingsCreate):
    key: str = Field(examples=["retention_cleanup_weekly"])
    job_type: JobType
    name: str = ""
    schedule_cron: str = Field("", examples=["0 3 * * 0"])
    timezone: str = Field("", examples=["Europe/Berlin"])
    enabled: bool = True
    visible_in_ui: bool = True


class MaintenanceJobUpdate(JobSettingsUpdate):
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
    the plan was made, and stayed; `waiting_count` those that the guards in `stops` kept from being deleted. `plan` is
    the uid of the plan that a cleanup went by. Of a run that empties the trash, `waiting_count` are not due yet.
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
    waiting_count: Count = 0
    stops: Mappings = []
    plan: str = ""
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


Digest = Annotated[str, Field(max_length=64, examples=["3b1f…"])]


class RetentionRunBody(PairBody):
    """With `plan_id` and `digest`, as a preview gave them, exactly that plan is carried out, or nothing."""

    plan_id: Annotated[str, Field(max_length=16)] | None = None
    digest: Digest | None = None

    @model_validator(mode="after")
    def _a_plan_with_its_digest(self) -> Self:
        if (self.plan_id is None) != (self.digest is None):
            raise ValueError("give plan_id and digest together for a plan that was previewed, or neither")
        return self


class DecisionBody(Body):
    """The `digest` of the plan as it was shown: another plan is not decided about."""

    digest: Digest


class PlanChanged(Problem):
    """Refused because the plan is another by now: `plan_id` and `digest` are those of the plan as it is."""

    plan_id: str | None = None
    digest: str | None = None


class CompareBody(Body):
    """A policy to try on one pair."""

    job_id: Id
    target_id: Id
    retention: dict[str, Any] = Field(examples=[{"keep_last": 3, "keep_daily": 7}])
    days: int = Field(90, ge=1, le=MAX_FORECAST_DAYS)


class Stop(Schema):
    """A guard that is in the way: `text` says what, how much and the limit. One that is not `approvable` stays until
    its cause is gone.
    """

    kind: str
    text: str
    approvable: bool


class PairStop(Stop):
    pair: str


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
    stops: list[Stop]
    notes: list[str]
    verdicts: list[Verdict]
    verdicts_left_out: int


class RetentionPreview(Schema):
    """What a cleanup would do now, in the figures of a run's result. Nothing was changed.

    Send `plan_id` and `digest` back to run exactly this. `plan_id` is null when a policy was only tried. With
    `needs_approval` a run stops at the guards in `stops` and waits for someone's word.
    """

    plan_id: str | None
    digest: str
    stops: list[PairStop]
    needs_approval: bool

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


def _id(value: object) -> int | None:
    return value if isinstance(value, int) else None


class Plan(Schema):
    """What one cleanup decided. One that is `waiting` was stopped by a guard.

    `job_id` and `target_id` name the pair of a cleanup of one pair only. `run_id` is the run that made the plan,
    `carried_out_by_id` the one that was queued for it.
    """

    uid: str
    status: PlanStatus
    digest: str
    job_id: int | None
    target_id: int | None
    created_at: datetime
    created_by: str
    run_id: int | None
    decided_by: str
    decided_at: datetime | None
    carried_out_by_id: int | None

    @staticmethod
    def resolve_job_id(plan: CleanupPlan) -> int | None:
        return _id(plan.params.get("job_id"))

    @staticmethod
    def resolve_target_id(plan: CleanupPlan) -> int | None:
        return _id(plan.params.get("target_id"))


class StoredVerdict(Schema):
    uid: str
    created_at: datetime
    size: int
    keep: bool
    reasons: list[dict[str, Any]]


class PlanPair(Schema):
    """The stored plan of one pair; `moved` copies went to the trash. Verdicts newest first."""

    job: str
    job_id: int | None
    target: str
    target_id: int | None
    planned_at: datetime
    kept: int
    deleting: int
    deleting_bytes: int
    moved: int
    moved_bytes: int
    policy: dict[str, Any]
    digest: str
    stops: list[Stop]
    verdicts: list[StoredVerdict]
    verdicts_left_out: int

    @classmethod
    def of(cls, pair: CleanupPlanPair, *, limit: int) -> Self:
        """With the first `limit` verdicts; the document is not read for none."""
        shown = [
            StoredVerdict(
                uid=verdict["uid"], created_at=created, size=size, keep=verdict["keep"], reasons=verdict["reasons"]
            )
            for verdict, created, size in (islice(pair_verdicts(pair), limit) if limit else ())
        ]
        return cls(
            job=pair.job_name,
            job_id=pair.job_id,
            target=pair.target_name,
            target_id=pair.target_id,
            planned_at=pair.planned_at,
            kept=pair.kept,
            deleting=pair.deleting,
            deleting_bytes=pair.deleting_bytes,
            moved=pair.moved,
            moved_bytes=pair.moved_bytes,
            policy=pair.policy,
            digest=pair.digest,
            stops=[Stop(**stop) for stop in pair.stops],
            verdicts=shown,
            verdicts_left_out=pair.kept + pair.deleting - len(shown),
        )


class PlanDetail(Plan):
    """With its pairs; at most `verdict_limit` verdicts in all."""

    verdict_limit: int = MAX_VERDICTS
    pairs: list[PlanPair]

    @staticmethod
    def resolve_pairs(plan: CleanupPlan) -> list[PlanPair]:
        left, pairs = MAX_VERDICTS, []
        for row in plan.pairs.all().iterator(chunk_size=10):
            pairs.append(PlanPair.of(row, limit=left))
            left -= len(pairs[-1].verdicts)
        return pairs


class Comparison(Schema):
    """What one policy would do to a pair that the one in force does not.

    Tonight is the next cleanup, else now. `tonight_deletes` and `later_deletes` are existing copies that only the tried
    policy deletes, the latter until the end; `months_lost` ("2025-11") hold a good copy now, and after tonight only
    under the policy in force.
    """

    policy: dict[str, Any]
    tried: dict[str, Any]
    months_lost: list[str]
    tonight_deletes: list[Verdict]
    tonight_bytes: int
    stops: list[Stop]
    later_deletes: list[Fate]
    later_bytes: int
    old: Timeline
    new: Timeline
