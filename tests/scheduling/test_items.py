from __future__ import annotations

import pytest

from backups.services.options import options_update
from scheduling.items import ScheduledItem
from tests.factories import BackupJobFactory, MaintenanceJobFactory

pytestmark = pytest.mark.django_db


def test_a_backup_job_becomes_an_item() -> None:
    job = BackupJobFactory(name="nightly", schedule="30 2 * * *", timezone="Asia/Tokyo")
    item = ScheduledItem.from_backup_job(job)
    assert (item.id, item.name, item.schedule, item.timezone) == (
        f"backup:{job.pk}",
        "nightly",
        "30 2 * * *",
        "Asia/Tokyo",
    )
    assert item.is_scheduled


def test_a_maintenance_job_becomes_an_item() -> None:
    job = MaintenanceJobFactory(key="cleanup", schedule_cron="0 3 * * *")
    item = ScheduledItem.from_maintenance_job(job)
    assert (item.id, item.name, item.schedule) == (f"maintenance:{job.pk}", "cleanup", "0 3 * * *")


def test_a_job_without_a_zone_takes_the_one_in_options() -> None:
    options_update(timezone="Europe/Berlin")
    assert ScheduledItem.from_backup_job(BackupJobFactory()).timezone == "Europe/Berlin"
    assert ScheduledItem.from_maintenance_job(MaintenanceJobFactory()).timezone == "Europe/Berlin"


@pytest.mark.parametrize(("schedule", "enabled"), [("", True), ("  ", True), ("0 3 * * *", False)])
def test_a_job_without_schedule_or_switched_off_is_not_scheduled(schedule: str, enabled: bool) -> None:
    job = BackupJobFactory(schedule=schedule, enabled=enabled)
    assert not ScheduledItem.from_backup_job(job).is_scheduled
