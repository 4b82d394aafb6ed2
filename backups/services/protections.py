"""What keeps a copy from being deleted whatever its policy says: pins, holds, and leases of what is in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils import timezone

from backups.choices import ON_STORAGE, BackupState
from backups.models import AuditAction, Backup, BackupJob, Hold, Lease, LeasePurpose, Options, Storage, Target
from backups.retention import Protection
from backups.services.audit import audit, audit_backup
from backups.services.errors import refuse
from scheduling import holders
from scheduling.cron import ScheduleError, load_zone

NOTE_LENGTH = 200
PINNABLE = (BackupState.AVAILABLE, BackupState.TRASHED, BackupState.MISSING, BackupState.QUARANTINED)
# A lease of another host's process cannot be looked at from here; no restore takes longer than this.
FOREIGN_LEASE = timedelta(hours=48)


class BackupInUseError(Exception):
    """The copy cannot be used now; the text says why and what to do."""


def backup_pin(
    *, backup: Backup, by: str, until: datetime | None = None, note: str = "", now: datetime | None = None
) -> Backup:
    """Keep a copy from every cleanup and purge, for ever or `until` a moment; replaces an earlier pin.

    A copy in the trash can be pinned too: it then stays there. Raises ValidationError keyed by field.
    """
    now = now or timezone.now()
    if until is not None and until <= now:
        raise refuse("until", "This moment has passed. Choose a later one, or leave it blank to pin for ever.")
    note = _note(note)
    with transaction.atomic():
        pinned = Backup.objects.filter(pk=backup.pk, state__in=PINNABLE).update(
            pinned_at=now, pinned_by=by, pin_until=until, pin_note=note
        )
        if not pinned:
            raise ValidationError(f"The backup {backup.uid} is gone or being moved right now, so it cannot be pinned.")
        end = f"until {until:%Y-%m-%d %H:%M %Z}" if until else "for ever"
        audit_backup(
            backup=backup, action=AuditAction.PIN, actor=by, reason=": ".join(filter(None, (end, note))), now=now
        )
    return Backup.objects.get(pk=backup.pk)


def backup_unpin(*, backup: Backup, by: str, now: datetime | None = None) -> Backup:
    """Let cleanups decide about a copy again. Raises ValidationError when it is not pinned."""
    with transaction.atomic():
        changed = Backup.objects.filter(pk=backup.pk, pinned_at__isnull=False).update(
            pinned_at=None, pinned_by="", pin_until=None, pin_note=""
        )
        if not changed:
            raise ValidationError(f"The backup {backup.uid} is not pinned.")
        audit_backup(backup=backup, action=AuditAction.UNPIN, actor=by, reason=backup.pin_note, now=now)
    return Backup.objects.get(pk=backup.pk)


def hold_place(
    *,
    by: str,
    note: str,
    job: BackupJob | None = None,
    target: Target | None = None,
    storage: Storage | None = None,
    until: datetime | None = None,
    now: datetime | None = None,
) -> Hold:
    """Stop deleting what all of `job`, `target` and `storage` cover; everything, when none is given.

    Raises ValidationError keyed by field.
    """
    now = now or timezone.now()
    if not _note(note):
        raise refuse("note", "Say why, so that whoever releases it knows whether it may go.")
    if until is not None and until <= now:
        raise refuse("until", "This moment has passed. Choose a later one, or leave it blank to hold until released.")
    with transaction.atomic():
        hold = Hold.objects.create(
            job=job, target=target, storage=storage, note=_note(note), placed_by=by, placed_at=now, until=until
        )
        audit(action=AuditAction.HOLD, actor=by, reason=f"{hold.scope}: {hold.note}", now=now)
    return hold


def hold_release(*, hold: Hold, by: str, now: datetime | None = None) -> None:
    """Let cleanups go on with what the hold covered."""
    with transaction.atomic():
        deleted, _ = Hold.objects.filter(pk=hold.pk).delete()
        if deleted:
            audit(action=AuditAction.RELEASE, actor=by, reason=f"{hold.scope}: {hold.note}", now=now)


def holds_clear_way(
    *,
    job: BackupJob | None = None,
    target: Target | None = None,
    storage: Storage | None = None,
    now: datetime | None = None,
) -> None:
    """Forget the holds on what is to be deleted that have ended; call it in the transaction that deletes.

    Raises ValidationError while one is in force.
    """
    named = {"job": job, "target": target, "storage": storage}
    holds = Hold.objects.filter(**{name: row for name, row in named.items() if row is not None})
    if hold := holds.in_force(now or timezone.now()).select_related("job", "target", "storage").first():
        raise ValidationError(f"A hold by {hold.placed_by} covers it ({hold.scope}): {hold.note}. Release it first.")
    holds.delete()


@contextmanager
def backup_lease(*, backup: Backup, purpose: LeasePurpose, now: datetime | None = None) -> Iterator[None]:
    """Keep a copy's bytes where they are for the body; several may at once.

    Raises `BackupInUseError` when they are on their way out.
    """
    with holders.hold() as holder:
        with transaction.atomic():
            # The row's lock makes a deletion that is under way wait, and then see the lease.
            current = Backup.objects.select_for_update(of=("self",)).filter(pk=backup.pk).first()
            if current is None or current.state not in ON_STORAGE:
                state = current.get_state_display().lower() if current else "gone"
                raise BackupInUseError(f"{backup} is {state} now. Look at its page, then try again.")
            lease = Lease.objects.create(backup=current, purpose=purpose, holder=holder, taken_at=now or timezone.now())
        try:
            yield
        finally:
            lease.delete()


def protections_of(backups: Sequence[Backup], *, now: datetime) -> dict[int, tuple[Protection, ...]]:
    """The protections of copies by primary key; those without any are left out. Two queries, however many copies, and
    one more when a pin has an end.
    """
    found: dict[int, tuple[Protection, ...]] = {}
    holds = list(Hold.objects.in_force(now).select_related("job", "target", "storage"))
    leases = _leases(backups, now)
    zone = _zone() if any(backup.pin_until for backup in backups) else UTC
    for backup in backups:
        mine = [*_pin(backup, now, zone), *_holds(backup, holds), *leases.get(backup.pk, ())]
        if mine:
            found[backup.pk] = tuple(mine)
    return found


def why_protected(backups: Sequence[Backup], *, now: datetime) -> dict[int, str]:
    """For each protected copy by primary key, why it may not be deleted, in words. Call it in the transaction that
    deletes, with rows read in it.
    """
    return {
        pk: "; ".join(protection.text for protection in protections)
        for pk, protections in protections_of(backups, now=now).items()
    }


def leases_sweep() -> int:
    """Forget the leases of processes that are gone; returns how many."""
    now = timezone.now()
    gone = [lease.pk for lease in Lease.objects.all() if not _is_live(lease, now)]
    if gone:
        Lease.objects.filter(pk__in=gone).delete()
    return len(gone)


def lock_backups(keys: Iterable[int]) -> list[Backup]:
    """The rows as they are now, locked until the transaction ends, in the order of their keys."""
    rows = Backup.objects.filter(pk__in=list(keys)).order_by("pk")
    if connection.features.has_select_for_update:
        rows = rows.select_for_update(of=("self",))
    return list(rows.select_related("storage"))


def _note(note: str) -> str:
    text = " ".join(note.split())
    if len(text) > NOTE_LENGTH:
        raise refuse("note", f"The note has {len(text)} characters; {NOTE_LENGTH} are the most.")
    return text


def _zone() -> tzinfo:
    """The zone of the days that people see and type: that of Options."""
    try:
        return load_zone(Options.load().timezone)
    except ScheduleError:
        return UTC


def _pin(backup: Backup, now: datetime, zone: tzinfo) -> Iterator[Protection]:
    if backup.is_pinned(now):
        end = f"until {backup.pin_until.astimezone(zone):%Y-%m-%d}" if backup.pin_until else "for ever"
        note = f": {backup.pin_note}" if backup.pin_note else ""
        by = f" by {backup.pinned_by}" if backup.pinned_by else ""
        yield Protection(kind="pinned", text=f"pinned {end}{by}{note}", until=backup.pin_until)


def _holds(backup: Backup, holds: Iterable[Hold]) -> Iterator[Protection]:
    for hold in holds:
        covered = (
            hold.job_id in (None, backup.job_id)
            and hold.target_id in (None, backup.target_id)
            and hold.storage_id in (None, backup.storage_id)
        )
        if covered:
            text = f"held by {hold.placed_by} ({hold.scope}): {hold.note}"
            yield Protection(kind="held", text=text, until=hold.until)


def _leases(backups: Sequence[Backup], now: datetime) -> dict[int, list[Protection]]:
    found: dict[int, list[Protection]] = {}
    wanted = {backup.pk for backup in backups}
    for lease in Lease.objects.all():
        if lease.backup_id in wanted and _is_live(lease, now):
            text = f"{lease.get_purpose_display()} since {lease.taken_at:%Y-%m-%d %H:%M} UTC"
            found.setdefault(lease.backup_id, []).append(Protection(kind="in_use", text=text))
    return found


def _is_live(lease: Lease, now: datetime) -> bool:
    host = lease.holder.rpartition(".")[0]
    if host != holders.host_id() and now - lease.taken_at > FOREIGN_LEASE:
        return False
    return holders.is_held(lease.holder)
