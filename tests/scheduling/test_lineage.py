"""Which runs belong together."""

from __future__ import annotations

from typing import Any

import pytest

from backups.models import BackupRun
from maintenance.models import MaintenanceJob
from scheduling.choices import RunStatus, RunTrigger
from scheduling.context import RunResult
from scheduling.ledger import run_claim, run_finish
from scheduling.lineage import MOST, run_lineage
from scheduling.registry import all_kinds, get_kind
from tests.factories import BackupJobFactory, BackupRunFactory, MaintenanceJobFactory

pytestmark = pytest.mark.django_db


def attempts(run: Any) -> list[int]:
    return [one.pk for one in run_lineage(run, all_kinds()).attempts]


def finish(run: Any, status: RunStatus) -> None:
    kind = get_kind(run.kind)
    claimed = run_claim(kind=kind, run_id=run.pk, holder="h")
    assert claimed is not None
    assert run_finish(kind=kind, run=claimed, status=status, result=RunResult(message="It ended."))
    run.refresh_from_db()


def test_a_run_that_stands_alone_has_no_lineage() -> None:
    assert not run_lineage(BackupRunFactory(succeeded=True), all_kinds())


def test_every_attempt_is_found_from_each_of_them() -> None:
    job = BackupJobFactory()
    first = BackupRunFactory(failed=True, job=job)
    retry = BackupRunFactory(failed=True, job=job, parent=first)
    again = BackupRunFactory(failed=True, job=job, parent=first)
    last = BackupRunFactory(succeeded=True, job=job, parent=retry)
    BackupRunFactory(succeeded=True, job=job)
    family = [first.pk, retry.pk, again.pk, last.pk]
    assert [attempts(run) for run in (first, retry, again, last)] == [family] * 4


def test_a_long_chain_and_a_ring_end_somewhere() -> None:
    runs = [BackupRunFactory(failed=True)]
    for _ in range(MOST + 10):
        runs.append(BackupRunFactory(failed=True, job=runs[0].job, parent=runs[-1]))
    assert attempts(runs[-1])[-1] == runs[-1].pk
    assert len(attempts(runs[-1])) == MOST
    ring = [BackupRunFactory(failed=True), BackupRunFactory(failed=True)]
    BackupRun.objects.filter(pk=ring[0].pk).update(parent=ring[1])
    BackupRun.objects.filter(pk=ring[1].pk).update(parent=ring[0])
    ring[0].refresh_from_db()
    assert set(attempts(ring[0])) == {one.pk for one in ring}


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED])
def test_what_the_end_of_a_run_started_is_found_from_both_sides(status: RunStatus) -> None:
    job = BackupJobFactory()
    cleanup = MaintenanceJobFactory(run_after=f"backup:{job.pk}")
    off_site = BackupJobFactory(run_after=f"backup:{job.pk}")
    run = BackupRunFactory(job=job)
    finish(run, status)
    found = run_lineage(run, all_kinds())
    assert {(one.kind, one.job) for one in found.followers} == {("maintenance", cleanup), ("backup", off_site)}
    for follower in found.followers:
        assert run_lineage(follower, all_kinds()).cause == run


def test_only_kinds_that_the_reader_may_see_are_shown() -> None:
    job = BackupJobFactory()
    MaintenanceJobFactory(run_after=f"backup:{job.pk}")
    run = BackupRunFactory(job=job)
    finish(run, RunStatus.SUCCEEDED)
    [follower] = run_lineage(run, all_kinds()).followers
    assert run_lineage(run, [get_kind("backup")]).followers == []
    assert run_lineage(follower, [get_kind("maintenance")]).cause is None


def test_what_followed_is_still_known_when_the_job_follows_another_now() -> None:
    job = BackupJobFactory()
    cleanup = MaintenanceJobFactory(run_after=f"backup:{job.pk}")
    run = BackupRunFactory(job=job)
    finish(run, RunStatus.SUCCEEDED)
    MaintenanceJob.objects.filter(pk=cleanup.pk).update(run_after="")
    [follower] = run_lineage(run, all_kinds()).followers
    assert run_lineage(follower, all_kinds()).cause == run


@pytest.mark.parametrize("cause", ["", "backup", "rocket:3", "backup:x", "backup:99"])
def test_a_run_whose_cause_is_not_there_has_none(cause: str) -> None:
    run = BackupRunFactory(succeeded=True, trigger=RunTrigger.AFTER, cause=cause)
    assert run_lineage(run, all_kinds()).cause is None
