from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from backups.models import Backup, BackupJob
from backups.services.options import options_update
from backups.services.protections import backup_pin
from maintenance.models import CleanupPlanPair, MaintenanceJob, MaintenanceRun
from scheduling.choices import RunTrigger
from scheduling.dispatch import scheduled_dispatch
from tests.commands.conftest import Run
from tests.factories import MaintenanceRunFactory
from tests.support import add_backup, default_jobs


@pytest.fixture
def cleaned(nightly: BackupJob) -> MaintenanceRun:
    """A cleanup of ten copies with a pinned, a suspect and a verified one among them."""
    default_jobs()
    options_update(retention={"keep_last": 2, "keep_weekly": 2}, guard_storage_share=None, guard_pair_share=100)
    copies = [add_backup(nightly, datetime(2026, 3, day, 2, 30, tzinfo=UTC)) for day in range(1, 11)]
    backup_pin(backup=copies[0], by="anna", note="tax records")
    Backup.objects.filter(pk=copies[1].pk).update(suspect_reason="it holds no entries")
    Backup.objects.filter(pk=copies[2].pk).update(verified_at=datetime(2026, 3, 9, tzinfo=UTC))
    job = MaintenanceJob.objects.get(key="retention_cleanup_nightly")
    run = scheduled_dispatch("maintenance", job.pk, inline=True, trigger=RunTrigger.COMMAND)
    assert isinstance(run, MaintenanceRun)
    assert run.result("deleted_count") > 3
    return run


def test_what_a_cleanup_decided_comes_out_the_same(run: Run, cleaned: MaintenanceRun) -> None:
    # Whatever has become of policy and copies since: the record holds all that it needs.
    options_update(retention={"keep_last": 9}, timezone="Asia/Tokyo")
    Backup.objects.update(pinned_at=None, pin_note="", size=1)
    ended = run("replay_plan", str(cleaned.pk))
    assert ended.status == 0, ended.err
    assert "nightly / docs: 10 copies, decided the same" in ended.out
    as_json = run("replay_plan", str(cleaned.pk), "--json").value
    assert (as_json["same"], as_json["pairs"][0]["copies"]) == (True, 10)


def _change_a_reason(document: dict[str, Any]) -> None:
    document["verdicts"][3]["reasons"][0]["text"] = "because I say so"


def _change_a_verdict(document: dict[str, Any]) -> None:
    document["verdicts"][9]["keep"] = False


def _drop_a_verdict(document: dict[str, Any]) -> None:
    document["verdicts"].pop()


def _change_an_input(document: dict[str, Any]) -> None:
    document["inputs"]["size"][0] += 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_change_a_reason, "because I say so"),
        (_change_a_verdict, "was delete"),
        (_drop_a_verdict, "there were 9 verdicts and are 10"),
        (_change_an_input, "the digest was"),
    ],
    ids=["reason", "verdict", "number", "input"],
)
def test_a_record_that_was_changed_is_found_out(
    run: Run, cleaned: MaintenanceRun, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    pair = CleanupPlanPair.objects.get()
    document = pair.document
    change(document)
    CleanupPlanPair.objects.update(packed=CleanupPlanPair.pack(document))
    ended = run("replay_plan", str(cleaned.pk))
    assert ended.status == 1
    assert words in ended.out
    assert "1 of 1 pairs" in ended.err


@pytest.mark.parametrize("packed", [b"", b"x", CleanupPlanPair.pack({}), CleanupPlanPair.pack({"inputs": 1})])
def test_a_record_that_cannot_be_read_is_a_failure(run: Run, cleaned: MaintenanceRun, packed: bytes) -> None:
    CleanupPlanPair.objects.update(packed=packed)
    ended = run("replay_plan", str(cleaned.pk))
    assert ended.status == 1
    assert "cannot be read" in ended.err


@pytest.mark.parametrize("name", ["4711", "x", "", "9" * 30])
def test_a_run_that_does_not_exist_is_bad_input(run: Run, transactional_db: None, name: str) -> None:
    assert run("replay_plan", name).status == 2


def test_a_run_without_a_plan_is_bad_input(run: Run, transactional_db: None) -> None:
    ended = run("replay_plan", str(MaintenanceRunFactory(succeeded=True).pk))
    assert ended.status == 2
    assert "stored no plan" in ended.err
