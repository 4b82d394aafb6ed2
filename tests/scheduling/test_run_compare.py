from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.models import BackupRun
from scheduling.choices import RunStatus
from scheduling.run_compare import differences, run_comparison
from tests.factories import BackupJobFactory, BackupRunFactory

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def run(seconds: float = 60, **figures: Any) -> BackupRun:
    return BackupRun(
        status=RunStatus.SUCCEEDED,
        started_at=NOON,
        finished_at=NOON + timedelta(seconds=seconds),
        result_json=figures,
    )


def lines(now: BackupRun, before: BackupRun) -> dict[str, str]:
    return {
        found.name: " ".join((found.now, found.before, found.change, found.percent)).replace("\u00a0", " ").strip()
        for found in differences(now, before)
    }


def test_a_difference_has_its_sign_and_its_share_of_the_run_before() -> None:
    found = lines(run(90, stored_bytes=1024, files=12_000, warning_count=3), run(60, stored_bytes=2048, files=12_000))
    assert found["Duration"] == "1 min 30 s 1 min +30 s +50 %"
    assert found["Stored"] == "1.0 KiB 2.0 KiB −1.0 KiB −50 %"
    assert found["Files"] == "12\u202f000 12\u202f000 the same"
    # The run before did not count it: there is nothing to compare.
    assert "Warnings" not in found


def test_something_out_of_nothing_has_no_percent_and_nothing_out_of_nothing_is_left_out() -> None:
    found = lines(run(warning_count=3, failed_count=0), run(warning_count=0, failed_count=0))
    assert found["Warnings"] == "3 0 +3"
    assert "Failed" not in found


def test_a_change_too_small_to_see_is_said_to_be_none() -> None:
    assert lines(run(stored_bytes=10**9), run(stored_bytes=10**9 + 1))["Stored"] == "954 MiB 954 MiB the same"


@pytest.mark.parametrize("junk", ["many", None, True, [], {}, -1, float("nan"), float("inf"), 10**30], ids=str)
def test_a_figure_that_is_none_is_left_out(junk: Any) -> None:
    assert "Files" not in lines(run(files=junk), run(files=3))
    assert "Files" not in lines(run(files=3), run(files=junk))


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_any_two_figures_can_be_compared(now: int, before: int) -> None:
    for found in differences(run(stored_bytes=now), run(stored_bytes=before)):
        assert (
            found.change == "the same"
            or found.change.startswith("−" if now < before else "+")
            or found.name == "Duration"
        )


@pytest.mark.django_db
def test_the_run_before_is_the_newest_that_had_succeeded_of_the_same_job() -> None:
    job = BackupJobFactory()
    at = [NOON + timedelta(hours=hours) for hours in range(5)]
    BackupRunFactory(succeeded=True, job=job, queued_at=at[0])
    before = BackupRunFactory(succeeded=True, job=job, queued_at=at[1])
    failed = BackupRunFactory(failed=True, job=job, queued_at=at[2])
    now = BackupRunFactory(succeeded=True, job=job, queued_at=at[3])
    BackupRunFactory(succeeded=True, job=job, queued_at=at[4])
    BackupRunFactory(succeeded=True, queued_at=at[2])
    for one in (failed, now):
        found = run_comparison(one)
        assert found is not None
        assert found.before == before
    assert run_comparison(BackupRunFactory(job=job)) is None
    assert run_comparison(BackupRunFactory(succeeded=True, job=None)) is None
