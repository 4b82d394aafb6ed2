"""What stops a cleanup, and who lets it go on: the confirmation, the run's page, the stored plan, the clock."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from backups.choices import BackupState
from backups.models import AuditAction, AuditEntry, Backup, BackupJob, Options
from backups.services.storages import storage_backend
from maintenance.choices import PlanStatus
from maintenance.models import CleanupPlan, MaintenanceJob, MaintenanceRun
from maintenance.services import CLEANUP_MANUAL
from scheduling import wall_clock
from scheduling.choices import RunOutcome, RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.executing import execute_run
from scheduling.models import ClockAnchor
from tests.pages.people import sign_in
from tests.support import add_backup, artifact_path, default_jobs, make_job, move_to_trash

pytestmark = pytest.mark.django_db

RUN = "/options/retention/run/"


@pytest.fixture
def job(tmp_path: Path) -> BackupJob:
    """A job with five copies on a real storage, a day apart, the newest an hour old."""
    default_jobs()
    made = make_job(tmp_path)
    for day in range(5):
        add_backup(made, timezone.now() - timedelta(days=day, hours=1), content=b"x" * (1000 + day))
    return made


def keep(**rules: Any) -> None:
    Options.load()
    Options.objects.update(retention=rules)


def fields(html: str) -> dict[str, str]:
    """The hidden fields of the page's form."""
    return dict(re.findall(r'<input type="hidden" name="(plan|digest|next)" value="([^"]*)"', html))


def page(client: Client, address: str, status: int = 200) -> str:
    answer = client.get(address)
    assert answer.status_code == status
    return re.sub(r"\s+", " ", answer.content.decode())


def stopped(client: Client) -> MaintenanceRun:
    """A run that a guard stopped, carried out for real."""
    seen = fields(client.get(RUN).content.decode())
    assert client.post(RUN, {**seen, "wait": "1"}).status_code == 302
    run = MaintenanceRun.objects.latest("pk")
    execute_run("maintenance", run.pk)
    run.refresh_from_db()
    assert run.outcome == RunOutcome.NEEDS_APPROVAL, run.message
    return run


def jump_clock(by: timedelta = timedelta(days=40)) -> None:
    """As if the wall clock had been right so long ago, by the machine's uptime a moment ago."""
    machine = wall_clock.read_machine()
    wall_clock.anchor_confirm(machine, by="test")
    ClockAnchor.objects.update(wall=machine.wall - by)


# --- The confirmation ---------------------------------------------------------------------------------------------


def test_the_confirmation_says_how_much_goes_and_until_when_it_can_be_found(
    admin_client: Client, job: BackupJob
) -> None:
    keep(keep_last=4)
    html = page(admin_client, RUN)
    assert "Move 1 backup to trash" in html
    assert "4 stay" in html
    assert "the last 4" in html
    assert "72 h" in html
    assert "for good" not in html
    assert not MaintenanceRun.objects.exists()


def test_the_confirmation_shows_the_plan_that_it_would_carry_out(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=4)
    html = page(admin_client, RUN)
    stored = CleanupPlan.objects.get()
    assert fields(html) == {"plan": stored.uid, "digest": stored.digest}
    assert stored.status == PlanStatus.PREVIEWED


def test_confirming_queues_the_hidden_job_and_leads_to_its_run(
    admin_client: Client, admin_user: User, job: BackupJob
) -> None:
    keep(keep_last=4)
    response = admin_client.post(RUN, fields(page(admin_client, RUN)), follow=True)
    assert response.redirect_chain == [("/maintenance-jobs/", 302)]
    run = MaintenanceRun.objects.get()
    assert (run.job_key, run.status, run.requested_by) == (CLEANUP_MANUAL, RunStatus.QUEUED, admin_user.username)
    assert Backup.objects.available().count() == 5
    assert f'id="run-{run.pk}"' in response.content.decode()
    execute_run("maintenance", run.pk)
    assert Backup.objects.trashed().count() == 1


@pytest.mark.parametrize("sent", [{}, {"digest": "0" * 64}, {"plan": "0" * 16}], ids=["nothing", "digest", "plan"])
def test_a_cleanup_that_was_not_seen_is_shown_instead_of_started(
    sent: dict[str, str], admin_client: Client, job: BackupJob
) -> None:
    keep(keep_last=4)
    response = admin_client.post(RUN, {**fields(page(admin_client, RUN)), **sent} if sent else {})
    assert response.status_code == 422
    assert "Nothing was started." in response.content.decode()
    assert not MaintenanceRun.objects.exists()


def test_a_copy_that_came_after_the_page_was_shown_asks_for_another_look(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=4)
    seen = fields(page(admin_client, RUN))
    add_backup(job, timezone.now() - timedelta(minutes=5))
    response = admin_client.post(RUN, seen)
    assert response.status_code == 422
    assert "has changed since it was shown" in response.content.decode()
    assert fields(response.content.decode())["digest"] != seen["digest"]
    assert not MaintenanceRun.objects.exists()


def test_a_preview_is_confirmed_once(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=4)
    seen = fields(page(admin_client, RUN))
    assert admin_client.post(RUN, seen).status_code == 302
    assert admin_client.post(RUN, seen).status_code == 422
    assert MaintenanceRun.objects.count() == 1


def test_a_stored_policy_that_cannot_be_used_leads_back_to_the_form(admin_client: Client) -> None:
    keep(keep_last="many")
    response = admin_client.get(RUN, follow=True)
    assert response.redirect_chain == [("/options/", 302)]
    assert "cannot be used" in response.content.decode()


def test_without_the_hidden_job_there_is_nothing_to_run(admin_client: Client, job: BackupJob) -> None:
    seen = fields(page(admin_client, RUN))
    MaintenanceJob.objects.filter(key=CLEANUP_MANUAL).delete()
    assert admin_client.post(RUN, seen).status_code == 404


def test_the_guards_come_first_and_an_administrator_may_lift_them(job: BackupJob) -> None:
    keep(keep_last=1)
    client = sign_in("administrator")
    html = page(client, RUN)
    assert "This is more than a cleanup may delete without approval" in html
    assert html.index("4 of 5 good copies; the limit without approval is ") < html.index("Each one, and why")
    assert "Approve and move 4 backups to trash" in html
    client.post(RUN, {**fields(html), "approve": "1"})
    run = MaintenanceRun.objects.get()
    execute_run("maintenance", run.pk)
    run.refresh_from_db()
    assert (run.status, run.outcome) == (RunStatus.SUCCEEDED, RunOutcome.OK)
    assert Backup.objects.trashed().count() == 4


def test_an_operator_can_start_it_and_it_stops_and_waits(job: BackupJob) -> None:
    keep(keep_last=1)
    client = sign_in("operator")
    html = page(client, RUN)
    assert "Approve and move" not in html
    assert "it will stop and wait for an administrator’s approval" in html
    run = stopped(client)
    assert Backup.objects.available().count() == 5
    assert client.post(f"/maintenance-jobs/plans/{run.plans.get().uid}/approve/").status_code == 403


def test_nobody_lifts_a_guard_by_sending_a_field(job: BackupJob) -> None:
    keep(keep_last=1)
    client = sign_in("operator")
    client.post(RUN, {**fields(page(client, RUN)), "approve": "1"})
    execute_run("maintenance", MaintenanceRun.objects.get().pk)
    assert Backup.objects.available().count() == 5


def test_only_what_needs_no_approval_can_be_moved_by_itself(job: BackupJob, tmp_path: Path) -> None:
    keep(keep_last=2)
    weekly = make_job(tmp_path, "weekly", ("www",))
    for day in range(3):
        add_backup(weekly, timezone.now() - timedelta(days=day, hours=1))
    Options.objects.update(guard_storage_share=None)
    client = sign_in("administrator")
    assert "Move only the 1 that needs no approval" in page(client, RUN)
    stopped(client)
    assert set(Backup.objects.trashed().values_list("job_name", flat=True)) == {"weekly"}


def test_a_confirmation_needs_the_same_few_queries_for_many_copies(
    admin_client: Client, job: BackupJob, django_assert_max_num_queries: Any
) -> None:
    for hour in range(30):
        add_backup(job, timezone.now() - timedelta(days=9, hours=hour))
    keep(keep_last=1)
    with django_assert_max_num_queries(22):
        admin_client.get(RUN)


def test_a_long_plan_is_cut_but_counts_everything(admin_client: Client, job: BackupJob) -> None:
    for hour in range(105):
        add_backup(job, timezone.now() - timedelta(days=9, hours=hour))
    keep(keep_last=1)
    html = page(admin_client, RUN)
    assert "Move 109 backups to the trash?" in html
    assert "And 9 more, counted above." in html


# --- The run and its plan -----------------------------------------------------------------------------------------


def test_a_stopped_run_says_first_which_guard_it_was_and_what_waits(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=1)
    run = stopped(admin_client)
    html = page(admin_client, run.get_absolute_url())
    assert html.index("What stopped it") < html.index("Targets processed")
    assert "nightly / etc: This would delete 4 of 5 good copies; the limit without approval is " in html
    assert "4 backups" in html
    assert "Approve and move 4 backups to trash" in html
    for backup in Backup.objects.order_by("-created_at")[1:]:
        assert f"/backups/{backup.uid}/" in html
    assert "would stay with" in html


def test_approving_carries_out_exactly_what_was_shown_and_says_who_did(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=1)
    run = stopped(admin_client)
    html = page(admin_client, run.get_absolute_url())
    plan = run.plans.get()
    response = admin_client.post(f"/maintenance-jobs/plans/{plan.uid}/approve/", fields(html))
    second = MaintenanceRun.objects.latest("pk")
    assert response["Location"] == second.get_absolute_url()
    execute_run("maintenance", second.pk)
    assert Backup.objects.trashed().count() == 4
    html = page(admin_client, run.get_absolute_url())
    assert "Approved by admin" in html
    assert second.get_absolute_url() in html
    assert 'id="approve"' not in html
    assert AuditEntry.objects.filter(action=AuditAction.APPROVE, actor="admin").count() == 1
    html = page(admin_client, second.get_absolute_url())
    assert "Approved by admin" in html
    assert f"/trash/?run=maintenance:{second.pk}" in html
    assert f"/maintenance-jobs/plans/{second.plans.get().uid}/" in html


def test_an_approved_plan_that_has_changed_says_so_first_and_asks_anew(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=1)
    run = stopped(admin_client)
    seen = fields(page(admin_client, run.get_absolute_url()))
    add_backup(job, timezone.now(), content=b"x" * 1000)
    admin_client.post(f"/maintenance-jobs/plans/{run.plans.get().uid}/approve/", seen)
    second = MaintenanceRun.objects.latest("pk")
    execute_run("maintenance", second.pk)
    assert not Backup.objects.trashed().exists()
    html = page(admin_client, second.get_absolute_url())
    decision = html[html.index("What stopped it") :]
    assert decision.index("not what was shown and confirmed any more") < decision.index("5 of 6 good copies")
    assert "what would be deleted has changed since, so it has to be decided anew" in html
    assert "Approve and move 5 backups to trash" in html


def test_rejecting_leaves_everything_and_is_final(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=1)
    run = stopped(admin_client)
    plan = run.plans.get()
    seen = fields(page(admin_client, run.get_absolute_url()))
    response = admin_client.post(f"/maintenance-jobs/plans/{plan.uid}/reject/", seen, follow=True)
    assert "Rejected by admin" in re.sub(r"\s+", " ", response.content.decode())
    late = admin_client.post(f"/maintenance-jobs/plans/{plan.uid}/approve/", seen, follow=True)
    assert "cannot be decided any more: it was rejected by admin." in late.content.decode()
    assert Backup.objects.available().count() == 5
    assert MaintenanceRun.objects.count() == 1


def test_a_plan_is_approved_only_under_the_digest_that_was_shown(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=1)
    plan = stopped(admin_client).plans.get()
    for sent in ({}, {"digest": "0" * 64}):
        admin_client.post(f"/maintenance-jobs/plans/{plan.uid}/approve/", sent)
    plan.refresh_from_db()
    assert plan.status == PlanStatus.WAITING
    assert MaintenanceRun.objects.count() == 1


def test_someone_who_may_not_decide_sees_the_plan_and_who_may(job: BackupJob) -> None:
    keep(keep_last=1)
    run = stopped(sign_in("operator"))
    viewer = sign_in("viewer")
    for address in (run.get_absolute_url(), f"/maintenance-jobs/plans/{run.plans.get().uid}/"):
        html = page(viewer, address)
        assert "4 of 5 good copies" in html
        assert "needs the role of an administrator" in html
        assert 'id="approve"' not in html


def test_a_later_cleanup_takes_the_place_of_what_waits(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=1)
    first, second = stopped(admin_client), stopped(admin_client)
    assert "A later cleanup has planned anew" in page(admin_client, first.get_absolute_url())
    assert 'id="approve"' in page(admin_client, second.get_absolute_url())


def test_a_stored_plan_shows_every_verdict_of_a_pair_with_its_reasons(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=4)
    admin_client.post(RUN, fields(page(admin_client, RUN)))
    run = MaintenanceRun.objects.get()
    execute_run("maintenance", run.pk)
    plan = run.plans.get()
    assert plan.uid in page(admin_client, run.get_absolute_url())
    address = f"/maintenance-jobs/plans/{plan.uid}/"
    assert "1 backup moved to the trash by this plan" in page(admin_client, address)
    html = page(admin_client, f"{address}?pair={plan.pairs.get().pk}")
    assert html.count('data-status="keep"') == 4
    assert html.count('data-status="delete"') == 1
    assert "would stay with keep_last 5" in html
    assert f"replay_plan {run.pk}" in html


def test_a_plan_of_many_copies_comes_in_pages(admin_client: Client, job: BackupJob) -> None:
    for hour in range(130):
        add_backup(job, timezone.now() - timedelta(days=9, hours=hour))
    keep(keep_last=1)
    plan = stopped(admin_client).plans.get()
    address = f"/maintenance-jobs/plans/{plan.uid}/?pair={plan.pairs.get().pk}"
    html = page(admin_client, address)
    assert html.count('data-status="delete"') == 99
    assert page(admin_client, f"{address}&page=2").count('data-status="delete"') == 35


@pytest.mark.parametrize("address", ["0" * 16, "x", f"{'0' * 16}/?pair=1"])
def test_a_plan_that_does_not_exist_is_404(admin_client: Client, address: str) -> None:
    assert admin_client.get(f"/maintenance-jobs/plans/{address.removesuffix('/')}/").status_code == 404


def test_a_pair_of_another_plan_is_404(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=1)
    first, second = stopped(admin_client).plans.get(), stopped(admin_client).plans.get()
    for pair in (second.pairs.get().pk, "x" * 5, "9" * 30):
        answer = admin_client.get(f"/maintenance-jobs/plans/{first.uid}/?pair={pair}")
        assert answer.status_code == (404 if pair == second.pairs.get().pk else 200)


def test_names_are_escaped_and_a_deleted_job_does_not_break_the_plan(admin_client: Client, job: BackupJob) -> None:
    BackupJob.objects.update(name="<script>alert(1)</script>")
    keep(keep_last=1)
    run = stopped(admin_client)
    html = page(admin_client, run.get_absolute_url())
    assert "<script>alert" not in html
    Backup.objects.update(job=None)
    job.delete()
    assert "&lt;script&gt;alert" in page(admin_client, run.get_absolute_url())


def test_the_page_of_a_run_with_many_copies_needs_few_queries(
    admin_client: Client, job: BackupJob, django_assert_max_num_queries: Any
) -> None:
    for hour in range(40):
        add_backup(job, timezone.now() - timedelta(days=9, hours=hour))
    keep(keep_last=1)
    run = stopped(admin_client)
    with django_assert_max_num_queries(18):
        admin_client.get(run.get_absolute_url())


# --- The clock and old databases ----------------------------------------------------------------------------------


def test_after_the_clock_jumped_the_run_asks_whether_it_is_right(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=4)
    jump_clock()
    html = page(admin_client, RUN)
    assert "Approve and move" not in html
    assert "more than a cleanup may delete" not in html
    run = stopped(admin_client)
    html = page(admin_client, run.get_absolute_url())
    assert "The clock is right" in html
    assert "Approving also says that the clock is right" in html
    response = admin_client.post("/clock/", {"next": run.get_absolute_url()})
    assert response["Location"] == run.get_absolute_url()
    assert wall_clock.clock_state() is None
    entry = AuditEntry.objects.get(action=AuditAction.CLOCK)
    assert (entry.actor, "jumped" in entry.reason) == ("admin", True)
    admin_client.post(RUN, fields(page(admin_client, RUN)))
    execute_run("maintenance", MaintenanceRun.objects.latest("pk").pk)
    assert Backup.objects.trashed().count() == 1


def test_approving_a_plan_that_the_clock_stopped_confirms_the_clock(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=4)
    jump_clock()
    plan = stopped(admin_client).plans.get()
    admin_client.post(f"/maintenance-jobs/plans/{plan.uid}/approve/", {"digest": plan.digest})
    execute_run("maintenance", MaintenanceRun.objects.latest("pk").pk)
    assert Backup.objects.trashed().count() == 1


def test_the_clocks_page_says_what_is_wrong_and_leads_nowhere_else(admin_client: Client) -> None:
    assert "The clock is where it should be" in page(admin_client, "/clock/")
    jump_clock(timedelta(days=-40))
    html = page(admin_client, "/clock/?next=https://example.org/")
    assert "The clock jumped back by 40 days" in html
    assert "example.org" not in html
    assert admin_client.post("/clock/", {"next": "https://example.org/"})["Location"] == "/"


def test_a_storage_ahead_of_the_database_is_compared_first(admin_client: Client, job: BackupJob) -> None:
    keep(keep_last=4)
    lost = add_backup(job, timezone.now() - timedelta(minutes=10))
    Backup.objects.filter(pk=lost.pk).delete()
    with storage_backend(job.storage).open() as handle:
        handle.raise_epoch(7)
    run = stopped(admin_client)
    html = page(admin_client, run.get_absolute_url())
    address = f"/storages/{job.storage.pk}/reconcile/"
    assert address in html
    assert f'reconcile_storage "{job.storage.name}"' in html
    assert 'id="approve"' not in html
    assert "7 changes that this database has not" in page(admin_client, address)
    before = {path: path.read_bytes() for path in Path(job.storage.path).rglob("*.tar.zst*")}
    response = admin_client.post(address, follow=True)
    assert "1 copy entered into the catalogue" in response.content.decode()
    assert {path: path.read_bytes() for path in Path(job.storage.path).rglob("*.tar.zst*")} == before
    assert Backup.objects.get(uid=lost.uid).state == BackupState.AVAILABLE
    assert "reconcile" not in page(admin_client, RUN)


def test_a_storage_that_is_away_is_not_compared(admin_client: Client, job: BackupJob, tmp_path: Path) -> None:
    address = f"/storages/{job.storage.pk}/reconcile/"
    Path(job.storage.path).rename(tmp_path / "disk")
    assert "cannot be opened" in page(admin_client, address)
    response = admin_client.post(address, follow=True)
    assert "cannot be opened" in response.content.decode()
    assert not Backup.objects.filter(state=BackupState.MISSING).exists()


def test_comparing_needs_the_permission_to_change_storages(job: BackupJob) -> None:
    for role, status in (("viewer", 403), ("operator", 403), ("administrator", 200)):
        assert sign_in(role).get(f"/storages/{job.storage.pk}/reconcile/").status_code == status


# --- The trash ----------------------------------------------------------------------------------------------------


def test_a_run_that_emptied_the_trash_says_how_much_it_freed(admin_client: Client, job: BackupJob) -> None:
    old = Backup.objects.order_by("created_at")[0]
    keep(keep_last=4)
    admin_client.post(RUN, fields(page(admin_client, RUN)))
    execute_run("maintenance", MaintenanceRun.objects.get().pk)
    Backup.objects.trashed().update(trashed_at=timezone.now() - timedelta(days=4))
    purge, _ = MaintenanceJob.objects.get_or_create(
        key="purge_trash", defaults={"name": "Empty the trash", "job_type": "purge_trash"}
    )
    admin_client.post("/maintenance-jobs/purge_trash/run/")
    run = MaintenanceRun.objects.latest("pk")
    assert run.job == purge
    execute_run("maintenance", run.pk)
    html = page(admin_client, run.get_absolute_url())
    assert "Removed for good" in html
    assert old.artifact.relative in html
    assert not artifact_path(old).exists()


def test_a_trash_that_the_clock_keeps_from_being_emptied_leads_to_the_clock(job: BackupJob) -> None:
    move_to_trash(Backup.objects.order_by("created_at")[0])
    Backup.objects.trashed().update(trashed_at=timezone.now() - timedelta(days=4))
    jump_clock()
    purge = MaintenanceJob.objects.get(key="purge_trash")
    run = scheduled_dispatch("maintenance", purge.pk, inline=True, trigger=RunTrigger.COMMAND)
    assert isinstance(run, MaintenanceRun)
    assert run.outcome == RunOutcome.NEEDS_APPROVAL
    html = page(sign_in("administrator"), run.get_absolute_url())
    assert "The clock jumped forward by 40 days" in html
    assert 'href="/clock/"' in html
    assert 'href="/clock/"' not in page(sign_in("viewer"), run.get_absolute_url())
    assert Backup.objects.trashed().count() == 1
