from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.utils import timezone
from django_apscheduler.models import DjangoJob, DjangoJobExecution

from backups import models as backups
from maintenance import models as maintenance
from scheduling.admin import ReadOnlyAdmin
from scheduling.choices import RunTrigger
from scheduling.models import ClockAnchor, Host, Pause, SchedulerState
from tests import factories
from tests.support import make_job, make_storage

pytestmark = pytest.mark.django_db

READ_ONLY = [
    backups.AuditEntry,
    backups.Backup,
    backups.BackupRun,
    backups.BackupRunLogLine,
    backups.BackupRunTarget,
    backups.Hold,
    backups.Lease,
    maintenance.CleanupPlan,
    maintenance.CleanupPlanPair,
    maintenance.MaintenanceRun,
    maintenance.MaintenanceRunLogLine,
    ClockAnchor,
    Host,
    Pause,
    SchedulerState,
]
JOBS = [(backups.BackupJob, factories.BackupJobFactory), (maintenance.MaintenanceJob, factories.MaintenanceJobFactory)]


def address(model: Any, page: str = "") -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/{page}"


def row_of(model: Any) -> Any:
    run = factories.BackupRunFactory(failed=True)
    now = timezone.now()
    if model is SchedulerState:
        return SchedulerState.objects.create(pk=1, hostname="here", host="x", pid=1, started_at=now, seen_at=now)
    if model is Pause:
        return Pause.objects.create(pk=1, until=now, since=now)
    if model is ClockAnchor:
        return ClockAnchor.objects.create(host="x", boot_id="b", uptime=1.0, wall=now)
    if model in (maintenance.CleanupPlan, maintenance.CleanupPlanPair):
        plan = maintenance.CleanupPlan.objects.create(status="executed", digest="0" * 64, created_at=now)
        if model is maintenance.CleanupPlan:
            return plan
        return model.objects.create(
            plan=plan, planned_at=now, policy={}, kept=1, deleting=0, deleting_bytes=0, packed=model.pack({})
        )
    if model is backups.BackupRunLogLine:
        return model.objects.create(run=run, seq=1, at=now, text="a line")
    if model is maintenance.MaintenanceRunLogLine:
        return model.objects.create(run=factories.MaintenanceRunFactory(failed=True), seq=1, at=now, text="a line")
    return getattr(factories, f"{model.__name__}Factory")()


def shown(answer: Any) -> str:
    return str(answer.content.decode().replace("&#x27;", "'").replace("&quot;", '"'))


# --- What is there, and for whom ----------------------------------------------------------------------------------


def test_every_model_of_ours_is_in_the_admin_site() -> None:
    ours = {
        model for app in ("backups", "maintenance", "scheduling") for model in apps.get_app_config(app).get_models()
    }
    # A job's targets are chosen on the job's own page, and what is searched in is a copy of what runs say.
    unshown = {backups.BackupJobTarget, backups.BackupRunText, maintenance.MaintenanceRunText}
    assert ours - set(admin.site._registry) == unshown


def test_apschedulers_own_pages_are_gone() -> None:
    assert not {DjangoJob, DjangoJobExecution} & set(admin.site._registry)


def test_models_that_record_what_happened_are_the_read_only_ones() -> None:
    assert {model for model, page in admin.site._registry.items() if isinstance(page, ReadOnlyAdmin)} == set(READ_ONLY)


@pytest.mark.parametrize("model", READ_ONLY, ids=lambda model: model.__name__)
def test_history_can_be_looked_at_and_not_touched_even_by_a_superuser(admin_client: Client, model: Any) -> None:
    row = row_of(model)
    assert admin_client.get(address(model)).status_code == 200
    page = admin_client.get(address(model, f"{row.pk}/change/"))
    assert page.status_code == 200
    assert "_save" not in shown(page)
    assert admin_client.get(address(model, "add/")).status_code == 403
    assert admin_client.post(address(model, f"{row.pk}/change/"), {}).status_code == 403
    assert admin_client.post(address(model, f"{row.pk}/delete/"), {"post": "yes"}).status_code == 403
    admin_client.post(address(model), {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert model.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("path", ["/admin/", "/admin/backups/storage/", "/admin/maintenance/maintenancerun/"])
def test_nobody_but_staff_gets_in(client: Client, path: str) -> None:
    user = User.objects.create_user("ann")
    user.groups.add(Group.objects.get(name="administrator"))
    client.force_login(user)
    answer = client.get(path)
    assert answer.status_code == 302
    assert "login" in answer["Location"]


# --- Changes go through the services ------------------------------------------------------------------------------


def test_a_storage_is_added_with_its_sentinel_and_renamed(admin_client: Client, tmp_path: Path) -> None:
    values = {"name": "nas", "kind": "local", "path": str(tmp_path / "nas")}
    assert admin_client.post(address(backups.Storage, "add/"), values).status_code == 302
    storage = backups.Storage.objects.get()
    assert (tmp_path / "nas" / ".keepwell-storage.json").is_file()
    change = address(backups.Storage, f"{storage.pk}/change/")
    assert admin_client.post(change, {**values, "name": "nas 2"}).status_code == 302
    storage.refresh_from_db()
    assert (storage.name, storage.path) == ("nas 2", str(tmp_path / "nas"))


def test_a_storage_that_cannot_be_made_is_refused_on_the_form(admin_client: Client, tmp_path: Path) -> None:
    values = {"name": "nas", "kind": "local", "path": str(tmp_path / "not" / "there")}
    answer = admin_client.post(address(backups.Storage, "add/"), values)
    assert answer.status_code == 200
    assert "Create the folder or mount the disk" in shown(answer)
    assert not backups.Storage.objects.exists()


def test_a_folder_of_other_files_is_accepted_when_that_is_confirmed(admin_client: Client, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    values = {"name": "nas", "kind": "local", "path": str(tmp_path)}
    assert "is not empty" in shown(admin_client.post(address(backups.Storage, "add/"), values))
    assert admin_client.post(address(backups.Storage, "add/"), {**values, "use_existing": "on"}).status_code == 302


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ('{"paths": ["etc"]}', "not an absolute path"),
        ("[1]", "JSON object"),
        ("{", "valid JSON"),
        ('{"paths": []}', "at least one"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused_on_the_form(admin_client: Client, config: str, reason: str) -> None:
    answer = admin_client.post(address(backups.Target, "add/"), {"name": "etc", "source": "files", "config": config})
    assert answer.status_code == 200
    assert reason in shown(answer)
    assert not backups.Target.objects.exists()


def test_a_target_is_added_in_its_stored_form(admin_client: Client) -> None:
    values = {"name": " etc ", "source": "files", "config": '{"paths": ["/etc/"]}'}
    assert admin_client.post(address(backups.Target, "add/"), values).status_code == 302
    target = backups.Target.objects.get()
    assert (target.name, target.config) == ("etc", {"paths": ["/etc"], "exclude": []})


def job_values(folder: Path) -> dict[str, Any]:
    storage, targets = make_storage(folder), [factories.TargetFactory(), factories.TargetFactory()]
    return {"name": "nightly", "storage": storage.pk, "targets": [target.pk for target in targets], "enabled": "on"}


def test_a_backup_job_is_added_and_changed_with_its_targets(admin_client: Client, tmp_path: Path) -> None:
    values = {**job_values(tmp_path), "schedule": "@daily", "retention": '{"keep_last": 3}'}
    assert admin_client.post(address(backups.BackupJob, "add/"), values).status_code == 302
    job = backups.BackupJob.objects.get()
    assert job.targets.count() == 2
    change = address(backups.BackupJob, f"{job.pk}/change/")
    page = shown(admin_client.get(change))
    assert page.count("<option value=") >= 4
    assert page.count("selected>target ") == 2
    changed = {**values, "targets": values["targets"][:1], "retention": ""}
    assert admin_client.post(change, changed).status_code == 302
    job.refresh_from_db()
    assert ([*job.targets.values_list("pk", flat=True)], job.retention) == (values["targets"][:1], None)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param({"schedule": "0 3 * *"}, "has 4 fields", id="schedule"),
        pytest.param({"timezone": "Mars/Olympus"}, "is not a time zone", id="zone"),
        pytest.param({"retention": '{"keep_daily": -7}'}, "keep_daily: -7 is negative", id="policy"),
        pytest.param({"retention": "[1]"}, "a table of rules is expected", id="policy that is a list"),
        pytest.param({"retention": '{"keep_within": "\\ud800"}'}, "surrogate", id="policy with half a character"),
        pytest.param({"targets": []}, "at least one target", id="targets"),
        pytest.param({"targets": ["9" * 40]}, "Select a valid choice", id="a target beyond what a database counts"),
    ],
)
def test_a_backup_job_that_makes_no_sense_is_refused_with_the_reason(
    admin_client: Client, tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    answer = admin_client.post(address(backups.BackupJob, "add/"), {**job_values(tmp_path), **values})
    assert answer.status_code == 200
    assert reason in shown(answer)
    assert not backups.BackupJob.objects.exists()


def test_an_invalid_schedule_of_a_maintenance_job_is_refused_and_nothing_changes(admin_client: Client) -> None:
    job = factories.MaintenanceJobFactory()
    values = {"name": "renamed", "schedule_cron": "61 3 * * *", "enabled": "on", "visible_in_ui": "on"}
    change = address(maintenance.MaintenanceJob, f"{job.pk}/change/")
    answer = admin_client.post(change, values)
    assert answer.status_code == 200
    assert "the minute “61” cannot be read" in shown(answer)
    assert maintenance.MaintenanceJob.objects.get(pk=job.pk).name == job.name
    assert admin_client.post(change, {**values, "schedule_cron": "@weekly"}).status_code == 302
    job.refresh_from_db()
    assert (job.name, job.schedule_cron) == ("renamed", "@weekly")


def test_a_key_that_is_taken_is_refused_on_the_form(admin_client: Client) -> None:
    job = factories.MaintenanceJobFactory()
    values = {"key": job.key, "name": "again", "job_type": "retention_cleanup"}
    answer = admin_client.post(address(maintenance.MaintenanceJob, "add/"), values)
    assert answer.status_code == 200
    assert "already" in shown(answer)


def test_options_are_one_row_that_is_changed_and_never_added_or_deleted(admin_client: Client) -> None:
    page = address(backups.Options)
    assert admin_client.get(page).status_code == 200
    values = {"timezone": "Europe/Berlin", "retention": '{"keep_last": 3}', "minimum_keep": 2, "trash_hours": 24}
    assert admin_client.post(f"{page}1/change/", values).status_code == 302
    assert backups.Options.load().retention == {"keep_last": 3}
    answer = admin_client.post(f"{page}1/change/", {**values, "minimum_keep": 0, "timezone": "X"})
    assert "is not a time zone" in shown(answer)
    assert "from 1 to 1000" in shown(answer)
    assert admin_client.get(f"{page}add/").status_code == 403
    assert admin_client.post(f"{page}1/delete/", {"post": "yes"}).status_code == 403


# --- Deleting -----------------------------------------------------------------------------------------------------


def test_a_storage_with_backups_is_not_deleted_and_the_reason_is_shown(admin_client: Client) -> None:
    backup = factories.BackupFactory(job=None)
    page = address(backups.Storage, f"{backup.storage_id}/delete/")
    assert admin_client.get(page).status_code == 200
    answer = admin_client.post(page, {"post": "yes"}, follow=True)
    assert "holds backups that the catalogue lists" in shown(answer)
    assert backups.Storage.objects.filter(pk=backup.storage_id).exists()


def test_a_target_of_a_job_is_not_deleted_and_the_job_is_named(admin_client: Client) -> None:
    job = factories.BackupJobFactory(name="nightly")
    target = job.targets.get()
    answer = admin_client.post(address(backups.Target, f"{target.pk}/delete/"), {"post": "yes"}, follow=True)
    assert "is protected by nightly" in shown(answer)
    assert backups.Target.objects.filter(pk=target.pk).exists()


def test_when_one_of_several_is_refused_none_is_deleted(admin_client: Client) -> None:
    free, used = factories.TargetFactory(name="a free one"), factories.BackupJobFactory().targets.get()
    values = {"action": "delete_selected", "_selected_action": [free.pk, used.pk], "post": "yes"}
    answer = admin_client.post(address(backups.Target), values, follow=True)
    assert answer.status_code == 200
    assert "is protected by" in shown(answer)
    assert backups.Target.objects.count() == 2
    values["_selected_action"] = [free.pk]
    admin_client.post(address(backups.Target), values, follow=True)
    assert backups.Target.objects.get() == used


@pytest.mark.parametrize(
    ("model", "run_factory"),
    [
        (backups.BackupJob, factories.BackupRunFactory),
        (maintenance.MaintenanceJob, factories.MaintenanceRunFactory),
    ],
    ids=["backup", "maintenance"],
)
def test_a_running_job_is_not_deleted_and_an_idle_one_leaves_its_history(
    admin_client: Client, model: Any, run_factory: Any
) -> None:
    run = run_factory(running=True)
    page = address(model, f"{run.job_id}/delete/")
    assert "is running" in shown(admin_client.post(page, {"post": "yes"}, follow=True))
    done = run_factory(succeeded=True, queued_at=timezone.now() - timedelta(days=1))
    assert admin_client.post(address(model, f"{done.job_id}/delete/"), {"post": "yes"}).status_code == 302
    assert not model.objects.filter(pk=done.job_id).exists()
    done.refresh_from_db()
    assert done.job is None


# --- Run now ------------------------------------------------------------------------------------------------------


def run_now(client: Client, model: Any, jobs: list[Any]) -> Any:
    values = {"action": "run_now", "_selected_action": [job.pk for job in jobs]}
    return client.post(address(model), values, follow=True)


@pytest.mark.parametrize(("model", "factory"), JOBS, ids=["backup", "maintenance"])
def test_run_now_records_a_run_of_each_job_and_starts_none(
    admin_client: Client, admin_user: User, model: Any, factory: Any
) -> None:
    jobs = [factory(), factory()]
    assert "2 runs are waiting" in shown(run_now(admin_client, model, jobs))
    for job in jobs:
        run = job.runs.get()
        assert (run.status, run.trigger, run.requested_by) == ("queued", RunTrigger.MANUAL, admin_user.username)
        assert run.started_at is None


def test_run_now_makes_no_copy_inside_the_request(admin_client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    run_now(admin_client, backups.BackupJob, [job])
    assert not backups.Backup.objects.exists()


@pytest.mark.parametrize(("model", "factory"), JOBS, ids=["backup", "maintenance"])
def test_run_now_is_neither_offered_nor_done_without_the_permission(client: Client, model: Any, factory: Any) -> None:
    user = User.objects.create_user("ann", is_staff=True)
    names = [f"{verb}_{model._meta.model_name}" for verb in ("view", "change")]
    user.user_permissions.add(*Permission.objects.filter(codename__in=names))
    client.force_login(user)
    job = factory()
    assert "Run now" not in shown(client.get(address(model)))
    run_now(client, model, [job])
    assert not job.runs.exists()
    user.user_permissions.add(Permission.objects.get(codename=f"run_{model._meta.model_name}"))
    assert "Run now" in shown(client.get(address(model)))
    run_now(client, model, [job])
    assert job.runs.exists()


# --- How jobs run -------------------------------------------------------------------------------------------------


def test_a_jobs_settings_are_changed_through_the_service(admin_client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    change = address(backups.BackupJob, f"{job.pk}/change/")
    values = {
        "name": job.name,
        "storage": job.storage_id,
        "targets": [target.pk for target in job.targets.all()],
        "overlap": "skip",
        "retry_count": "3",
        "window_start": "22:00",
        "window_end": "06:00",
        "blackout_dates": '["2026-12-24"]',
        "run_after": "",
        "queue": "nas1",
    }
    assert admin_client.post(change, values).status_code == 302
    job.refresh_from_db()
    assert (job.overlap, job.retry_count, job.blackout_dates, job.queue) == ("skip", 3, ["2026-12-24"], "nas1")
    kept = {name: values[name] for name in ("name", "storage", "targets")}
    assert admin_client.post(change, kept).status_code == 302
    job.refresh_from_db()
    assert (job.overlap, job.retry_count, job.queue) == ("skip", 3, "nas1"), "what was not sent stays"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"window_start": "22:00", "window_end": ""}, "Say when the window ends too"),
        ({"blackout_dates": '["Christmas"]'}, "is not a date"),
        ({"blackout_dates": '{"a": 1}'}, "a list of dates"),
        ({"run_after": "backup:999999"}, "There is no job"),
        ({"retry_count": "1"}, "never tried again without a person"),
        ({"retry_count": "9" * 30}, "Use a whole number from 0 to 10"),
        ({"queue": "a b"}, "name has letters"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_on_the_form(
    admin_client: Client, values: dict[str, str], reason: str
) -> None:
    job = factories.MaintenanceJobFactory()
    usual = {"name": job.name, "schedule_cron": job.schedule_cron, "enabled": "on", "visible_in_ui": "on"}
    answer = admin_client.post(address(maintenance.MaintenanceJob, f"{job.pk}/change/"), {**usual, **values})
    assert answer.status_code == 200
    assert reason in shown(answer)


def test_a_pause_is_shown_and_not_changed_in_the_admin_site(admin_client: Client) -> None:
    job = factories.MaintenanceJobFactory(paused_by="anna")
    change = address(maintenance.MaintenanceJob, f"{job.pk}/change/")
    assert "anna" in shown(admin_client.get(change))
    assert 'name="paused_by"' not in shown(admin_client.get(change))
