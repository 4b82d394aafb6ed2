"""Cleanups and purges that are cancelled, or that wake up after another host took them for lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction

from backups.choices import BackupState
from backups.models import AuditEntry, Backup, BackupJob
from backups.services.moved import BATCH
from backups.services.options import options_update
from backups.services.recovery import backups_recover
from backups.services.trash import backups_trash
from backups.storage import ArtifactName, OpenStorage
from maintenance.models import MaintenanceJob, MaintenanceRun
from maintenance.tasks import purge_trash, retention_cleanup
from scheduling.choices import ACTIVE, RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.executing import execute_run
from scheduling.keeper import Keeper
from scheduling.ledger import run_cancel
from scheduling.registry import get_kind
from scheduling.stopping import LEASE_SECONDS, StopReason, elapsed
from tests.factories import MaintenanceJobFactory
from tests.support import add_backup, assert_catalogue_matches_storage, make_job, move_to_trash, now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_blast_radius")]
COPIES = 2 * BATCH + 23


@pytest.fixture
def cleanup() -> MaintenanceJob:
    options_update(retention={"keep_last": 3})
    return MaintenanceJobFactory(key="by_hand", name="By hand")


@pytest.fixture
def emptying() -> MaintenanceJob:
    return MaintenanceJobFactory(key="emptying", name="Emptying", job_type="purge_trash")


@pytest.fixture
def job(tmp_path: Path) -> BackupJob:
    """A job with copies of the last hours."""
    made = make_job(tmp_path)
    for hours in range(COPIES, 0, -1):
        add_backup(made, now() - timedelta(hours=hours))
    return made


@pytest.fixture
def trash(job: BackupJob) -> list[Backup]:
    """All but the newest, in the trash for long enough."""
    going = list(Backup.objects.order_by("created_at")[: COPIES - 1])
    move_to_trash(*going)
    Backup.objects.trashed().update(trashed_at=now() - timedelta(days=30))
    return going


def run_job(job: MaintenanceJob, **request: Any) -> MaintenanceRun:
    run = scheduled_dispatch("maintenance", job.pk, inline=True, trigger=RunTrigger.COMMAND, **request)
    assert isinstance(run, MaintenanceRun)
    return run


def lose() -> None:
    """What another host does with a run whose lease has ended."""
    with transaction.atomic():
        lost = MaintenanceRun.objects.filter(status__in=ACTIVE)
        assert lost.update(status=RunStatus.LOST, message="It was lost.", finished_at=now()) == 1


def states() -> dict[str, int]:
    found: dict[str, int] = {}
    for state in Backup.objects.values_list("state", flat=True):
        found[state] = found.get(state, 0) + 1
    return found


def before_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, act: Callable[[], None]) -> None:
    """Do something right before the call of that number."""
    original, calls = getattr(owner, name), []

    def watched(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == number:
            act()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, watched)


@pytest.mark.parametrize(
    ("name", "owner", "function", "says"),
    [
        (
            "cleanup",
            retention_cleanup,
            "backups_trash",
            f"{BATCH} of {COPIES - 3} had been moved to the trash until then, and can be brought back; "
            "nothing is half moved.",
        ),
        (
            "emptying",
            purge_trash,
            "backups_purge",
            f"{BATCH} of {COPIES - 1} had been removed for good until then; the others are in the trash as they were.",
        ),
    ],
)
def test_a_cancel_from_a_page_stops_between_batches_and_says_what_was_done(
    name: str,
    owner: Any,
    function: str,
    says: str,
    job: BackupJob,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maintenance: MaintenanceJob = request.getfixturevalue(name)
    if name == "emptying":
        request.getfixturevalue("trash")
    before = states()
    stop = threading.Event()
    original = getattr(owner, function)

    def then_cancel(**kwargs: Any) -> Any:
        result = original(**kwargs)
        (run,) = MaintenanceRun.objects.filter(status=RunStatus.RUNNING)
        run_cancel(kind=get_kind("maintenance"), run_id=run.pk, by="anna")
        # What the keeper does with it, a second later at most.
        kwargs["fence"].context.stop.ask(StopReason.CANCEL)
        return result

    monkeypatch.setattr(owner, function, then_cancel)
    run = run_job(maintenance, stop=stop)
    assert run.status == RunStatus.CANCELLED
    assert run.message == f"Cancelled by anna before it was done. {says}"
    assert run.log_lines.last().text == run.message
    changed = {state: states().get(state, 0) - before.get(state, 0) for state in ("trashed", "deleted")}
    assert changed == ({"trashed": BATCH, "deleted": 0} if name == "cleanup" else {"trashed": -BATCH, "deleted": BATCH})
    assert_catalogue_matches_storage(job.storage)


@pytest.mark.django_db(transaction=True)
def test_a_cleanup_in_a_worker_hears_of_a_cancel_within_two_seconds(
    job: BackupJob, cleanup: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = OpenStorage.move_all_to_trash

    def slowly(self: OpenStorage, names: Sequence[ArtifactName]) -> Any:
        time.sleep(0.5)
        return slow(self, names)

    monkeypatch.setattr(OpenStorage, "move_all_to_trash", slowly)
    monkeypatch.setattr(retention_cleanup, "BATCH", 5)
    run = scheduled_dispatch("maintenance", cleanup.pk, trigger=RunTrigger.MANUAL)
    assert run is not None

    def work() -> None:
        try:
            execute_run("maintenance", run.pk)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    with Keeper(give_up=lambda _status: None):
        thread.start()
        while not Backup.objects.trashed().exists():
            time.sleep(0.05)
        progress = wait_for_progress(run.pk)
        clicked = time.monotonic()
        run_cancel(kind=get_kind("maintenance"), run_id=run.pk, by="anna")
        thread.join(30)
        taken = time.monotonic() - clicked
    ended = MaintenanceRun.objects.get(pk=run.pk)
    assert ended.status == RunStatus.CANCELLED
    assert taken < 4
    assert progress["step"] == "Moving copies to the trash"
    assert (progress["items_total"], progress["bytes_total"]) == (COPIES - 3, 64 * (COPIES - 3))
    assert progress["bytes"] == 64 * progress["items"] > 0
    assert_catalogue_matches_storage(job.storage)


def wait_for_progress(pk: int) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found: dict[str, Any] = MaintenanceRun.objects.get(pk=pk).progress
        if found.get("items"):
            return found
        time.sleep(0.05)
    raise AssertionError("no progress was written")


def test_a_lost_cleanup_that_wakes_up_before_a_batch_deletes_nothing_more(
    job: BackupJob, cleanup: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_call(monkeypatch, retention_cleanup, "backups_trash", 2, lose)
    run = run_job(cleanup)
    assert (run.status, run.message) == (RunStatus.LOST, "It was lost.")
    assert states() == {"trashed": BATCH, "available": COPIES - BATCH}
    assert AuditEntry.objects.filter(action="trash").count() == BATCH
    assert_catalogue_matches_storage(job.storage)


def test_a_lost_cleanup_that_wakes_up_before_its_plan_is_stored_leaves_none(
    job: BackupJob, cleanup: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_call(monkeypatch, retention_cleanup, "clock_jump", 1, lose)
    run = run_job(cleanup)
    assert run.status == RunStatus.LOST
    assert not run.plans.exists()
    assert states() == {"available": COPIES}


def test_a_cleanup_that_slept_past_its_lease_between_the_row_and_the_bytes_moves_none(
    job: BackupJob, cleanup: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing asked the database meanwhile, so that the clock alone has to say it."""
    contexts: list[Any] = []

    def keep(*, fence: Any, **kwargs: Any) -> Any:
        contexts.append(fence.context)
        return backups_trash(fence=fence, **kwargs)

    monkeypatch.setattr(retention_cleanup, "backups_trash", keep)
    before_call(
        monkeypatch,
        OpenStorage,
        "raise_epoch",
        1,
        lambda: contexts[0].stop.renewed(elapsed() - LEASE_SECONDS),
    )
    run = run_job(cleanup)
    assert run.status == RunStatus.FAILED
    assert "stopped itself" in run.message
    assert states() == {"deleting": BATCH, "available": COPIES - BATCH}
    backups_recover()
    assert states() == {"available": COPIES}
    assert_catalogue_matches_storage(job.storage)


def recover_as_another_host() -> None:
    """Recovery of a host for which the holder of these rows is dead; the rows are this process's own, so say so."""
    for backup in Backup.objects.filter(state=BackupState.DELETING):
        Backup.objects.filter(pk=backup.pk).update(holder="0" * 24)
    lose()
    backups_recover()


def test_what_moved_after_recovery_had_called_it_available_comes_back(
    job: BackupJob, cleanup: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine slept between the last look at the clock and the move."""
    before_call(monkeypatch, OpenStorage, "move_all_to_trash", 1, recover_as_another_host)
    run = run_job(cleanup)
    assert run.status == RunStatus.LOST
    assert states() == {"available": COPIES}
    assert_catalogue_matches_storage(job.storage)


def test_what_recovery_carried_on_to_the_trash_is_there_once(
    job: BackupJob, cleanup: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine slept after the move."""
    before_call(monkeypatch, OpenStorage, "move_sidecars_to_trash", 1, recover_as_another_host)
    run = run_job(cleanup)
    assert run.status == RunStatus.LOST
    assert states() == {"trashed": BATCH, "available": COPIES - BATCH}
    assert_catalogue_matches_storage(job.storage)


def test_a_lost_purge_that_wakes_up_before_a_batch_removes_nothing_more(
    job: BackupJob, trash: list[Backup], emptying: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_call(monkeypatch, purge_trash, "backups_purge", 2, lose)
    run = run_job(emptying)
    assert run.status == RunStatus.LOST
    assert states() == {"deleted": BATCH, "trashed": COPIES - 1 - BATCH, "available": 1}
    assert_catalogue_matches_storage(job.storage)


def test_a_purge_that_slept_past_its_lease_removes_nothing(
    job: BackupJob, trash: list[Backup], emptying: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def oversleep() -> None:
        Backup.objects.filter(state=BackupState.PURGING).update(holder="0" * 24)
        lose()
        backups_recover()
        contexts[0].stop.renewed(elapsed() - LEASE_SECONDS)

    contexts: list[Any] = []
    original = purge_trash.backups_purge

    def keep(*, fence: Any, **kwargs: Any) -> Any:
        contexts.append(fence.context)
        return original(fence=fence, **kwargs)

    monkeypatch.setattr(purge_trash, "backups_purge", keep)
    before_call(monkeypatch, OpenStorage, "raise_epoch", 1, oversleep)
    run = run_job(emptying)
    assert run.status == RunStatus.LOST
    assert states() == {"trashed": COPIES - 1, "available": 1}
    assert_catalogue_matches_storage(job.storage)


def test_what_was_purged_after_recovery_had_taken_it_back_is_said_to_be_gone(
    job: BackupJob, trash: list[Backup], emptying: MaintenanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look at the clock and the unlink: too late to bring back, not too late to say so."""

    def recover() -> None:
        Backup.objects.filter(state=BackupState.PURGING).update(holder="0" * 24)
        lose()
        backups_recover()

    before_call(monkeypatch, OpenStorage, "purge_all", 1, recover)
    run_job(emptying)
    assert states() == {"deleted": BATCH, "trashed": COPIES - 1 - BATCH, "available": 1}
    assert AuditEntry.objects.filter(action="purge").count() == BATCH
    assert_catalogue_matches_storage(job.storage)
