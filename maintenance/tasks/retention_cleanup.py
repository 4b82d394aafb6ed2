"""Retention cleanup: move what no rule holds to the trash, under every guard, by a plan that is stored first."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import batched, groupby
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from backups.models import Backup, Options
from backups.models.options import GUARD_FIELDS
from backups.retention import Stop, Verdict
from backups.services.audit import Authority
from backups.services.moved import BATCH, Moved
from backups.services.retention import Pair, PairPlan, busy_stop, retention_pairs
from backups.services.trash import GONE_REASON, backups_trash
from backups.storage import StorageError
from maintenance.choices import PlanStatus
from maintenance.cleanup_tally import MAX_LISTED, Tally, cleanup_result, stopped_midway
from maintenance.models import CleanupPlan
from maintenance.plans import pair_carried_out, pair_params, pair_stop, plan_record, policy_hash
from maintenance.retention_plans import PairFailure, RetentionPlans, Storages, plan_all
from maintenance.storage_faults import mark_missing, unknown_files
from scheduling.context import RunContext, RunFailedError, RunResult, RunStoppedError
from scheduling.fencing import RunFence
from scheduling.wall_clock import ClockJump, ClockWatch, clock_jump, clock_state

if TYPE_CHECKING:
    from datetime import datetime

    from maintenance.models import MaintenanceRun

CHANGED = Stop(
    kind="changed", text="What would be deleted is not what was shown and confirmed any more. Look at it again."
)


@dataclass(frozen=True, kw_only=True)
class Cleanup:
    """What all steps of one cleanup share."""

    run: MaintenanceRun
    context: RunContext
    options: Options
    storages: Storages
    watch: ClockWatch
    fence: RunFence
    tally: Tally
    record: CleanupPlan
    approved_by: str


def perform(run: MaintenanceRun, context: RunContext) -> RunResult:
    """Clean up every pair, or the one named in the run's `params`, or exactly the stored plan that they name.

    A pair that fails, or that a guard stops, does not keep the others from being cleaned up.
    """
    # Made before the clock is asked, so that no jump falls between the two.
    watch = ClockWatch()
    options, tally, fence = Options.load(), Tally(), RunFence(context=context)
    confirmed = _confirmed_plan(run)
    context.progress.update(step="Looking for missing files")
    try:
        with ExitStack() as stack:
            storages = Storages(stack)
            for storage, path in mark_missing(pair=pair_params(run.params), storages=storages, context=context):
                tally.failed.append(path)
                tally.problems.append(f"{storage}: {path} is not there. {GONE_REASON}")
            context.progress.update(step="Planning")
            found = _plan(run, confirmed, options, context.now(), storages, clock_jump(), context)
            with transaction.atomic():
                fence.hold()
                record = plan_record(run=run, found=found, now=context.now())
            tally.plan = record.uid
            _announce(found, tally, context)
            cleanup = Cleanup(
                run=run,
                context=context,
                options=options,
                storages=storages,
                watch=watch,
                fence=fence,
                tally=tally,
                record=record,
                approved_by=confirmed.decided_by if confirmed else "",
            )
            for failure in found.failures:
                context.error(f"{failure.pair.label}: {failure.reason} Nothing of it was changed.")
                _fail(tally, failure)
            for planned in found.plans:
                context.checkpoint()
                _clean_pair(planned, cleanup)
            if not run.params:
                context.progress.update(step="Looking for unknown files")
                tally.unknown_files += unknown_files(storages=storages, context=context)
    except RunStoppedError:
        raise RunStoppedError(tally.figures, done=stopped_midway(tally)) from None
    return cleanup_result(tally)


def preview(run: MaintenanceRun) -> RunResult:
    """What `perform` would do now, as the same figures and `deletions` with their reasons.

    Nothing is changed, on disk or in the catalogue.
    """
    tally = Tally()
    deletions: list[dict[str, Any]] = []
    with ExitStack() as stack:
        found = _plan(run, None, Options.load(), timezone.now(), Storages(stack), clock_state())
    for failure in found.failures:
        _fail(tally, failure)
    for planned in found.plans:
        _count(tally, planned)
        for stop in planned.plan.stops:
            tally.stop(planned, stop)
        if planned.plan.stops:
            tally.waiting_count += len(planned.plan.delete)
        tally.deleted += [(backup.shown_path, backup.size) for backup in planned.to_delete]
        deletions += _deletions(planned)
    result = cleanup_result(tally, preview=True)
    return replace(result, figures={**result.figures, "deletions": deletions[:MAX_LISTED]})


def _confirmed_plan(run: MaintenanceRun) -> CleanupPlan | None:
    """The stored plan that the run is to carry out. Raises `RunFailedError` when there is no such plan."""
    uid = run.params.get("plan")
    if uid is None:
        return None
    plan = CleanupPlan.objects.filter(uid=uid).first()
    if plan is None:
        raise RunFailedError("The plan that this run was to carry out does not exist any more. Nothing was deleted.")
    return plan


def _plan(
    run: MaintenanceRun,
    confirmed: CleanupPlan | None,
    options: Options,
    now: datetime,
    storages: Storages,
    jump: ClockJump | None,
    context: RunContext | None = None,
) -> RetentionPlans:
    pairs = retention_pairs(**pair_params(run.params))
    if confirmed is None:
        return plan_all(pairs=_one_by_one(pairs, context), options=options, now=now, storages=storages, jump=jump)
    stopped = {(pair.job_id, pair.target_id): pair for pair in confirmed.pairs.all() if pair.stops}
    if stopped:
        pairs = [pair for pair in pairs if pair.key in stopped]
    lifted = _lifted(options) if confirmed.status == PlanStatus.APPROVED else options
    found = plan_all(pairs=_one_by_one(pairs, context), options=lifted, now=now, storages=storages, jump=jump)
    if stopped:
        wanted = {key: pair.digest for key, pair in stopped.items()}
        same = wanted == {planned.pair.key: planned.plan.digest for planned in found.plans}
    else:
        same = found.digest == confirmed.digest
    if same:
        return found
    # Under the guards that were lifted for another plan.
    again = plan_all(pairs=_one_by_one(pairs, context), options=options, now=now, storages=storages, jump=jump)
    return replace(again, plans=tuple(planned.with_stops(CHANGED) for planned in again.plans))


def _one_by_one(pairs: Sequence[Pair], context: RunContext | None) -> Iterator[Pair]:
    """The pairs, between which the run, if it is one, counts them and may be stopped."""
    for number, pair in enumerate(pairs):
        if context is not None:
            context.checkpoint()
            context.progress.update(items=number, items_total=len(pairs))
        yield pair


def _announce(found: RetentionPlans, tally: Tally, context: RunContext) -> None:
    """Say how much there is to move, of the pairs that nothing stops."""
    going = [planned for planned in found.plans if not planned.plan.stops]
    tally.intended_count = sum(len(planned.plan.delete) for planned in going)
    if not tally.intended_count:
        return
    context.progress.update(
        step="Moving copies to the trash",
        items=0,
        items_total=tally.intended_count,
        bytes=0,
        bytes_total=sum(planned.bytes_to_delete for planned in going),
    )


def _lifted(options: Options) -> Options:
    """The options without the blast radius, which someone saw and approved."""
    lifted = Options.objects.get(pk=options.pk)
    for name in GUARD_FIELDS:
        setattr(lifted, name, None)
    return lifted


def _clean_pair(planned: PairPlan, cleanup: Cleanup) -> None:
    tally, context, label = cleanup.tally, cleanup.context, planned.pair.label
    plan = planned.plan
    context.info(f"{label}: {len(plan.keep)} kept, {len(plan.delete)} to delete ({plan.policy.describe()}).")
    for note in plan.notes:
        context.info(f"{label}: {note}")
    counted = _count(tally, planned)
    counted["deleted"] = 0
    if plan.stops:
        _stopped(planned, cleanup, plan.stops, waiting=len(plan.delete))
        return
    moved, whole = Moved(), False
    stop: Stop | None = None
    try:
        stop = _move(planned, cleanup, moved)
        if stop is not None:
            pair_stop(record=cleanup.record, planned=planned, stop=stop)
            gone = len(moved.done) + len(moved.left) + len(moved.failed)
            _stopped(planned, cleanup, (stop,), waiting=len(plan.delete) - gone)
        whole = stop is None and not moved.failed
    except StorageError as error:
        context.error(f"{label}: {error}")
        _fail(tally, PairFailure(pair=planned.pair, reason=str(error)))
    except RunStoppedError:
        raise
    except Exception as error:  # noqa: BLE001 - one pair's surprise must not keep the others from being cleaned up
        context.error(traceback.format_exc())
        reason = f"unexpected {type(error).__name__}, see the log"
        _fail(tally, PairFailure(pair=planned.pair, reason=reason))
    finally:
        counted["deleted"] = len(moved.done)
        # What a stop left is counted with it; what was not come to when something failed stays as well.
        tally.kept_count += len(moved.left) if stop else len(plan.delete) - len(moved.done) - len(moved.failed)
        pair_carried_out(
            record=cleanup.record,
            planned=planned,
            moved=len(moved.done),
            moved_bytes=sum(backup.size for backup in moved.done),
            whole=whole,
        )


def _move(planned: PairPlan, cleanup: Cleanup, moved: Moved) -> Stop | None:
    """Move what the plan deletes, some at a time; the stop that came up meanwhile, if one did."""
    context, plan = cleanup.context, planned.plan
    authority = Authority(
        actor=cleanup.run.requested_by or f"{cleanup.run.job_name} (schedule)",
        run=f"{cleanup.run.kind}:{cleanup.run.pk}",
        plan_digest=plan.digest,
        policy_hash=policy_hash(plan.policy),
        approved_by=cleanup.approved_by,
    )
    for some in _batches(planned):
        context.checkpoint()
        if (busy := busy_stop(planned.pair)) is not None:
            return busy
        if cleanup.watch.jumped():
            jump = clock_jump()
            return Stop(kind="clock", text=jump.text if jump else "The clock jumped while this cleanup was at work.")
        result = backups_trash(
            items=[(backup, verdict.to_mapping()) for backup, verdict in some],
            storage=cleanup.storages.open(some[0][0].storage),
            minimum_keep=cleanup.options.minimum_keep,
            authority=authority,
            holder=cleanup.run.holder,
            now=context.now(),
            fence=cleanup.fence,
        )
        context.progress.add(items=len(some), bytes=sum(backup.size for backup, _ in some))
        moved.done += result.done
        moved.left += result.left
        moved.failed += result.failed
        _say(planned, cleanup, result, {backup.pk: verdict for backup, verdict in some})
    return None


def _batches(planned: PairPlan) -> Iterator[Sequence[tuple[Backup, Verdict]]]:
    """What the plan deletes, storage by storage, at most `BATCH` at a time."""
    doomed = [(planned.backups[verdict.uid], verdict) for verdict in planned.plan.delete]
    doomed.sort(key=lambda entry: entry[0].storage_id)
    for _, group in groupby(doomed, key=lambda entry: entry[0].storage_id):
        yield from batched(group, BATCH)


def _say(planned: PairPlan, cleanup: Cleanup, result: Moved, verdicts: dict[int, Verdict]) -> None:
    tally, context, label = cleanup.tally, cleanup.context, planned.pair.label
    for backup in result.done:
        tally.deleted.append((backup.shown_path, backup.size))
        context.info(f"{label}: {backup.shown_path} moved to the trash: {verdicts[backup.pk].text}")
    for _, why in result.left:
        # Another cleanup was quicker, or something became known since the plan was made: no failure of this one.
        tally.left_alone += 1
        context.warning(f"{label}: {why}")
    for backup, error in result.failed:
        tally.failed.append(backup.shown_path)
        tally.problems.append(f"{label}: {error}")
        context.error(f"{label}: {backup.shown_path} was not deleted: {error}")


def _stopped(planned: PairPlan, cleanup: Cleanup, stops: Sequence[Stop], *, waiting: int) -> None:
    cleanup.tally.waiting_count += waiting
    cleanup.tally.kept_count += waiting
    for stop in stops:
        cleanup.tally.stop(planned, stop)
        more = "" if waiting == len(planned.plan.delete) else " more"
        cleanup.context.warning(f"{planned.pair.label}: nothing{more} was deleted. {stop.text}")


def _deletions(planned: PairPlan) -> list[dict[str, Any]]:
    """What the plan would delete, each with its reasons; at most `MAX_LISTED`."""
    return [
        {
            "job_id": planned.pair.job.pk,
            "target_id": planned.pair.target_id,
            "uid": verdict.uid,
            "path": planned.backups[verdict.uid].shown_path,
            "size": planned.backups[verdict.uid].size,
            "reasons": [reason.to_mapping() for reason in verdict.reasons],
        }
        for verdict in planned.plan.delete[:MAX_LISTED]
    ]


def _count(tally: Tally, planned: PairPlan) -> dict[str, Any]:
    """Enter a pair as planned; returns its entry."""
    plan = planned.plan
    tally.targets_processed += 1
    tally.kept_count += len(plan.keep)
    tally.planned_count += len(plan.delete)
    entry = {
        "job": planned.pair.job.name,
        "job_id": planned.pair.job.pk,
        "target": planned.pair.target_name,
        "target_id": planned.pair.target_id,
        "kept": len(plan.keep),
        "deleted": len(plan.delete),
        "policy": plan.policy.to_mapping(),
        "digest": plan.digest,
        "stops": [stop.to_mapping() for stop in plan.stops],
    }
    tally.pairs.append(entry)
    return entry


def _fail(tally: Tally, failure: PairFailure) -> None:
    pair: Pair = failure.pair
    if pair.key not in {(entry["job_id"], entry["target_id"]) for entry in tally.pairs}:
        tally.targets_processed += 1
    tally.failed.append(pair.label)
    tally.problems.append(f"{pair.label}: {failure.reason}")
