"""What stops a cleanup until someone has looked: the blast radius, the clock, old databases, plans that changed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from backups.choices import AttemptStatus
from backups.models import AuditAction, AuditEntry, Backup, BackupJob, Options, Storage
from backups.services.options import options_update
from backups.services.protections import backup_pin, hold_place
from backups.services.recovery import backups_recover
from maintenance.approvals import PlanChangedError, plan_approve, plan_confirm, plan_preview, plan_reject, plans_waiting
from maintenance.choices import PlanStatus
from maintenance.models import MaintenanceRun
from maintenance.plans import run_replay
from scheduling.choices import RunOutcome, RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.executing import execute_run
from scheduling.models import ClockAnchor
from scheduling.wall_clock import clock_confirm, clock_jump
from tests.factories import BackupRunFactory, BackupRunTargetFactory
from tests.support import (
    add_backup,
    artifact_path,
    assert_catalogue_matches_storage,
    default_jobs,
    make_job,
    make_storage,
    move_to_trash,
    now,
    purge,
)

pytestmark = pytest.mark.django_db


def days(job: BackupJob, count: int, **values: Any) -> list[Backup]:
    """Daily backups, oldest first."""
    return [add_backup(job, now() - timedelta(days=age), **values) for age in range(count, 0, -1)]


def clean_up(**request: Any) -> MaintenanceRun:
    job = default_jobs()["retention_cleanup_nightly"]
    run = scheduled_dispatch("maintenance", job.pk, inline=True, trigger=RunTrigger.COMMAND, **request)
    assert isinstance(run, MaintenanceRun)
    return run


def carry_out(run: MaintenanceRun) -> MaintenanceRun:
    ended = execute_run("maintenance", run.pk)
    assert isinstance(ended, MaintenanceRun)
    return ended


def left() -> int:
    return Backup.objects.available().count()


def test_more_than_a_quarter_of_a_pair_waits_for_approval(tmp_path: Path) -> None:
    """R7: the run says what and why, and deletes nothing."""
    days(make_job(tmp_path), 20)
    options_update(retention={"keep_last": 14})
    run = clean_up()
    assert (run.status, run.outcome) == (RunStatus.SUCCEEDED, RunOutcome.NEEDS_APPROVAL)
    assert left() == 20
    assert "nightly / etc: This would delete 6 of 20 good copies; the limit without approval is 5 (25 %)" in run.message
    assert (run.result_json["deleted_count"], run.result_json["waiting_count"]) == (0, 6)
    assert run.plans.get().status == PlanStatus.WAITING


def test_a_quarter_of_a_pair_needs_no_approval(tmp_path: Path) -> None:
    days(make_job(tmp_path), 20)
    options_update(retention={"keep_last": 15})
    run = clean_up()
    assert run.outcome == RunOutcome.OK
    assert left() == 15


def test_more_copies_than_the_limit_wait_whatever_their_share(tmp_path: Path) -> None:
    days(make_job(tmp_path), 20)
    options_update(retention={"keep_last": 15}, guard_pair_count=4)
    assert clean_up().result_json["stops"][0]["kind"] == "pair_count"
    assert left() == 20


def test_more_bytes_than_the_limit_wait(tmp_path: Path) -> None:
    days(make_job(tmp_path), 20)
    options_update(retention={"keep_last": 15}, guard_pair_bytes=5 * 64 - 1)
    assert clean_up().result_json["stops"][0]["kind"] == "pair_bytes"
    assert left() == 20


def test_what_is_little_for_each_pair_can_be_too_much_for_their_storage(tmp_path: Path) -> None:
    storage = make_storage(tmp_path)
    for name in ("one", "two", "three"):
        days(make_job(tmp_path, name=name, targets=(name,), storage=storage), 8)
    options_update(retention={"keep_last": 6}, guard_storage_count=5)
    run = clean_up()
    assert {stop["kind"] for stop in run.result_json["stops"]} == {"storage_count"}
    assert left() == 24
    options_update(guard_storage_count=6)
    clean_up()
    assert left() == 18


def test_new_copies_may_each_replace_an_old_one(tmp_path: Path) -> None:
    """A job by the hour, cleaned up at night, is no catastrophe."""
    job = make_job(tmp_path, retention={"keep_last": 24})
    for age in range(48, 24, -1):
        add_backup(job, now() - timedelta(hours=age))
    assert clean_up().outcome == RunOutcome.OK
    MaintenanceRun.objects.get().plans.get().pairs.update(planned_at=now() - timedelta(hours=24, minutes=30))
    for age in range(24, 0, -1):
        add_backup(job, now() - timedelta(hours=age))
    run = clean_up()
    assert (run.outcome, run.result_json["deleted_count"]) == (RunOutcome.OK, 24)


def test_one_pair_that_waits_does_not_keep_the_others_from_being_cleaned_up(tmp_path: Path) -> None:
    days(make_job(tmp_path, retention={"keep_last": 1}), 20)
    days(make_job(tmp_path, name="other", targets=("www",), retention={"keep_last": 19}), 20)
    run = clean_up()
    assert (run.result_json["deleted_count"], run.result_json["waiting_count"]) == (1, 19)
    assert run.outcome == RunOutcome.NEEDS_APPROVAL


def test_what_was_approved_is_carried_out_and_says_by_whom(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    days(job, 20)
    options_update(retention={"keep_last": 3})
    plan = clean_up().plans.get()
    run = carry_out(plan_approve(plan=plan, digest=plan.digest, by="anna", trigger=RunTrigger.MANUAL))
    assert (run.outcome, run.result_json["deleted_count"]) == (RunOutcome.OK, 17)
    plan.refresh_from_db()
    assert (plan.status, plan.decided_by, plan.carried_out_by) == (PlanStatus.APPROVED, "anna", run)
    assert set(AuditEntry.objects.filter(action=AuditAction.TRASH).values_list("approved_by", "run")) == {
        ("anna", f"maintenance:{run.pk}")
    }
    assert AuditEntry.objects.filter(action=AuditAction.APPROVE, actor="anna").count() == 1
    assert not plans_waiting().exists()
    assert_catalogue_matches_storage(job.storage)


@pytest.mark.parametrize("change", ["new copy", "policy", "pin"])
def test_an_approved_plan_that_is_no_longer_the_same_is_shown_anew(tmp_path: Path, change: str) -> None:
    """R14."""
    job = make_job(tmp_path)
    backups = days(job, 20)
    options_update(retention={"keep_last": 3})
    plan = clean_up().plans.get()
    run = plan_approve(plan=plan, digest=plan.digest, by="anna", trigger=RunTrigger.MANUAL)
    if change == "new copy":
        add_backup(job, now())
    elif change == "policy":
        options_update(retention={"keep_last": 2})
    else:
        backup_pin(backup=backups[0], by="bert")
    before = left()
    run = carry_out(run)
    assert run.outcome == RunOutcome.NEEDS_APPROVAL
    assert "changed" in {stop["kind"] for stop in run.result_json["stops"]}
    assert left() == before
    again = run.plans.get()
    carry_out(plan_approve(plan=again, digest=again.digest, by="anna", trigger=RunTrigger.MANUAL))
    assert left() < before


def test_a_plan_is_decided_once(tmp_path: Path) -> None:
    days(make_job(tmp_path), 20)
    options_update(retention={"keep_last": 3})
    plan = clean_up().plans.get()
    plan_reject(plan=plan, digest=plan.digest, by="anna")
    with pytest.raises(ValidationError, match="rejected by anna"):
        plan_approve(plan=plan, digest=plan.digest, by="bert", trigger=RunTrigger.MANUAL)
    assert not MaintenanceRun.objects.filter(status=RunStatus.QUEUED).exists()
    assert left() == 20


def test_another_digest_decides_nothing(tmp_path: Path) -> None:
    days(make_job(tmp_path), 20)
    options_update(retention={"keep_last": 3})
    plan = clean_up().plans.get()
    with pytest.raises(ValidationError, match="not the plan that was shown"):
        plan_approve(plan=plan, digest="0" * 64, by="anna", trigger=RunTrigger.MANUAL)


def test_a_newer_plan_takes_the_place_of_one_that_waits(tmp_path: Path) -> None:
    days(make_job(tmp_path), 20)
    options_update(retention={"keep_last": 3})
    first = clean_up().plans.get()
    clean_up()
    first.refresh_from_db()
    assert first.status == PlanStatus.SUPERSEDED
    assert plans_waiting().count() == 1


def test_what_was_previewed_is_what_is_carried_out(tmp_path: Path) -> None:
    days(make_job(tmp_path), 20)
    options_update(retention={"keep_last": 18})
    plan, found = plan_preview(by="anna")
    assert found.deleted_count == 2
    run = carry_out(plan_confirm(uid=plan.uid, digest=plan.digest, by="anna", trigger=RunTrigger.MANUAL))
    assert run.result_json["deleted_count"] == 2
    assert run.plans.get().digest == plan.digest
    with pytest.raises(PlanChangedError):
        plan_confirm(uid=plan.uid, digest=plan.digest, by="anna", trigger=RunTrigger.MANUAL)


def test_a_preview_that_is_no_longer_true_is_refused(tmp_path: Path) -> None:
    """R14: at once when it is confirmed, and once more when it is carried out."""
    job = make_job(tmp_path)
    days(job, 20)
    options_update(retention={"keep_last": 18})
    plan, _ = plan_preview(by="anna")
    run = plan_confirm(uid=plan.uid, digest=plan.digest, by="anna", trigger=RunTrigger.MANUAL)
    other, _ = plan_preview(by="bert")
    add_backup(job, now())
    with pytest.raises(PlanChangedError):
        plan_confirm(uid=other.uid, digest=other.digest, by="bert", trigger=RunTrigger.MANUAL)
    run = carry_out(run)
    assert run.outcome == RunOutcome.NEEDS_APPROVAL
    assert left() == 21


def test_a_preview_that_was_confirmed_without_approval_stops_at_the_guard(tmp_path: Path) -> None:
    days(make_job(tmp_path), 20)
    options_update(retention={"keep_last": 3})
    plan, found = plan_preview(by="anna")
    assert found.needs_approval
    run = carry_out(plan_confirm(uid=plan.uid, digest=plan.digest, by="anna", trigger=RunTrigger.MANUAL))
    assert (run.outcome, left()) == (RunOutcome.NEEDS_APPROVAL, 20)
    plan, _ = plan_preview(by="anna")
    confirmed = plan_confirm(uid=plan.uid, digest=plan.digest, by="anna", trigger=RunTrigger.MANUAL, approve=True)
    assert carry_out(confirmed).result_json["deleted_count"] == 17


def jump(by: timedelta) -> None:
    """Let the wall clock look as if it had been moved."""
    clock_jump()
    anchor = ClockAnchor.objects.get()
    ClockAnchor.objects.update(wall=anchor.wall - by)


@pytest.mark.parametrize("by", [timedelta(days=400), timedelta(days=-30)], ids=["forward", "back"])
def test_after_the_clock_jumped_nothing_is_deleted_until_someone_confirms(tmp_path: Path, by: timedelta) -> None:
    """R12, for cleanups and for the trash."""
    backups = days(make_job(tmp_path), 20)
    options_update(retention={"keep_last": 18}, trash_hours=0)
    jump(by)
    run = clean_up()
    assert run.outcome == RunOutcome.NEEDS_APPROVAL
    assert "clock" in run.result_json["stops"][0]["text"]
    assert left() == 20
    clock_confirm(by="anna")
    assert clean_up().result_json["deleted_count"] == 2
    jump(by)
    emptied = scheduled_dispatch(
        "maintenance", default_jobs()["purge_trash"].pk, inline=True, trigger=RunTrigger.COMMAND
    )
    assert emptied is not None
    assert emptied.outcome == RunOutcome.NEEDS_APPROVAL
    assert Backup.objects.filter(pk__in=[backup.pk for backup in backups]).trashed().count() == 2


def test_approving_what_the_clock_stopped_confirms_the_clock(tmp_path: Path) -> None:
    days(make_job(tmp_path), 20)
    options_update(retention={"keep_last": 18})
    jump(timedelta(days=400))
    plan = clean_up().plans.get()
    run = carry_out(plan_approve(plan=plan, digest=plan.digest, by="anna", trigger=RunTrigger.MANUAL))
    assert run.result_json["deleted_count"] == 2
    assert AuditEntry.objects.filter(action=AuditAction.CLOCK, actor="anna").exists()


def test_a_cleanup_by_an_old_database_deletes_nothing_and_says_how_to_go_on(tmp_path: Path) -> None:
    """R11."""
    job = make_job(tmp_path)
    days(job, 20)
    options_update(retention={"keep_last": 18})
    clean_up()
    Storage.objects.update(epoch=0)
    days(job, 2)
    run = clean_up()
    assert run.outcome == RunOutcome.NEEDS_APPROVAL
    assert run.result_json["stops"][0]["approvable"] is False
    assert "reconcile_storage" in run.message
    assert left() == 20
    plan = run.plans.get()
    ended = carry_out(plan_approve(plan=plan, digest=plan.digest, by="anna", trigger=RunTrigger.MANUAL))
    assert (ended.outcome, left()) == (RunOutcome.NEEDS_APPROVAL, 20)


def test_a_pair_whose_new_copy_is_being_made_waits_for_the_next_cleanup(tmp_path: Path) -> None:
    """R22."""
    job = make_job(tmp_path)
    days(job, 20)
    options_update(retention={"keep_last": 18})
    attempt = BackupRunTargetFactory(
        run=BackupRunFactory(job=job, running=True), target=job.targets.get(), status=AttemptStatus.RUNNING, active=True
    )
    run = clean_up()
    assert (run.outcome, left()) == (RunOutcome.WARNING, 20)
    assert "next cleanup" in run.message
    attempt.active = False
    attempt.save()
    assert clean_up().result_json["deleted_count"] == 2


def test_pinned_and_held_copies_stay_and_the_plan_says_why(tmp_path: Path) -> None:
    """R19."""
    job = make_job(tmp_path)
    oldest, *_ = days(job, 20)
    other = make_job(tmp_path, name="other", targets=("www",))
    days(other, 20)
    backup_pin(backup=oldest, by="anna", note="tax records")
    hold_place(by="bert", note="investigation", target=other.targets.get())
    options_update(retention={"keep_last": 18})
    assert clean_up().result_json["deleted_count"] == 1
    assert Backup.objects.get(pk=oldest.pk).state == "available"
    assert other.backups.available().count() == 20


def test_a_cleanup_that_wanted_to_delete_and_moved_nothing_warns(tmp_path: Path) -> None:
    """R20."""
    job = make_job(tmp_path)
    days(job, 20)
    options_update(retention={"keep_last": 19})

    def taken_first(_level: str, text: str) -> None:
        if "1 to delete" in text:
            backup_pin(backup=Backup.objects.order_by("created_at")[0], by="anna")

    run = clean_up(echo=taken_first)
    assert (run.outcome, run.result_json["left_alone_count"]) == (RunOutcome.WARNING, 1)


def test_a_cleanup_can_be_decided_anew_from_its_record(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    backups = days(job, 40)
    backup_pin(backup=backups[3], by="anna", until=now() + timedelta(days=3), note="wait")
    options_update(retention={"keep_last": 3, "keep_weekly": 4, "keep_within": "10d"}, timezone="Europe/Berlin")
    run = clean_up()
    assert run.outcome == RunOutcome.NEEDS_APPROVAL
    (again,) = run_replay(run)
    assert (again.differences, again.copies) == ((), 40)


def test_a_record_that_was_tampered_with_does_not_come_out_the_same(tmp_path: Path) -> None:
    days(make_job(tmp_path), 10)
    options_update(retention={"keep_last": 9})
    run = clean_up()
    pair = run.plans.get().pairs.get()
    document = pair.document
    document["verdicts"][-1]["keep"] = True
    type(pair).objects.filter(pk=pair.pk).update(packed=pair.pack(document))
    (again,) = run_replay(run)
    assert len(again.differences) == 1


def test_options_take_no_limit_for_blank_and_refuse_nonsense(db: None) -> None:
    options_update(guard_pair_share=None, guard_pair_count=0)
    options = Options.load()
    assert (options.guard_pair_share, options.guard_pair_count) == (None, None)
    for bad in ({"guard_pair_share": 101}, {"guard_pair_count": -1}, {"guard_storage_bytes": True}):
        with pytest.raises(ValidationError):
            options_update(**bad)


def test_files_that_someone_removed_do_not_stand_in_for_good_copies(tmp_path: Path, no_blast_radius: None) -> None:
    """R3, R4 and R10: the newest two are gone behind Keepwell's back, so the two before them stay."""
    job = make_job(tmp_path)
    backups = days(job, 6)
    options_update(retention={"keep_last": 2})
    for backup in backups[4:]:
        artifact_path(backup).unlink()
    run = clean_up()
    assert run.status == RunStatus.FAILED
    assert "is not there" in run.message
    assert list(Backup.objects.order_by("created_at").values_list("state", flat=True)) == [
        *["trashed"] * 2,
        *["available"] * 2,
        *["missing"] * 2,
    ]


def test_what_is_to_stay_has_to_be_there_before_anything_older_goes(tmp_path: Path) -> None:
    """R3, in the deleting transaction."""
    backups = days(make_job(tmp_path), 4)
    for backup in backups[2:]:
        artifact_path(backup).unlink()
    result = move_to_trash(*backups[:2])
    assert {backup.uid for backup, _ in result.left} == {backups[1].uid}


def test_a_purge_that_broke_off_before_anything_was_removed_looks_anew_at_what_protects_the_copy(
    tmp_path: Path,
) -> None:
    """R19 holds in recovery as well."""
    backup, *_ = days(make_job(tmp_path), 3)
    move_to_trash(backup)
    Backup.objects.filter(pk=backup.pk).update(state="purging", holder="0" * 24)
    hold_place(by="anna", note="investigation")
    backups_recover()
    backup.refresh_from_db()
    assert backup.state == "trashed"
    assert not purge(backup).done


def test_a_cleanup_that_waits_is_not_taken_for_another(tmp_path: Path) -> None:
    one, two = make_job(tmp_path), make_job(tmp_path, name="other", targets=("www",))
    manual = default_jobs()["retention_cleanup_manual"]
    first, second = ({"job_id": job.pk, "target_id": job.targets.get().pk} for job in (one, two))
    scheduled_dispatch("maintenance", manual.pk, trigger=RunTrigger.API, params=first)
    with pytest.raises(ValidationError, match="waiting to start already"):
        scheduled_dispatch("maintenance", manual.pk, trigger=RunTrigger.API, params=second)
    again = scheduled_dispatch("maintenance", manual.pk, trigger=RunTrigger.API, params=first)
    assert MaintenanceRun.objects.get() == again
