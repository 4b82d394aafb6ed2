"""The plans of a cleanup, pair by pair, under the policy in force or one to try; storages checked, nothing changed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone

from backups.models import Options
from backups.retention import PolicyError
from backups.services.options import retention_clean
from backups.services.retention import PairPlan, plan_pair, retention_pairs
from backups.storage import StorageError
from maintenance.tasks.retention_cleanup import Storages


@dataclass(frozen=True, kw_only=True)
class RetentionPlans:
    """A plan for each pair that could be looked at, and by the others' names why they could not."""

    plans: tuple[PairPlan, ...]
    failed: Mapping[str, str]

    @property
    def kept_count(self) -> int:
        return sum(len(pair_plan.plan.keep) for pair_plan in self.plans)

    @property
    def deleted_count(self) -> int:
        return sum(len(pair_plan.plan.delete) for pair_plan in self.plans)

    @property
    def message(self) -> str:
        if self.failed:
            label, reason = next(iter(self.failed.items()))
            pairs = len(self.plans) + len(self.failed)
            return f"{len(self.failed)} of {pairs} could not be looked at. {label}: {reason}"
        if not self.plans:
            return "There are no backups yet, so there is nothing to clean up."
        return f"{self.deleted_count} would be moved to the trash, {self.kept_count} kept."


def retention_plans(
    *,
    job_id: int | None = None,
    target_id: int | None = None,
    retention: Mapping[str, Any] | None = None,
    minimum_keep: int | None = None,
    options: Options | None = None,
) -> RetentionPlans:
    """Plan every pair, or the one named by both ids, as it is now; under `options`, saved or not, when they are given.

    `retention` is a policy to try: on one pair in place of whatever is in force there, otherwise in place of the one in
    Options. Raises ValidationError keyed `retention.<rule>` when it cannot be used.
    """
    options, now = options or Options.load(), timezone.now()
    if retention is not None:
        try:
            retention_clean(retention)
        except PolicyError as error:
            raise ValidationError({f"retention.{field}": [text] for field, text in error.errors.items()}) from error
    plans: list[PairPlan] = []
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        storages = Storages(stack)
        for pair in retention_pairs(job_id=job_id, target_id=target_id):
            if retention is not None and target_id is not None:
                # On this one job in memory, which is never saved.
                pair.job.retention = dict(retention)
            try:
                planned = plan_pair(pair=pair, options=options, now=now, policy=retention, minimum_keep=minimum_keep)
                for storage in {backup.storage_id: backup.storage for backup in planned.backups.values()}.values():
                    storages.open(storage)
            except (StorageError, PolicyError) as error:
                failed[pair.label] = str(error)
            else:
                plans.append(planned)
    return RetentionPlans(plans=tuple(plans), failed=failed)
