"""The plans of a cleanup, pair by pair, by the policy in force or one to try, under every guard; changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Max
from django.utils import timezone

from backups.models import Options, Storage
from backups.retention import PolicyError, Stop, StoragePart, storage_stops
from backups.services.epochs import epoch_lead, old_database_text
from backups.services.options import retention_clean
from backups.services.retention import Pair, PairPlan, busy_stop, plan_pair, retention_pairs
from backups.services.storages import storage_backend
from backups.storage import OpenStorage, StorageError
from maintenance.models import CleanupPlanPair
from scheduling.wall_clock import ClockJump, clock_state

PairKey = tuple[int, int]


class Storages:
    """The storages of one cleanup, each opened once, sentinel checked; one that cannot be opened is remembered with
    its reason.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._open: dict[int, OpenStorage] = {}
        self._closed: dict[int, StorageError] = {}

    def open(self, storage: Storage) -> OpenStorage:
        if storage.pk in self._closed:
            raise self._closed[storage.pk]
        if storage.pk not in self._open:
            try:
                self._open[storage.pk] = self._stack.enter_context(storage_backend(storage).open())
            except StorageError as error:
                self._closed[storage.pk] = error
                raise
        # The disk may have gone, or another come, since this cleanup first looked.
        self._open[storage.pk].verify()
        return self._open[storage.pk]


@dataclass(frozen=True, kw_only=True)
class PairFailure:
    """A pair that could not be looked at, and why."""

    pair: Pair
    reason: str
    is_policy: bool = False


@dataclass(frozen=True, kw_only=True)
class RetentionPlans:
    """A plan for each pair that could be looked at; `failures` are the others."""

    plans: tuple[PairPlan, ...]
    failures: tuple[PairFailure, ...]

    @property
    def failed(self) -> dict[str, str]:
        """Why the pairs that could not be looked at could not be, by their labels."""
        return {failure.pair.label: failure.reason for failure in self.failures}

    @property
    def kept_count(self) -> int:
        return sum(len(pair_plan.plan.keep) for pair_plan in self.plans)

    @property
    def deleted_count(self) -> int:
        return sum(len(pair_plan.plan.delete) for pair_plan in self.plans)

    @property
    def deleted_bytes(self) -> int:
        return sum(pair_plan.bytes_to_delete for pair_plan in self.plans)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the pairs and their plans' digests: it changes whenever what would be deleted does."""
        digest = hashlib.sha256()
        entries = [(planned.pair.key, planned.plan.digest) for planned in self.plans]
        entries += [(failure.pair.key, "failed") for failure in self.failures]
        for (job, target), of_pair in sorted(entries):
            digest.update(f"{job} {target} {of_pair}\n".encode())
        return digest.hexdigest()

    @property
    def stops(self) -> list[tuple[PairPlan, Stop]]:
        """Every guard that is in the way, with the pair it stops."""
        return [(planned, stop) for planned in self.plans for stop in planned.plan.stops]

    @property
    def needs_approval(self) -> bool:
        """A person has to decide: some stop is more than a backup that is under way."""
        return any(stop.kind != "busy" for _, stop in self.stops)

    @property
    def message(self) -> str:
        if self.failures:
            failure = self.failures[0]
            pairs = len(self.plans) + len(self.failures)
            return f"{len(self.failures)} of {pairs} could not be looked at. {failure.pair.label}: {failure.reason}"
        if not self.plans:
            return "There are no backups yet, so there is nothing to clean up."
        text = f"{self.deleted_count} would be moved to the trash, {self.kept_count} kept."
        for planned, stop in self.stops[:1]:
            ask = " It would stop and ask first." if self.needs_approval else ""
            text += f"{ask} {planned.pair.label}: {stop.text}"
        return text


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
    if retention is not None:
        try:
            retention_clean(retention)
        except PolicyError as error:
            raise ValidationError({f"retention.{field}": [text] for field, text in error.errors.items()}) from error
    pairs = retention_pairs(job_id=job_id, target_id=target_id)
    if retention is not None and target_id is not None:
        for pair in pairs:
            # On this one job in memory, which is never saved.
            pair.job.retention = dict(retention)
    with ExitStack() as stack:
        return plan_all(
            pairs=pairs,
            options=options or Options.load(),
            now=timezone.now(),
            storages=Storages(stack),
            jump=clock_state(),
            policy=retention,
            minimum_keep=minimum_keep,
        )


def plan_all(
    *,
    pairs: Iterable[Pair],
    options: Options,
    now: datetime,
    storages: Storages,
    jump: ClockJump | None,
    policy: Mapping[str, Any] | None = None,
    minimum_keep: int | None = None,
) -> RetentionPlans:
    """Plan these pairs under every guard: their own blast radius, that of their storages, the clock, the storages'
    epochs, and backups that are under way.
    """
    cleaned = last_cleaned()
    plans: list[PairPlan] = []
    failures: list[PairFailure] = []
    for pair in pairs:
        stops = [Stop(kind="clock", text=jump.text)] if jump else []
        if (busy := busy_stop(pair)) is not None:
            stops.append(busy)
        try:
            planned = plan_pair(
                pair=pair,
                options=options,
                now=now,
                policy=policy,
                minimum_keep=minimum_keep,
                last_cleaned=cleaned.get(pair.key),
                stops=stops,
            )
            # Opened before anything is decided: a pair on an unmounted storage is a failure even when its plan deletes
            # nothing.
            for storage in planned.storages:
                if lead := epoch_lead(storage=storage, handle=storages.open(storage)):
                    text = old_database_text(storage.name, lead)
                    planned = planned.with_stops(Stop(kind="epoch", text=text, approvable=False))
        except StorageError as error:
            failures.append(PairFailure(pair=pair, reason=str(error)))
        except PolicyError as error:
            reason = f"its retention policy cannot be used: {error}. Correct it in the job or in Options."
            failures.append(PairFailure(pair=pair, reason=reason, is_policy=True))
        else:
            plans.append(planned)
    return RetentionPlans(plans=tuple(_guard_storages(plans, options)), failures=tuple(failures))


def last_cleaned() -> dict[PairKey, datetime]:
    """When each pair was last cleaned up to the end.

    A pair that a guard stopped since is left out: what came in meanwhile must not outweigh what waits for approval.
    """
    latest = (
        CleanupPlanPair.objects.filter(plan__run__isnull=False, job__isnull=False, target__isnull=False)
        .order_by()
        .values("job", "target")
        .annotate(latest=Max("pk"))
        .values_list("latest", flat=True)
    )
    found = CleanupPlanPair.objects.filter(pk__in=list(latest), carried_out=True)
    return {
        (job, target): at
        for job, target, at in found.values_list("job_id", "target_id", "planned_at")
        if job is not None and target is not None
    }


def _guard_storages(plans: Sequence[PairPlan], options: Options) -> list[PairPlan]:
    """The plans, those with deletions in a storage that all of them together would empty too far being stopped."""
    by_storage: dict[int, tuple[Storage, list[StoragePart]]] = {}
    for planned in plans:
        for storage in planned.storages:
            part = planned.part_in(storage)
            by_storage.setdefault(storage.pk, (storage, []))[1].append(part)
    stops = {
        pk: storage_stops(
            parts,
            max_share=options.guard_storage_share,
            max_count=options.guard_storage_count,
            max_bytes=options.guard_storage_bytes,
            storage_name=storage.name,
        )
        for pk, (storage, parts) in by_storage.items()
    }
    return [
        replace(
            planned,
            plan=planned.plan.with_stops(
                *(stop for backup_storage in planned.storages_to_delete_from for stop in stops[backup_storage])
            ),
        )
        for planned in plans
    ]
