"""How jobs run, as a configuration file says it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import Any

import pytest

from backups.models import BackupJob
from maintenance.models import MaintenanceJob
from scheduling.job_settings import DEFAULTS, job_id, settings_of
from tests.commands.conftest import Run
from tests.factories import BackupJobFactory

pytestmark = pytest.mark.django_db

Write = Callable[[str], str]

BASE = """
[[storages]]
name = "nas"
path = "DIR/backups"

[[targets]]
name = "etc"
paths = ["/etc"]
"""
JOB = """
[[backup_jobs]]
name = "{name}"
targets = ["etc"]
storage = "nas"
{more}
"""
WHOLE = """
overlap = "skip"
retry_count = 3
retry_delay = 5
time_limit = 90
window = "22:00-06:00"
blackout_dates = ["2026-12-31..2027-01-01", "2026-12-24"]
queue = "nas1"
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Put text below the storage and target that it needs, and give the file's path."""

    def write(text: str) -> str:
        path = tmp_path / "keepwell.toml"
        path.write_text((BASE + text).replace("DIR", str(tmp_path)), encoding="utf-8")
        return str(path)

    return write


def job(name: str, more: str = "") -> str:
    return JOB.format(name=name, more=more)


def cleanup(more: str = "", key: str = "retention_cleanup_nightly") -> str:
    return f'\n[[maintenance_jobs]]\nkey = "{key}"\n{more}\n'


def rows() -> list[Any]:
    return [list(model.objects.order_by("pk").values()) for model in (BackupJob, MaintenanceJob)]


def test_every_setting_can_be_said_for_both_kinds(run: Run, write: Write) -> None:
    path = write(job("nightly", WHOLE) + cleanup(WHOLE.replace("retry_count = 3", "")))
    assert run("apply", path).err == ""
    nightly, nightly_cleanup = BackupJob.objects.get(), MaintenanceJob.objects.get(key="retention_cleanup_nightly")
    stored = {
        "overlap": "skip",
        "retry_count": 3,
        "retry_delay": 5,
        "time_limit": 90,
        "window_start": time(22),
        "window_end": time(6),
        "blackout_dates": ["2026-12-24", "2026-12-31..2027-01-01"],
        "run_after": "",
        "queue": "nas1",
    }
    assert settings_of(nightly) == stored
    assert settings_of(nightly_cleanup) == {**stored, "retry_count": 0}
    before = rows()
    assert "Nothing changed." in run("apply", path).out
    assert rows() == before, "not even a time of change"


def test_what_changed_is_said_under_the_files_own_names(run: Run, write: Write) -> None:
    run("apply", write(job("nightly", WHOLE)))
    changed = WHOLE.replace("22:00", "21:00").replace("90", "60")
    ended = run("apply", write(job("nightly", changed)), "--json")
    assert ended.value["updated"] == [
        {"table": "backup_jobs", "name": "nightly", "fields": ["time_limit", "window"]},
    ]
    run("apply", write(job("nightly")))
    assert settings_of(BackupJob.objects.get()) == DEFAULTS, "what a file leaves out is the default"


def test_a_job_runs_after_one_that_stands_further_down(run: Run, write: Write) -> None:
    text = (
        cleanup('run_after = "backup:nightly"')
        + job("offsite", 'run_after = "maintenance:retention_cleanup_nightly"')
        + job("nightly")
    )
    path = write(text)
    assert run("apply", path).err == ""
    nightly, offsite = BackupJob.objects.get(name="nightly"), BackupJob.objects.get(name="offsite")
    nightly_cleanup = MaintenanceJob.objects.get(key="retention_cleanup_nightly")
    assert nightly_cleanup.run_after == job_id(nightly)
    assert offsite.run_after == job_id(nightly_cleanup)
    before = rows()
    assert "Nothing changed." in run("apply", path).out
    assert rows() == before


def test_what_runs_after_what_can_be_turned_round(run: Run, write: Write) -> None:
    run("apply", write(job("one", 'run_after = "backup:two"') + job("two")))
    ended = run("apply", write(job("one") + job("two", 'run_after = "backup:one"')), "--json")
    assert ended.status == 0, ended.err
    assert {change["name"]: change["fields"] for change in ended.value["updated"]} == {
        "one": ["run_after"],
        "two": ["run_after"],
    }
    one, two = BackupJob.objects.get(name="one"), BackupJob.objects.get(name="two")
    assert (one.run_after, two.run_after) == ("", job_id(one))


def test_a_job_that_is_only_in_the_database_can_be_followed(run: Run, write: Write) -> None:
    there = BackupJobFactory(name="there: already")
    assert run("apply", write(job("nightly", 'run_after = " backup:there:  already"'))).err == ""
    assert BackupJob.objects.get(name="nightly").run_after == job_id(there)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (job("nightly", 'overlap = "both"'), "overlap: “both” is not one of the choices"),
        (job("nightly", "retry_count = 11"), "retry_count: Use a whole number from 0 to 10."),
        (job("nightly", 'retry_count = "3"'), "retry_count: This must be a whole number"),
        (job("nightly", "retry_delay = -1"), "retry_delay: Use a whole number from 0 to 1440."),
        (job("nightly", "time_limit = 0"), "time_limit: Use a whole number from 1 to 10080."),
        (job("nightly", f"time_limit = {10**30}"), "time_limit: Use a whole number"),
        (job("nightly", 'window = "at night"'), "window: “at night” is not a window. Write 22:00-06:00."),
        (job("nightly", 'window = "22:00"'), "window: “22:00” is not a window"),
        (job("nightly", 'window = "22:00-26:00"'), "window: “26:00” is not a time of day"),
        (job("nightly", 'window = "22:00-22:00"'), "window: The window ends when it starts"),
        (job("nightly", 'window = ["22:00", "06:00"]'), "window: This must be text"),
        (job("nightly", 'blackout_dates = "2026-12-24"'), "blackout_dates: This must be a list of texts"),
        (job("nightly", 'blackout_dates = ["Christmas"]'), "blackout_dates: “Christmas” is not a date"),
        (job("nightly", 'queue = "a b"'), "queue: A queue's name"),
        (job("nightly", "window_start = 22:00:00"), "There is no such key. Did you mean window?"),
        (
            job("nightly", 'run_after = "weekly"'),
            "“weekly” is not a job. Write backup:NAME or maintenance:KEY.",
        ),
        (job("nightly", 'run_after = "backup:"'), "is not a job"),
        (job("nightly", 'run_after = "backup:weekly"'), "There is no backup job “weekly”, neither in this file nor in"),
        (job("nightly", 'run_after = "maintenance:x"'), "There is no maintenance job “x”"),
        (job("nightly", 'run_after = "backup:nightly"'), "It would run after itself: nightly after nightly."),
        (
            job("one", 'run_after = "maintenance:retention_cleanup_nightly"') + cleanup('run_after = "backup:one"'),
            "It would run after itself: one after retention_cleanup_nightly after one.",
        ),
        (cleanup("retry_count = 1"), "retry_count: What deletes is never tried again without a person"),
        (cleanup("retry_count = 1\njob_type = 'purge_trash'", key="new_one"), "retry_count: What deletes"),
        (
            job("nightly") + cleanup('run_after = "backup:nightly"', key="retention_cleanup_manual"),
            "run_after: This job only runs by hand.",
        ),
    ],
)
def test_what_cannot_be_is_said_at_its_key_and_nothing_is_written(run: Run, write: Write, text: str, says: str) -> None:
    before = rows()
    ended = run("apply", write(text))
    assert ended.status == 2
    assert says in ended.err
    assert "Traceback" not in ended.err
    assert rows() == before


def test_a_circle_through_a_job_that_the_file_does_not_name_is_found(run: Run, write: Write) -> None:
    run("apply", write(job("one") + job("two", 'run_after = "backup:one"')))
    ended = run("apply", write(job("one", 'run_after = "backup:two"')))
    assert ended.status == 2
    assert "It would run after itself: one after two after one." in ended.err


def test_prune_removes_a_chain_of_jobs_from_its_end(run: Run, write: Write) -> None:
    chain = (
        job("a", 'run_after = "maintenance:between"')
        + cleanup('job_type = "purge_trash"\nrun_after = "backup:z"', key="between")
        + job("z")
    )
    run("apply", write(chain))
    ended = run("apply", write(""), "--prune", "--json")
    assert ended.status == 0, ended.err
    jobs = [change["name"] for change in ended.value["removed"] if "jobs" in change["table"]]
    assert jobs == ["a", "between", "z"]
    assert not BackupJob.objects.exists()


def test_prune_does_not_take_away_what_a_job_that_stays_runs_after(run: Run, write: Write) -> None:
    run("apply", write(job("nightly") + cleanup('run_after = "backup:nightly"')))
    before = rows()
    ended = run("apply", write(""), "--prune")
    assert ended.status == 2
    assert "runs after nightly. Choose another job or none" in ended.err
    assert rows() == before
    assert run("apply", write(cleanup()), "--prune").status == 0, "the file lets go of it"


def test_a_file_neither_ends_a_pause_nor_sees_one(run: Run, write: Write) -> None:
    path = write(job("nightly", WHOLE))
    run("apply", path)
    BackupJob.objects.update(paused_until="2127-01-01T00:00:00Z", paused_by="anna")
    assert "Nothing changed." in run("apply", path).out
    run("apply", write(job("nightly")))
    assert BackupJob.objects.get().paused_by == "anna"
