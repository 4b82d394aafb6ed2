"""Bring the catalogue to where a storage is: after the database was restored from an older copy, or copies were put
there by hand. In the storage nothing is changed but its epoch.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import batched
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from backups.choices import IN_TRANSIT, ON_STORAGE, BackupState
from backups.models import AuditAction, Backup, BackupJob, BackupRunTarget, Storage, Target
from backups.retention.suspicion import LOOK_BACK, suspect_reason
from backups.services.audit import Authority, audit, audit_backups
from backups.services.epochs import epoch_lead
from backups.services.names import MAX_NAME
from backups.services.protections import lock_backups
from backups.services.storages import storage_backend
from backups.services.trash import UNTRASH_NOTE, UNTRASH_PIN
from backups.storage import ArtifactName, OpenStorage, Sidecar, StorageError
from backups.storage.epoch import LARGEST
from scheduling.printable import printable
from scheduling.units import counted

# Databases limit how many values one statement may name.
AT_ONCE = 500

UID_IN_FILENAME = slice(18, 34)

GONE = "Its file was not in the storage when the catalogue was compared with it."
IN_TRASH = "Its file was found in the trash when the catalogue was compared with the storage."


@dataclass(kw_only=True)
class Reconciliation:
    """What was done to make the catalogue agree with a storage; copies by their relative names.

    `adopted` and `adopted_trashed` are new in the catalogue; `missing` have no file any more; `trashed` and `found`
    are known copies whose file turned up in the trash, or in its place again. `left` says of each file or row that
    could not be settled why not. `lead` is by how many changes the storage was ahead.
    """

    storage: Storage
    lead: int
    epoch: int = 0
    adopted: list[str] = field(default_factory=list)
    adopted_trashed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    trashed: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def message(self) -> str:
        """What was done, in a sentence or two."""
        said = [
            f"{len(names):,} {'copy' if len(names) == 1 else 'copies'} {what}"
            for names, what in (
                (self.adopted, "entered into the catalogue"),
                (self.adopted_trashed, "entered as lying in the trash"),
                (self.missing, "marked as missing"),
                (self.trashed, "found in the trash, and listed there now"),
                (self.found, "found in place again"),
            )
            if names
        ]
        done = ", ".join(said) or "the catalogue lists what is there, and nothing was changed"
        left = f" {counted(len(self.left), 'thing')} could not be settled." if self.left else ""
        return f"{self.storage.name}: {done}.{left}"


@dataclass(frozen=True, kw_only=True)
class _File:
    """An artifact in its place or in the trash; without a usable sidecar `problem` says what is wrong with it."""

    shown: str
    size: int
    in_trash: bool
    sidecar: Sidecar | None
    problem: str = ""


def storage_reconcile(*, storage: Storage, by: str, now: datetime | None = None) -> Reconciliation:
    """Enter what lies in the storage with a valid sidecar, mark what is gone, and let both count the same epoch again.

    Entered copies belong to the job and target of the names in their sidecars, when there are such, and are not
    verified: their sizes were compared, their bytes were not read. Raises `StorageError` when the storage cannot be
    read as a whole; nothing is changed then.
    """
    now = now or timezone.now()
    with storage_backend(storage).open() as handle:
        result = Reconciliation(storage=storage, lead=epoch_lead(storage=storage, handle=handle))
        files = dict(handle.list_artifacts())
        strays = _strays(storage, handle, files, result)
        moved = _moved(storage, handle, files, result)
        # A disk that has just gone takes its files along: they are not missing.
        handle.verify()
        with transaction.atomic():
            _follow(moved, by, now, result)
            _adopt(storage, strays, by, now, result)
            result.epoch = _count_on(storage, handle)
            ahead = f" The storage was {counted(result.lead, 'change')} ahead." if result.lead else ""
            audit(
                action=AuditAction.RECONCILE,
                actor=by,
                reason=result.message + ahead,
                storage_name=storage.name,
                now=now,
            )
        # The row first, as always: a process that dies in between leaves no lead.
        handle.raise_epoch(result.epoch)
    return result


def _strays(
    storage: Storage, handle: OpenStorage, files: Mapping[str, int], result: Reconciliation
) -> dict[str, _File]:
    """The artifacts that no row stands for, by uid, with sidecars that agree with them; others are noted as left."""
    known = _known(storage)
    strays: dict[str, _File] = {}
    for file in _unlisted(handle, files, known):
        if file.sidecar is None:
            result.left.append(f"{file.shown} is not in the catalogue, and its sidecar is of no use: {file.problem}")
            continue
        uid = file.sidecar.name.uid
        if uid in strays or known.get(uid) == "":
            continue
        if why := known.get(uid):
            result.left.append(f"{file.shown} {why}")
        elif file.sidecar.size != file.size:
            said = f"has {file.size:,} bytes and its sidecar says {file.sidecar.size:,}"
            result.left.append(f"{file.shown} is not in the catalogue: it {said}. Look at it by hand.")
        else:
            strays[uid] = file
    return strays


def _known(storage: Storage) -> dict[str, str]:
    """By uid, what the catalogue already speaks of: "" for a copy it counts on here, else why it cannot be entered."""
    known = dict.fromkeys(
        BackupRunTarget.objects.filter(unsettled=True).values_list("uid", flat=True),
        "belongs to a run whose end is not settled yet. Compare again in a minute.",
    )
    for uid, storage_id, state in Backup.objects.values_list("uid", "storage_id", "state").iterator():
        if storage_id != storage.pk:
            known[uid] = "carries the id of a copy in another storage, and was left alone."
        elif state == BackupState.DELETED:
            known[uid] = "is there again though the catalogue says that it was deleted. It was left alone."
        else:
            known[uid] = ""
    return known


def _unlisted(handle: OpenStorage, files: Mapping[str, int], known: Mapping[str, str]) -> Iterator[_File]:
    """What is not listed, those in their places first; a sidecar is read only where it is needed."""
    for relative, size in sorted(files.items()):
        name = ArtifactName.parse(relative)
        if known.get(name.uid) == "":
            continue
        try:
            sidecar, problem = handle.read_sidecar(name), ""
        except StorageError as error:
            sidecar, problem = None, str(error)
        yield _File(shown=relative, size=size, in_trash=False, sidecar=sidecar, problem=problem)
    for item in handle.list_trash():
        shown = f"{printable(item.filename)} in the trash"
        if item.sidecar is None and known.get(item.filename[UID_IN_FILENAME]) == "":
            continue
        yield _File(shown=shown, size=item.size, in_trash=True, sidecar=item.sidecar, problem=item.problem)


def _moved(
    storage: Storage, handle: OpenStorage, files: Mapping[str, int], result: Reconciliation
) -> dict[BackupState, dict[int, str]]:
    """The rows that say something else than the storage: by the state they should have, their keys with the old one."""
    moved: dict[BackupState, dict[int, str]] = defaultdict(dict)
    rows = Backup.objects.filter(storage=storage).exclude(state__in=(*IN_TRANSIT, BackupState.DELETED))
    for backup in rows.only("folder", "suffix", "created_at", "uid", "state", "size").iterator():
        try:
            name = backup.artifact
        except ValueError:
            result.left.append(f"The row {backup.uid} names no possible file, and stayed as it is.")
            continue
        # What was not in the list may have been published since.
        size = files.get(name.relative) or handle.stat(name)
        state = _place(backup, size, in_trash=not size and handle.in_trash(name))
        if state is not None:
            moved[state][backup.pk] = backup.state
    return moved


def _place(backup: Backup, size: int | None, *, in_trash: bool) -> BackupState | None:
    """The state that a row should have by its file's place; None when it may stay as it is."""
    if size:
        is_back = backup.state in (BackupState.TRASHED, BackupState.MISSING) and size == backup.size
        return BackupState.AVAILABLE if is_back else None
    if in_trash:
        return BackupState.TRASHED if backup.state in ON_STORAGE else None
    return BackupState.MISSING if backup.state != BackupState.MISSING else None


def _follow(moved: Mapping[BackupState, Mapping[int, str]], by: str, now: datetime, result: Reconciliation) -> None:
    """Let rows say where their files are, those that are still as they were when they were compared."""
    in_place = {"state_reason": "", "trashed_at": None, "removed_by": "", "verdict": None}
    places: tuple[tuple[BackupState, list[str], str, dict[str, Any]], ...] = (
        (BackupState.MISSING, result.missing, GONE, {"state_reason": GONE}),
        # From now on it has its whole time in the trash: whoever looks at this may have to undo something.
        (BackupState.TRASHED, result.trashed, IN_TRASH, {"state_reason": IN_TRASH, "trashed_at": now}),
        (BackupState.AVAILABLE, result.found, "Its file is in its place.", in_place),
    )
    for state, names, reason, values in places:
        old = moved.get(state, {})
        for keys in batched(old, AT_ONCE):
            rows = [backup for backup in lock_backups(keys) if backup.state == old[backup.pk]]
            audit_backups(
                entries=((backup, reason) for backup in rows),
                action=AuditAction.RECONCILE,
                authority=Authority(actor=by),
                now=now,
            )
            Backup.objects.filter(pk__in=[backup.pk for backup in rows]).update(state=state, **values)
            if state == BackupState.AVAILABLE:
                _keep_what_came_back(rows, by, now)
            names += [backup.shown_path for backup in rows]


def _keep_what_came_back(rows: list[Backup], by: str, now: datetime) -> None:
    """Pin what someone brought back from the trash, as was done then: the next cleanup would take it again."""
    back = [backup.pk for backup in rows if backup.state == BackupState.TRASHED]
    unprotected = Backup.objects.filter(Q(pinned_at__isnull=True) | Q(pin_until__lt=now + UNTRASH_PIN), pk__in=back)
    unprotected.update(pinned_at=now, pinned_by=by, pin_until=now + UNTRASH_PIN, pin_note=UNTRASH_NOTE)


def _adopt(storage: Storage, strays: Mapping[str, _File], by: str, now: datetime, result: Reconciliation) -> None:
    """Enter copies into the catalogue, oldest first, so that each is held against those before it."""
    # Whatever was entered since the storage was looked through is no stray any more.
    taken = {
        uid
        for uids in batched(strays, AT_ONCE)
        for uid in Backup.objects.filter(uid__in=uids).values_list("uid", flat=True)
    }
    jobs, targets = {job.name: job for job in BackupJob.objects.all()}, {row.name: row for row in Target.objects.all()}
    sizes: dict[tuple[int, int], list[tuple[datetime, int]]] = {}
    made: list[Backup] = []
    for uid, file in strays.items():
        if uid not in taken and file.sidecar is not None:
            made.append(_row(storage, file, file.sidecar, jobs.get(file.sidecar.job), targets.get(file.sidecar.target)))
    made.sort(key=lambda backup: (backup.created_at, backup.uid))
    for backup in made:
        if backup.state == BackupState.TRASHED:
            backup.trashed_at = now
        elif backup.job_id and backup.target_id:
            pair = (backup.job_id, backup.target_id)
            if pair not in sizes:
                good = Backup.objects.of_pair(*pair).good().values_list("created_at", "size")
                sizes[pair] = sorted(good)
            _suspect(backup, sizes[pair])
        shown = result.adopted_trashed if backup.state == BackupState.TRASHED else result.adopted
        shown.append(backup.shown_path)
    Backup.objects.bulk_create(made, batch_size=200)
    audit_backups(
        entries=((backup, "Entered into the catalogue by its sidecar.") for backup in made),
        action=AuditAction.RECONCILE,
        authority=Authority(actor=by),
        now=now,
    )


def _row(storage: Storage, file: _File, sidecar: Sidecar, job: BackupJob | None, target: Target | None) -> Backup:
    name = sidecar.name
    return Backup(
        uid=name.uid,
        job=job,
        # Anybody may have written a sidecar; what cannot be shown cannot be stored everywhere either.
        job_name=printable(sidecar.job)[:MAX_NAME],
        target=target,
        target_name=printable(sidecar.target)[:MAX_NAME],
        storage=storage,
        folder=name.folder,
        suffix=name.suffix,
        created_at=name.created,
        size=sidecar.size,
        sha256=sidecar.sha256,
        entries=_figure(sidecar, "files"),
        source_bytes=_figure(sidecar, "bytes"),
        state=BackupState.TRASHED if file.in_trash else BackupState.AVAILABLE,
        state_reason="Entered into the catalogue by its sidecar; its bytes were not read.",
    )


def _suspect(backup: Backup, good: list[tuple[datetime, int]]) -> None:
    """Mark a copy that is much smaller than the good ones before it; else it is one of them for those after it."""
    place = bisect_left(good, (backup.created_at, 0))
    before = [size for _, size in reversed(good[max(0, place - LOOK_BACK) : place])]
    # Not every sidecar says how much is inside.
    backup.suspect_reason = suspect_reason(size=backup.size, entries=backup.entries or 1, previous_sizes=before)
    if not backup.suspect_reason:
        insort(good, (backup.created_at, backup.size))


def _figure(sidecar: Sidecar, name: str) -> int:
    value = sidecar.summary.get(name, 0)
    return value if isinstance(value, int) and 0 <= value < 2**63 else 0


def _count_on(storage: Storage, handle: OpenStorage) -> int:
    """Raise the row's epoch beyond what either says, and return it."""
    row = Storage.objects.select_for_update().get(pk=storage.pk)
    epoch = min(max(row.epoch, handle.read_epoch()) + 1, LARGEST)
    Storage.objects.filter(pk=storage.pk).update(epoch=epoch)
    return epoch
