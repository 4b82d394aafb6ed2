from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from backups.models import BackupRun
from maintenance.models import MaintenanceRun
from scheduling.choices import RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from tests.factories import BackupJobFactory, MaintenanceJobFactory
from tests.support import make_job, now

pytestmark = pytest.mark.django_db


def test_dispatch_routes_each_kind_to_its_own_runs() -> None:
    backup, maintenance = BackupJobFactory(), MaintenanceJobFactory()
    assert isinstance(scheduled_dispatch("backup", str(backup.pk)), BackupRun)
    assert isinstance(scheduled_dispatch("maintenance", str(maintenance.pk)), MaintenanceRun)


def test_what_the_clock_fires_is_recorded_for_its_slot_and_not_run() -> None:
    job = BackupJobFactory(schedule="* * * * *")
    run = scheduled_dispatch("backup", str(job.pk))
    assert run is not None
    assert (run.status, run.trigger, run.started_at) == (RunStatus.QUEUED, RunTrigger.SCHEDULE, None)
    assert run.slot is not None
    assert run.slot.second == 0
    assert scheduled_dispatch("backup", str(job.pk)) == run


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Pacific/Kiritimati"])
def test_the_slot_is_the_time_in_the_schedules_zone(zone: str) -> None:
    run = scheduled_dispatch("backup", BackupJobFactory(schedule="0 3 * * *", timezone=zone).pk)
    assert run is not None
    assert run.slot is not None
    local = run.slot.astimezone(ZoneInfo(zone))
    assert (local.hour, local.minute) == (3, 0)
    assert timedelta(0) <= now() - run.slot < timedelta(days=1)


def test_the_clock_records_nothing_for_a_job_that_was_switched_off_meanwhile() -> None:
    assert scheduled_dispatch("backup", BackupJobFactory(enabled=False).pk) is None


def test_a_job_that_is_switched_off_can_still_be_run_by_hand() -> None:
    assert scheduled_dispatch("backup", BackupJobFactory(enabled=False).pk, trigger=RunTrigger.MANUAL) is not None


@pytest.mark.parametrize("kind", ["backup", "maintenance"])
def test_a_job_that_is_gone_is_nothing_to_run(kind: str) -> None:
    assert scheduled_dispatch(kind, 999_999) is None


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(LookupError, match="“report” is not a kind of job"):
        scheduled_dispatch("report", 1)


def test_inline_runs_to_the_end(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    run = scheduled_dispatch("backup", job.pk, inline=True, trigger=RunTrigger.COMMAND, requested_by="root")
    assert run is not None
    assert (run.status, run.requested_by) == (RunStatus.SUCCEEDED, "root")
    assert job.backups.count() == 1
