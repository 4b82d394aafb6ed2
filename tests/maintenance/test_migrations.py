from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE = ("maintenance", "0001_initial")
AFTER = ("maintenance", "0002_default_jobs")


def migrate(to: tuple[str, str]) -> type:
    executor = MigrationExecutor(connection)
    executor.migrate([to])
    return MigrationExecutor(connection).loader.project_state([to]).apps.get_model("maintenance", "MaintenanceJob")


@pytest.fixture(autouse=True)
def back_to_the_newest() -> Iterator[None]:
    migrate(BEFORE).objects.all().delete()
    yield
    call_command("migrate", verbosity=0)


def test_the_default_jobs_are_made() -> None:
    jobs = {job.key: job for job in migrate(AFTER).objects.all()}
    assert set(jobs) == {"retention_cleanup_nightly", "retention_cleanup_manual"}
    nightly, manual = jobs["retention_cleanup_nightly"], jobs["retention_cleanup_manual"]
    assert (nightly.schedule_cron, nightly.enabled, nightly.visible_in_ui) == ("0 3 * * *", True, True)
    assert (manual.schedule_cron, manual.visible_in_ui) == ("", False)
    assert nightly.job_type == manual.job_type == "retention_cleanup"


def test_going_back_removes_them_and_going_forward_again_makes_them_once() -> None:
    migrate(AFTER)
    assert migrate(BEFORE).objects.count() == 0
    migrate(AFTER)
    assert migrate(AFTER).objects.count() == 2


def test_an_operators_edits_survive_going_back_and_forth() -> None:
    jobs = migrate(AFTER)
    jobs.objects.filter(key="retention_cleanup_nightly").update(schedule_cron="15 4 * * *", enabled=False)
    migrate(BEFORE)
    nightly = migrate(AFTER).objects.get(key="retention_cleanup_nightly")
    assert (nightly.schedule_cron, nightly.enabled) == ("15 4 * * *", False)


def test_a_job_that_is_there_before_the_migration_is_left_as_it_is() -> None:
    jobs = migrate(BEFORE)
    jobs.objects.create(
        key="retention_cleanup_nightly", name="Mine", job_type="retention_cleanup", schedule_cron="0 5 * * *"
    )
    assert migrate(AFTER).objects.get(key="retention_cleanup_nightly").name == "Mine"


def test_the_models_and_the_migrations_agree() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
