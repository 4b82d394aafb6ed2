"""What was forecast is what happens: the nights are played one by one on real files, under a clock that is told."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from backups.models import Backup, Options
from backups.services.forecast import forecast_pair
from backups.services.options import options_update
from backups.services.protections import backup_pin
from backups.services.retention import retention_pairs
from maintenance.models import MaintenanceRun
from scheduling.choices import RunOutcome, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.executing import execute_run
from tests.support import add_backup, assert_catalogue_matches_storage, default_jobs, make_job

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_blast_radius")]

BERLIN = ZoneInfo("Europe/Berlin")
TONIGHT = datetime(2026, 9, 20, 12, tzinfo=BERLIN)
POLICIES: dict[str, dict[str, Any]] = {
    "plain": {"keep_last": 3, "keep_daily": 7, "keep_weekly": 4, "keep_monthly": 12},
    "years": {"keep_daily": 14, "keep_monthly": 6, "keep_yearly": 2},
    "within": {"keep_within": "20d", "keep_within_weekly": "3m", "keep_yearly": -1},
    "few": {"keep_last": 2},
}


def at(moment: datetime, job_key: str) -> MaintenanceRun:
    job = default_jobs()[job_key]
    run = scheduled_dispatch("maintenance", job.pk, trigger=RunTrigger.COMMAND)
    assert run is not None
    ended = execute_run("maintenance", run.pk, now=lambda: moment)
    assert isinstance(ended, MaintenanceRun)
    return ended


@pytest.mark.parametrize(
    "name", ["plain", *(pytest.param(name, marks=pytest.mark.slow) for name in ("years", "within", "few"))]
)
def test_two_years_of_copies_go_on_the_nights_that_were_forecast(tmp_path: Path, name: str) -> None:
    """Forty nights across the autumn's change of the clocks, with days that were missed and a pin that ends."""
    job = make_job(tmp_path, schedule="30 2 * * *")
    chance = random.Random(name)
    default_jobs()
    options_update(timezone="Europe/Berlin", retention={"keep_daily": 400, "keep_monthly": 30}, trash_hours=72)
    for age in range(730, 0, -1):
        if chance.random() > 0.1:
            night = (TONIGHT - timedelta(days=age)).replace(hour=2, minute=30)
            add_backup(job, night.astimezone(UTC), content=bytes(chance.randrange(60, 90)))
    rows = list(Backup.objects.order_by("created_at"))
    Backup.objects.filter(pk=rows[-40].pk).update(verified_at=TONIGHT)
    backup_pin(backup=rows[-20], by="anna", until=TONIGHT + timedelta(days=25), now=TONIGHT)
    options_update(retention=POLICIES[name])
    (pair,) = retention_pairs()
    until = TONIGHT + timedelta(days=40)
    forecast = forecast_pair(pair=pair, options=Options.load(), now=TONIGHT, until=until)
    promised = {uid: fate.deleted_at for uid, fate in forecast.timeline.fates.items()}
    happened: dict[str, datetime | None] = dict.fromkeys(promised)
    for night in range(1, 41):
        day = TONIGHT + timedelta(days=night)
        add_backup(job, day.replace(hour=2, minute=30).astimezone(UTC))
        moment = day.replace(hour=3, minute=0).astimezone(UTC)
        run = at(moment, "retention_cleanup_nightly")
        assert run.outcome in (RunOutcome.OK, RunOutcome.WARNING), run.message
        for uid in Backup.objects.filter(removed_by=f"maintenance:{run.pk}").values_list("uid", flat=True):
            if uid in happened:
                happened[uid] = moment
        at(day.replace(hour=3, minute=30).astimezone(UTC), "purge_trash")
        there = {copy.created for copy in forecast.timeline.copies_on(day.date())}
        assert there == set(Backup.objects.available().values_list("created_at", flat=True))
    assert happened == promised
    assert_catalogue_matches_storage(job.storage)
