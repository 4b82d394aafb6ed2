"""The stored plans of cleanups: written before anything is deleted, and worked out again from what they hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from backups.retention import Plan, Policy, Stop, replay
from backups.services.retention import PairPlan
from maintenance.choices import PlanStatus
from maintenance.models import CleanupPlan, CleanupPlanPair, MaintenanceRun
from maintenance.retention_plans import RetentionPlans

PAIR_PARAMS = ("job_id", "target_id")


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One pair of a stored cleanup, decided anew; `differences` says what came out otherwise, and is empty when all
    is the same.
    """

    label: str
    copies: int
    differences: tuple[str, ...]


def plan_record(*, run: MaintenanceRun, found: RetentionPlans, now: datetime) -> CleanupPlan:
    """Store what a cleanup is about to do, pair by pair. What waited for approval of the same pairs is superseded."""
    params = pair_params(run.params)
    with transaction.atomic():
        earlier = CleanupPlan.objects.filter(status=PlanStatus.WAITING)
        if params:
            earlier = earlier.filter(params=params)
        earlier.update(status=PlanStatus.SUPERSEDED)
        record = CleanupPlan.objects.create(
            status=PlanStatus.WAITING if found.needs_approval else PlanStatus.EXECUTED,
            digest=found.digest,
            params=params,
            created_at=now,
            created_by=run.requested_by,
            run=run,
        )
        CleanupPlanPair.objects.bulk_create([_pair(record, planned) for planned in found.plans], batch_size=50)
    return record


def pair_params(params: Mapping[str, Any]) -> dict[str, int]:
    """The pair that a run's params name; {} when they name none."""
    return {name: params[name] for name in PAIR_PARAMS if name in params}


def policy_hash(policy: Policy) -> str:
    """SHA-256 of a policy's rules and zone."""
    return hashlib.sha256(json.dumps(policy.to_mapping(), sort_keys=True).encode()).hexdigest()


def pair_stop(*, record: CleanupPlan, planned: PairPlan, stop: Stop) -> None:
    """Note a stop that came up while the plan was being carried out: the rest of the pair waits for a decision."""
    with transaction.atomic():
        if stop.kind != "busy":
            CleanupPlan.objects.filter(pk=record.pk).update(status=PlanStatus.WAITING)
        pair = _row(record, planned)
        pair.stops = [*pair.stops, stop.to_mapping()]
        pair.save(update_fields=["stops"])


def pair_carried_out(*, record: CleanupPlan, planned: PairPlan, moved: int, moved_bytes: int, whole: bool) -> None:
    """Note what became of a pair's plan; `whole` when nothing kept it from being gone through to its end."""
    CleanupPlanPair.objects.filter(pk=_row(record, planned).pk).update(
        moved=moved, moved_bytes=moved_bytes, carried_out=whole
    )


def run_replay(run: MaintenanceRun) -> list[Replayed]:
    """Decide every stored pair of a run anew from its inputs, and compare digest, verdicts, reasons and stops."""
    pairs = CleanupPlanPair.objects.filter(plan__run=run).order_by("pk")
    return [_replay(pair) for pair in pairs.iterator(chunk_size=10)]


def _replay(pair: CleanupPlanPair) -> Replayed:
    document = pair.document
    again = replay(document["inputs"])
    stored, verdicts = document["verdicts"], [verdict.to_mapping() for verdict in again.verdicts]
    differences = []
    if again.digest != pair.digest:
        differences.append(f"the digest was {pair.digest} and is {again.digest}")
    if policy_hash(again.policy) != pair.policy_hash:
        differences.append("the policy is not the one whose hash was stored")
    if len(stored) != len(verdicts):
        differences.append(f"there were {len(stored)} verdicts and are {len(verdicts)}")
    for old, new in zip(stored, verdicts, strict=False):
        if old != new:
            differences.append(f"{old.get('uid')}: was {_shown(old)}; is {_shown(new)}")
    return Replayed(label=pair.label, copies=len(stored), differences=tuple(differences))


def _shown(verdict: Mapping[str, Any]) -> str:
    reasons = "; ".join(reason.get("text", "") for reason in verdict.get("reasons", ()))
    return f"{'keep' if verdict.get('keep') else 'delete'} ({reasons})"


def _pair(record: CleanupPlan, planned: PairPlan) -> CleanupPlanPair:
    plan: Plan = planned.plan
    return CleanupPlanPair(
        plan=record,
        job=planned.pair.job,
        job_name=planned.pair.job.name,
        target_id=planned.pair.target_id,
        target_name=planned.pair.target_name,
        planned_at=plan.now,
        digest=plan.digest,
        policy=plan.policy.to_mapping(),
        policy_hash=policy_hash(plan.policy),
        kept=len(plan.keep),
        deleting=len(plan.delete),
        deleting_bytes=planned.bytes_to_delete,
        stops=[stop.to_mapping() for stop in plan.stops],
        packed=CleanupPlanPair.pack(
            {
                "inputs": plan.inputs_mapping(),
                "verdicts": [verdict.to_mapping() for verdict in plan.verdicts],
            }
        ),
    )


def _row(record: CleanupPlan, planned: PairPlan) -> CleanupPlanPair:
    job_id, target_id = planned.pair.key
    return record.pairs.get(job_id=job_id, target_id=target_id)
