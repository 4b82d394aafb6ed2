"""Moving backups out of the way and back, in steps that each leave a state recovery can tell apart.

The catalogue says it first, then the bytes move, and the catalogue says it again when they have. Many copies go
together, so that a folder is synced once for all of them; each still has its own row, its own audit entry and its own
way back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count, groupby
from typing import Any

from django.db import connection, transaction
from django.db.models import Case, JSONField, Q, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from backups.choices import BackupState
from backups.models import AuditAction, Backup, BackupJob
from backups.querysets import BackupQuerySet
from backups.services.audit import Authority, audit_backups
from backups.services.catalogue import backup_mark_missing
from backups.services.epochs import refuse_old_database, storage_changing
from backups.services.moved import BATCH, Moved, unnamed, verdict_text
from backups.services.protections import lock_backups, why_protected
from backups.services.storages import storage_backend
from backups.storage import ArtifactMissingError, OpenStorage, StorageError
from scheduling import holders
from scheduling.fencing import NO_FENCE, Fence

UNTRASH_PIN = timedelta(days=30)
UNTRASH_NOTE = "brought back from the trash"
GONE_REASON = (
    "Its file is not in the storage. Keepwell did not delete it: look for it on the disk "
    "or in the storage's own snapshots."
)


def backups_trash(
    *,
    items: Sequence[tuple[Backup, Mapping[str, Any]]],
    storage: OpenStorage,
    minimum_keep: int,
    authority: Authority,
    holder: str,
    now: datetime,
    fence: Fence = NO_FENCE,
) -> Moved:
    """Move copies of one pair in one storage to its trash, each with the verdict that condemns it.

    Whatever the plan said, a copy stays that is no longer good and available, is protected, is the newest verified of
    its pair, or without which the pair would have fewer than `max(1, minimum_keep)` good ones. Raises `StorageError`
    when the storage as a whole does not let anything be moved, ValueError for copies of several pairs or storages, and
    what `fence` raises: then nothing has moved, and recovery takes back what the rows say.
    """
    result = Moved()
    verdicts = {backup.pk: dict(verdict) for backup, verdict in items}
    if not verdicts:
        return result
    _refuse_mixture([backup for backup, _ in items])
    refuse_old_database(storage=items[0][0].storage, handle=storage)
    with transaction.atomic():
        fence.hold()
        going = _fit_to_go(lock_backups(verdicts), max(1, minimum_keep), storage, now, result)
        _say_deleting(going, verdicts, authority.run, holder)
        reasons = ((backup, verdict_text(verdicts[backup.pk])) for backup in going)
        audit_backups(entries=reasons, action=AuditAction.TRASH, authority=authority, now=now)
    known = {*result.settled, *(backup.pk for backup in going)}
    result.left += [(backup, _changed(backup)) for backup, _ in items if backup.pk not in known]
    if not going:
        return result
    with storage_changing(storage=going[0].storage, handle=storage):
        fence.check()
        _move_out(going, storage, holder, now, result)
    return result


def backup_resume_trashing(*, backup: Backup, storage: OpenStorage) -> None:
    """Bring a backup that says deleting to where its bytes say it is: back to available, on to trashed, or missing."""
    name = backup.artifact
    storage.discard_reservations(name)
    in_place = storage.stat(name) is not None
    if storage.in_trash(name):
        if in_place:
            # Where a move is a link and an unlink, both names are the one file until it is completed.
            storage.move_to_trash(name)
        storage.move_sidecar_to_trash(name)
        # Last: as long as the row says deleting, recovery knows that the sidecar may still have to follow.
        _say_trashed([backup], timezone.now())
    elif in_place:
        _say_available([backup])
    else:
        # A disk that has just gone takes its files along: they are not missing.
        storage.verify()
        backup_mark_missing(backup=backup, reason=GONE_REASON)


def backups_untrash(*, backups: Sequence[Backup], by: str, now: datetime | None = None) -> Moved:
    """Bring copies back from the trash to their places, pinned for `UNTRASH_PIN`: the cleanup that took them would
    take them again.

    Opens the storages itself; one that cannot be opened fails its own copies only.
    """
    now = now or timezone.now()
    result = Moved()
    ordered = sorted(backups, key=lambda backup: (backup.storage_id, backup.pk))
    for _, group in groupby(ordered, key=lambda backup: backup.storage_id):
        mine = list(group)
        try:
            with storage_backend(mine[0].storage).open() as storage, holders.hold() as holder:
                for start in range(0, len(mine), BATCH):
                    _untrash(mine[start : start + BATCH], storage, by, holder, now, result)
        except StorageError as error:
            settled = result.settled
            result.failed += [(backup, error) for backup in mine if backup.pk not in settled]
    return result


def _refuse_mixture(backups: Sequence[Backup]) -> None:
    if len({(backup.job_id, backup.target_id, backup.storage_id) for backup in backups}) != 1:
        raise ValueError("the copies are not of one pair in one storage")


def _fit_to_go(rows: Sequence[Backup], floor: int, storage: OpenStorage, now: datetime, result: Moved) -> list[Backup]:
    """Of locked rows, those that may be deleted after all; the others go to `result` with why."""
    protected = why_protected(rows, now=now)
    fit: list[Backup] = []
    for backup in rows:
        if backup.flaw or backup.created_at > now:
            result.left.append((backup, _changed(backup)))
        elif backup.pk in protected:
            result.left.append((backup, f"{backup.shown_path} stays: {protected[backup.pk]}."))
        elif (error := unnamed(backup)) is not None:
            result.failed.append((backup, error))
        else:
            fit.append(backup)
    if not fit:
        return fit
    # Two cleanups may be at the same pair: the lock lets each see what the other took. SQLite has one writer anyway.
    if connection.features.has_select_for_update:
        list(BackupJob.objects.select_for_update(no_key=True).filter(pk=fit[0].job_id or 0).values_list("pk"))
    good = Backup.objects.of_pair(fit[0].job_id or 0, fit[0].target_id or 0).good().filter(created_at__lte=now)
    fit = _without_newest_verified(fit, good.filter(verified_at__isnull=False), result)
    if not fit:
        return fit
    others = good.exclude(pk__in=[backup.pk for backup in fit]).order_by("-created_at", "-pk")
    lacking = floor - _count_there(others, floor, fit[0].storage_id, storage)
    newest_first = sorted(fit, key=lambda backup: (backup.created_at, backup.pk), reverse=True)
    for backup in newest_first[:lacking]:
        text = f"{backup.shown_path} stays: without it the pair would have fewer than {floor} good copies."
        result.left.append((backup, text))
    return newest_first[lacking:]


def _count_there(others: BackupQuerySet, floor: int, storage_id: int, storage: OpenStorage) -> int:
    """How many of the others, up to `floor`, have their file: rows alone restore nothing."""
    found = 0
    for start in count(0, floor):
        some = list(others[start : start + floor])
        found += sum(1 for backup in some if _is_there(backup, storage_id, storage))
        if found >= floor or len(some) < floor:
            break
    return min(found, floor)


def _is_there(backup: Backup, storage_id: int, storage: OpenStorage) -> bool:
    """Whether its file has its size; of a copy in another storage, which is not open here, the row is believed."""
    if backup.storage_id != storage_id:
        return True
    return unnamed(backup) is None and storage.stat(backup.artifact) == backup.size


def _without_newest_verified(fit: list[Backup], verified: Any, result: Moved) -> list[Backup]:
    """All but the newest verified copy of the pair, unless one as new, and verified as well, stays."""
    newest = verified.order_by("-created_at").values_list("created_at", flat=True).first()
    ties = set(verified.filter(created_at=newest).values_list("pk", flat=True)) if newest else set()
    if not ties or ties - {backup.pk for backup in fit}:
        return fit
    stays = min((backup for backup in fit if backup.pk in ties), key=lambda backup: backup.uid)
    text = f"{stays.shown_path} stays: it is the newest verified copy of the pair."
    result.left.append((stays, text))
    return [backup for backup in fit if backup.pk != stays.pk]


def _move_out(going: Sequence[Backup], storage: OpenStorage, holder: str, now: datetime, result: Moved) -> None:
    try:
        failures = storage.move_all_to_trash([backup.artifact for backup in going])
        if any(isinstance(error, ArtifactMissingError) for error in failures.values()):
            # A disk that has just gone takes its files along: then that is what failed.
            storage.verify()
        moved = result.sort_out(going, failures)
        moved = result.sort_out(moved, storage.move_sidecars_to_trash([backup.artifact for backup in moved]))
        if _say_trashed(moved, now, holder=holder) == len(moved):
            result.done += moved
        else:
            _follow_recovery(moved, storage, result)
    except StorageError as error:
        settled = result.settled
        result.failed += [(backup, error) for backup in going if backup.pk not in settled]
    _resume_failed(going, storage, result)


def _follow_recovery(moved: Sequence[Backup], storage: OpenStorage, result: Moved) -> None:
    """Give back what recovery had declared to be in its place, taking this process for dead, before it was moved."""
    states = dict(Backup.objects.filter(pk__in=[backup.pk for backup in moved]).values_list("pk", "state"))
    back = []
    for backup in moved:
        if states.get(backup.pk) == BackupState.TRASHED:
            result.done.append(backup)
        else:
            result.left.append((backup, f"{backup.shown_path} stays: this run was taken for lost meanwhile."))
            back += [backup.artifact] if states.get(backup.pk) == BackupState.AVAILABLE else []
    result.sort_out([backup for backup in moved if backup.artifact in back], storage.restore_all_from_trash(back))


def _untrash(
    backups: Sequence[Backup], storage: OpenStorage, by: str, holder: str, now: datetime, result: Moved
) -> None:
    coming: list[Backup] = []
    with transaction.atomic():
        for backup in lock_backups([backup.pk for backup in backups]):
            if backup.state != BackupState.TRASHED:
                text = f"{backup.shown_path} is not in the trash any more, so it was left alone."
                result.left.append((backup, text))
            elif (error := unnamed(backup)) is not None:
                result.failed.append((backup, error))
            else:
                coming.append(backup)
        rows = Backup.objects.filter(pk__in=[backup.pk for backup in coming], state=BackupState.TRASHED)
        # A pin that is there already stays as someone wanted it, unless it would end sooner.
        rows.filter(Q(pinned_at__isnull=True) | Q(pin_until__lt=now + UNTRASH_PIN)).update(
            pinned_at=now, pinned_by=by, pin_until=now + UNTRASH_PIN, pin_note=UNTRASH_NOTE
        )
        rows.update(state=BackupState.DELETING, holder=holder)
        entries = ((backup, f"pinned until {now + UNTRASH_PIN:%Y-%m-%d}") for backup in coming)
        audit_backups(entries=entries, action=AuditAction.UNTRASH, authority=Authority(actor=by), now=now)
    if not coming:
        return
    with storage_changing(storage=coming[0].storage, handle=storage):
        try:
            failures = storage.restore_all_from_trash([backup.artifact for backup in coming])
        except StorageError as error:
            failures = {backup.artifact: error for backup in coming}
        back = result.sort_out(coming, failures)
        _say_available(back)
        result.done += Backup.objects.filter(pk__in=[backup.pk for backup in back]).select_related("storage")
        _resume_failed(coming, storage, result)


def _resume_failed(backups: Sequence[Backup], storage: OpenStorage, result: Moved) -> None:
    """Let the rows of what failed say where the bytes are; what cannot be found out now waits for recovery."""
    mine = {backup.pk for backup in backups}
    for backup, _ in result.failed:
        if backup.pk in mine:
            try:
                backup_resume_trashing(backup=backup, storage=storage)
            except StorageError:
                continue


def _say_deleting(
    going: Sequence[Backup], verdicts: Mapping[int, Mapping[str, Any]], removed_by: str, holder: str
) -> None:
    if not going:
        return
    verdict = Case(
        *(When(pk=backup.pk, then=Value(verdicts[backup.pk], output_field=JSONField())) for backup in going),
        output_field=JSONField(),
    )
    available = Backup.objects.filter(pk__in=[backup.pk for backup in going], state=BackupState.AVAILABLE)
    changed = available.update(
        state=BackupState.DELETING, holder=holder, verdict=verdict, removed_by=removed_by, state_reason=""
    )
    if changed != len(going):
        raise RuntimeError(f"{len(going) - changed} locked rows changed under the lock; nothing was deleted")


def _say_trashed(backups: Sequence[Backup], now: datetime, **conditions: str) -> int:
    """Returns how many rows it was so of."""
    rows = Backup.objects.filter(pk__in=[backup.pk for backup in backups], state=BackupState.DELETING, **conditions)
    # A copy whose way back failed has been there since it first came.
    return rows.update(state=BackupState.TRASHED, trashed_at=Coalesce("trashed_at", now), holder="")


def _say_available(backups: Sequence[Backup]) -> None:
    rows = Backup.objects.filter(pk__in=[backup.pk for backup in backups], state=BackupState.DELETING)
    rows.update(state=BackupState.AVAILABLE, holder="", verdict=None, removed_by="", trashed_at=None)


def _changed(backup: Backup) -> str:
    return f"{backup.shown_path} changed since the plan was made, and was left alone."
