"""Pins, holds and leases: what keeps a copy whatever its policy says."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backups.choices import BackupState
from backups.models import AuditAction, AuditEntry, Backup, Hold, Lease, LeasePurpose, Options
from backups.services.catalogue import backup_accept
from backups.services.protections import (
    BackupInUseError,
    backup_lease,
    backup_pin,
    backup_unpin,
    hold_place,
    hold_release,
    holds_clear_way,
    leases_sweep,
    protections_of,
    why_protected,
)
from backups.services.restore import RestoreRefusedError, backup_restore
from scheduling import holders
from scheduling.choices import RunTrigger
from scheduling.dispatch import scheduled_dispatch
from tests import factories
from tests.support import add_backup, artifact_path, make_job, move_to_trash, now, purge

pytestmark = pytest.mark.django_db

MORNING = datetime(2026, 11, 24, 9, tzinfo=UTC)


def ignore(*_: object) -> None:
    """For what a test does not look at."""


def words(backup: Backup, at: datetime | None = None) -> str:
    return why_protected([Backup.objects.get(pk=backup.pk)], now=at or now()).get(backup.pk, "")


@pytest.fixture
def pair(tmp_path: Path) -> list[Backup]:
    """Three real copies of one pair, oldest first."""
    job = make_job(tmp_path)
    return [add_backup(job, now() - timedelta(days=days)) for days in (3, 2, 1)]


# --- Pins ---------------------------------------------------------------------------------------------------------


def test_a_pinned_copy_is_left_by_a_cleanup_that_planned_to_delete_it(pair: list[Backup]) -> None:
    """R19: checked again in the transaction that deletes."""
    backup_pin(backup=pair[0], by="anna", note="tax records")
    result = move_to_trash(pair[0], pair[1])
    assert [backup.uid for backup in result.done] == [pair[1].uid]
    [(left, why)] = result.left
    assert left.uid == pair[0].uid
    assert "pinned for ever by anna: tax records" in why
    assert artifact_path(pair[0]).is_file()


def test_a_pinned_copy_in_the_trash_is_not_purged(pair: list[Backup]) -> None:
    move_to_trash(pair[0])
    backup_pin(backup=pair[0], by="anna", until=now() + timedelta(days=1))
    assert not purge(Backup.objects.get(pk=pair[0].pk)).done
    Backup.objects.filter(pk=pair[0].pk).update(pin_until=now() - timedelta(seconds=1))
    assert purge(Backup.objects.get(pk=pair[0].pk)).done


def test_a_pin_protects_until_its_moment_and_not_at_it() -> None:
    backup = backup_pin(backup=factories.BackupFactory(), by="anna", until=MORNING + timedelta(days=1), now=MORNING)
    assert words(backup, MORNING + timedelta(days=1) - timedelta(microseconds=1)) == "pinned until 2026-11-25 by anna"
    assert words(backup, MORNING + timedelta(days=1)) == ""


@pytest.mark.parametrize(
    ("zone", "day"), [("UTC", "2026-12-25"), ("America/New_York", "2026-12-24"), ("no/where", "2026-12-25")]
)
def test_the_day_on_which_a_pin_ends_is_that_of_the_zone_people_live_in(zone: str, day: str) -> None:
    Options.load()
    Options.objects.update(timezone=zone)
    until = datetime(2026, 12, 25, 4, 59, tzinfo=UTC)
    backup = backup_pin(backup=factories.BackupFactory(), by="anna", until=until, now=MORNING)
    assert f"until {day}" in words(backup, MORNING)


def test_pinning_again_replaces_the_pin_and_both_are_in_the_audit() -> None:
    backup = factories.BackupFactory()
    backup_pin(backup=backup, by="anna", note="one", now=MORNING)
    again = backup_pin(backup=backup, by="bert", note=" two \n words ", until=MORNING + timedelta(days=2), now=MORNING)
    assert (again.pinned_by, again.pin_note, again.pin_until) == ("bert", "two words", MORNING + timedelta(days=2))
    assert [(entry.actor, entry.reason) for entry in AuditEntry.objects.order_by("pk")] == [
        ("anna", "for ever: one"),
        ("bert", "until 2026-11-26 09:00 UTC: two words"),
    ]


@pytest.mark.parametrize(
    ("values", "field"),
    [({"until": MORNING}, "until"), ({"until": MORNING - timedelta(days=1)}, "until"), ({"note": "x" * 201}, "note")],
    ids=["now", "past", "long note"],
)
def test_a_pin_that_cannot_be_changes_nothing(values: dict[str, object], field: str) -> None:
    backup = factories.BackupFactory()
    with pytest.raises(ValidationError) as refused:
        backup_pin(backup=backup, by="anna", now=MORNING, **values)  # type: ignore[arg-type]
    assert list(refused.value.message_dict) == [field]
    backup.refresh_from_db()
    assert backup.pinned_at is None
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("state", ["deleting", "purging", "deleted"])
def test_a_copy_whose_bytes_are_going_cannot_be_pinned(state: str) -> None:
    backup = factories.BackupFactory(state=state, trashed_at=now(), deleted_at=now())
    with pytest.raises(ValidationError, match="cannot be pinned"):
        backup_pin(backup=backup, by="anna")
    assert not AuditEntry.objects.exists()


def test_without_its_pin_a_copy_may_go_again(pair: list[Backup]) -> None:
    backup_pin(backup=pair[0], by="anna")
    backup_unpin(backup=Backup.objects.get(pk=pair[0].pk), by="bert")
    assert [backup.uid for backup in move_to_trash(pair[0]).done] == [pair[0].uid]
    with pytest.raises(ValidationError, match="is not pinned"):
        backup_unpin(backup=pair[1], by="bert")


# --- Holds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ((), True),
        (("job",), True),
        (("target",), True),
        (("storage",), True),
        (("job", "target", "storage"), True),
        (("other job",), False),
        (("job", "other target"), False),
        (("target", "other storage"), False),
    ],
    ids=lambda value: " + ".join(value) or "everything" if isinstance(value, tuple) else "",
)
def test_a_hold_covers_what_all_of_its_parts_share(scope: tuple[str, ...], covered: bool) -> None:
    backup, other = factories.BackupFactory(), factories.BackupFactory()
    parts = {
        name.removeprefix("other "): getattr(other if name.startswith("other") else backup, name.split()[-1])
        for name in scope
    }
    hold_place(by="anna", note="court case", **parts)
    assert bool(words(backup)) is covered


def test_a_held_copy_is_left_by_a_cleanup_and_by_a_purge(pair: list[Backup]) -> None:
    move_to_trash(pair[0])
    hold = hold_place(by="anna", note="court case", target=pair[0].target)
    assert "held by anna (target etc): court case" in move_to_trash(pair[1]).left[0][1]
    assert not purge(Backup.objects.get(pk=pair[0].pk)).done
    hold_release(hold=hold, by="bert")
    assert move_to_trash(pair[1]).done
    assert purge(Backup.objects.get(pk=pair[0].pk)).done
    held = AuditEntry.objects.filter(action__in=(AuditAction.HOLD, AuditAction.RELEASE)).order_by("pk")
    assert [(entry.action, entry.actor, entry.reason) for entry in held] == [
        ("hold", "anna", "target etc: court case"),
        ("release", "bert", "target etc: court case"),
    ]


def test_a_hold_ends_at_its_moment() -> None:
    backup = factories.BackupFactory()
    hold_place(by="anna", note="a day", until=MORNING + timedelta(days=1), now=MORNING)
    assert words(backup, MORNING + timedelta(hours=23))
    assert not words(backup, MORNING + timedelta(days=1))


@pytest.mark.parametrize("values", [{"note": " "}, {"note": "x", "until": MORNING}, {"note": "x" * 201}], ids=str)
def test_a_hold_that_cannot_be_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        hold_place(by="anna", now=MORNING, **values)  # type: ignore[arg-type]
    assert not Hold.objects.exists()
    assert not AuditEntry.objects.exists()


def test_releasing_twice_is_recorded_once() -> None:
    hold = hold_place(by="anna", note="x")
    for _ in range(2):
        hold_release(hold=Hold(pk=hold.pk, note="x"), by="bert")
    assert AuditEntry.objects.filter(action=AuditAction.RELEASE).count() == 1


@pytest.mark.parametrize("noun", ["job", "target", "storage"])
def test_what_is_held_cannot_be_deleted_until_the_hold_is_released_or_over(noun: str) -> None:
    backup = factories.BackupFactory()
    row = getattr(backup, noun)
    hold_place(by="anna", note="court case", until=MORNING + timedelta(days=1), now=MORNING, **{noun: row})
    with pytest.raises(ValidationError, match=r"A hold by anna covers it .*: court case\. Release it first\."):
        holds_clear_way(now=MORNING, **{noun: row})
    hold_place(by="bert", note="another one", target=factories.TargetFactory(), now=MORNING)
    holds_clear_way(now=MORNING + timedelta(days=1), **{noun: row})
    assert [hold.placed_by for hold in Hold.objects.all()] == ["bert"]


# --- Leases -------------------------------------------------------------------------------------------------------


def test_a_copy_in_use_is_left_by_a_cleanup_as_long_as_it_is(pair: list[Backup]) -> None:
    """R8."""
    with backup_lease(backup=pair[0], purpose=LeasePurpose.VERIFY):
        assert "being verified since" in move_to_trash(pair[0]).left[0][1]
    assert not Lease.objects.exists()
    assert move_to_trash(pair[0]).done


def test_several_may_use_a_copy_at_once(pair: list[Backup]) -> None:
    with backup_lease(backup=pair[0], purpose=LeasePurpose.RESTORE):
        with backup_lease(backup=pair[0], purpose=LeasePurpose.DOWNLOAD):
            assert words(pair[0]).count("since") == 2
        assert "being restored" in words(pair[0])
    assert words(pair[0]) == ""


def test_a_lease_whose_process_died_protects_nothing_and_is_swept() -> None:
    lease = factories.LeaseFactory(holder=f"{holders.host_id()}.{'0' * 24}")
    assert words(lease.backup) == ""
    assert leases_sweep() == 1
    assert not Lease.objects.exists()


def test_a_live_lease_is_kept_however_long_it_lasts() -> None:
    backup = factories.BackupFactory()
    with backup_lease(backup=backup, purpose=LeasePurpose.RESTORE, now=now() - timedelta(days=5)):
        assert leases_sweep() == 0
        assert "being restored" in words(backup)


@pytest.mark.parametrize("state", ["deleting", "trashed", "purging", "deleted"])
def test_a_copy_on_its_way_out_cannot_be_used(state: str) -> None:
    backup = factories.BackupFactory(state=state, trashed_at=now(), deleted_at=now())
    with (
        pytest.raises(BackupInUseError, match="Look at its page"),
        backup_lease(backup=backup, purpose=LeasePurpose.RESTORE),
    ):
        pytest.fail("the body must not run")
    assert not Lease.objects.exists()


def test_protections_cost_the_same_queries_for_many_copies() -> None:
    backups = factories.BackupFactory.create_batch(30)
    hold_place(by="anna", note="x", target=backups[0].target)
    backup_pin(backup=backups[1], by="anna", until=now() + timedelta(days=1))
    rows = list(Backup.objects.all())
    with CaptureQueriesContext(connection) as queries:
        assert len(protections_of(rows, now=now())) == 2
    assert len(queries) <= 3


# --- Restoring ----------------------------------------------------------------------------------------------------


@pytest.fixture
def restorable(tmp_path: Path) -> Backup:
    """A real archive, and a newer copy that would let it go."""
    job = make_job(tmp_path)
    scheduled_dispatch("backup", job.pk, inline=True, trigger=RunTrigger.MANUAL)
    backup = Backup.objects.get()
    add_backup(job, now() + timedelta(seconds=1), verified_at=now())
    return backup


def test_a_cleanup_leaves_a_copy_alone_while_it_is_being_restored(restorable: Backup, tmp_path: Path) -> None:
    """R8: the cleanup comes between the check and the unpacking, and after the restore it may go on."""
    later = now() + timedelta(minutes=1)
    seen: dict[str, str] = {}

    def clean_up(phase: str, done: int, total: int) -> None:
        if phase not in seen and done == total:
            result = move_to_trash(restorable, now=later)
            seen[phase] = result.left[0][1] if result.left else "moved"

    restored = backup_restore(
        backup=restorable, destination=tmp_path / "out", stop=threading.Event(), log=ignore, progress=clean_up
    )
    assert set(seen) == {"checking", "unpacking"}
    assert all("being restored since" in why for why in seen.values()), seen
    assert restored.summary.files == 3
    restorable.refresh_from_db()
    assert restorable.state == BackupState.AVAILABLE
    assert not Lease.objects.exists()
    assert move_to_trash(restorable, now=later).done


def test_a_copy_that_is_being_used_can_be_restored_as_well(restorable: Backup, tmp_path: Path) -> None:
    with backup_lease(backup=restorable, purpose=LeasePurpose.RESTORE):
        backup_restore(
            backup=restorable, destination=tmp_path / "out", stop=threading.Event(), log=ignore, progress=ignore
        )
        assert Lease.objects.count() == 1


def test_a_copy_that_was_condemned_in_this_very_moment_is_not_restored(restorable: Backup, tmp_path: Path) -> None:
    # The row in hand still says available.
    Backup.objects.filter(pk=restorable.pk).update(state=BackupState.DELETING, holder="0" * 24)
    with pytest.raises(RestoreRefusedError, match="is deleting now"):
        backup_restore(
            backup=restorable, destination=tmp_path / "out", stop=threading.Event(), log=ignore, progress=ignore
        )
    assert not (tmp_path / "out").exists()


def test_a_restore_that_fails_gives_the_copy_free(restorable: Backup, tmp_path: Path) -> None:
    artifact_path(restorable).unlink()
    with pytest.raises(Exception, match="is not there"):
        backup_restore(
            backup=restorable, destination=tmp_path / "out", stop=threading.Event(), log=ignore, progress=ignore
        )
    assert not Lease.objects.exists()


# --- Accepting ----------------------------------------------------------------------------------------------------


def test_accepting_a_suspect_copy_says_who_did_and_what_was_suspect() -> None:
    backup = factories.BackupFactory(suspect=True)
    backup_accept(backup=backup, by="anna")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.reason) == ("accept", "anna", backup.suspect_reason)
    with pytest.raises(ValidationError):
        backup_accept(backup=backup, by="bert")
    assert AuditEntry.objects.count() == 1
