from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError

from backups.choices import AttemptStatus, BackupState
from backups.models import Backup, BackupJob, BackupRun, BackupRunTarget
from backups.services.jobs import job_create
from backups.services.targets import target_update
from scheduling.choices import RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.executing import execute_run
from tests.support import (
    add_backup,
    artifact_path,
    assert_catalogue_matches_storage,
    files_in,
    make_job,
    make_storage,
    make_target,
    now,
)

pytestmark = pytest.mark.django_db


def run_job(job: BackupJob) -> BackupRun:
    run = scheduled_dispatch("backup", job.pk, inline=True, trigger=RunTrigger.COMMAND)
    assert isinstance(run, BackupRun)
    return run


def test_a_backup_is_an_artifact_a_sidecar_and_a_row_that_agree(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    run = run_job(job)
    backup = Backup.objects.get()
    content = artifact_path(backup).read_bytes()
    sidecar = json.loads(artifact_path(backup).with_name(backup.artifact.sidecar_filename).read_text())
    assert run.status == RunStatus.SUCCEEDED
    assert (backup.size, backup.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (sidecar["size"], sidecar["sha256"], sidecar["artifact"]) == (
        backup.size,
        backup.sha256,
        backup.artifact.relative,
    )
    assert (backup.entries, backup.run, backup.job_name, backup.target_name) == (3, run, "nightly", "etc")
    assert run.result_json["files"] == 3
    assert_catalogue_matches_storage(job.storage)


def test_gnu_tar_restores_an_artifact_without_keepwell(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    run_job(job)
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", artifact_path(Backup.objects.get()), "-C", out], check=True)
    source = tmp_path / "source-etc"
    assert subprocess.run(["diff", "-r", source, out / str(source).lstrip("/")], check=False).returncode == 0


def test_the_words_of_a_backup_of_one_file_are_singular(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    source = tmp_path / "source-etc"
    shutil.rmtree(source)
    source.mkdir()
    (source / "only.txt").write_text("x")
    assert run_job(job).message.startswith("etc: 1 file, ")


def test_a_missing_source_fails_the_run_and_says_what_to_do(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    source = tmp_path / "source-etc"
    source.rename(tmp_path / "elsewhere")
    run = run_job(job)
    assert run.status == RunStatus.FAILED
    assert (
        run.message
        == f"etc was not backed up: {source} does not exist. Check that the disk is mounted, then run again."
    )
    assert files_in(job.storage) == set()


@pytest.mark.parametrize("exclude", [[], ["*.txt"]], ids=["no files", "everything excluded"])
def test_an_empty_source_fails_the_run(tmp_path: Path, exclude: list[str]) -> None:
    job = make_job(tmp_path)
    if exclude:
        target = job.targets.get()
        target_update(target=target, name=target.name, config={"paths": target.paths, "exclude": exclude})
    else:
        for file in (tmp_path / "source-etc").iterdir():
            file.unlink()
    run = run_job(job)
    assert run.status == RunStatus.FAILED
    assert "etc was not backed up" in run.message
    assert files_in(job.storage) == set()
    assert not Backup.objects.exists()


def test_one_target_that_fails_does_not_keep_the_others_from_being_backed_up(tmp_path: Path) -> None:
    job = make_job(tmp_path, targets=("a-gone", "b-there"))
    (tmp_path / "source-a-gone").rename(tmp_path / "elsewhere")
    run = run_job(job)
    assert run.status == RunStatus.FAILED
    assert [attempt.status for attempt in run.attempts.all()] == [AttemptStatus.FAILED, AttemptStatus.SUCCEEDED]
    assert Backup.objects.get().target_name == "b-there"


@pytest.mark.parametrize("harm", ["unmounted", "sentinel gone", "foreign sentinel"])
def test_a_storage_that_is_not_itself_fails_the_run_and_gets_no_byte(tmp_path: Path, harm: str) -> None:
    job = make_job(tmp_path)
    root = Path(job.storage.path)
    sentinel = root / ".keepwell-storage.json"
    if harm == "unmounted":
        root.rename(tmp_path / "unplugged")
    elif harm == "sentinel gone":
        sentinel.unlink()
    else:
        sentinel.write_bytes((Path(make_storage(tmp_path, "other").path) / sentinel.name).read_bytes())
    run = run_job(job)
    assert run.status == RunStatus.FAILED
    assert job.storage.name in run.message
    assert not Backup.objects.exists()
    assert not root.exists() or files_in(job.storage) == set()


def test_what_cannot_be_read_is_a_warning_not_a_failure(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    source = tmp_path / "source-etc"
    growing = source / "growing.log"
    growing.write_bytes(b"x" * 50_000_000)
    done = threading.Event()

    def grow() -> None:
        while not done.is_set():
            with growing.open("ab") as file:
                file.write(b"more")
            time.sleep(0.001)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        run = run_job(job)
    finally:
        done.set()
        writer.join()
    assert (run.status, run.outcome) == (RunStatus.SUCCEEDED, "warning")
    assert any("growing.log" in line.text for line in run.log_lines.filter(level="warning"))
    assert Backup.objects.count() == 1


def test_a_copy_under_half_the_usual_size_is_suspect(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    for days in range(1, 6):
        add_backup(job, now() - timedelta(days=days), content=b"x" * 1_000_000)
    run = run_job(job)
    backup = Backup.objects.get(run=run)
    assert backup.is_suspect
    assert "under half" in backup.suspect_reason
    assert run.outcome == "warning"


def test_suspect_copies_do_not_make_small_ones_usual(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    add_backup(job, now() - timedelta(days=9), content=b"x" * 1_000_000)
    for day in range(1, 6):
        add_backup(job, now() - timedelta(days=day), content=b"x", suspect_reason="it is far too small")
    assert Backup.objects.get(run=run_job(job)).suspect_reason.endswith("the copy before it")


def test_a_target_that_another_run_is_at_waits_for_its_turn(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    target = job.targets.get()
    other = make_job(tmp_path, name="other", targets=("www",))
    other.targets.set([target])
    busy = BackupRunTarget.objects.create(
        run=BackupRun.objects.create(job=other, job_name="other"), target=target, target_name=target.name
    )
    queued = scheduled_dispatch("backup", job.pk, trigger=RunTrigger.MANUAL)
    assert queued is not None
    assert execute_run("backup", queued.pk) is None
    queued.refresh_from_db()
    assert queued.status == RunStatus.QUEUED
    busy.active = False
    busy.save()
    ended = execute_run("backup", queued.pk)
    assert ended is not None
    assert ended.status == RunStatus.SUCCEEDED


def test_a_run_gives_its_targets_back_however_it_ends(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    (tmp_path / "source-etc").rename(tmp_path / "elsewhere")
    run_job(job)
    assert not BackupRunTarget.objects.filter(active=True).exists()


def test_a_stopped_run_keeps_nothing_half_made(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    stop = threading.Event()
    queued = scheduled_dispatch("backup", job.pk, trigger=RunTrigger.MANUAL)
    assert queued is not None
    run = execute_run("backup", queued.pk, stop=stop, echo=lambda _level, _text: stop.set())
    assert run is not None
    assert run.status == RunStatus.CANCELLED
    assert files_in(job.storage) == set()
    assert run.attempts.get().status == AttemptStatus.CANCELLED


def test_a_storage_inside_the_source_is_refused(tmp_path: Path) -> None:
    target = make_target(tmp_path)
    storage = make_storage(tmp_path / "source-etc")
    with pytest.raises(ValidationError, match="lies inside"):
        job_create(name="loop", targets=[target], storage=storage)


def test_a_deleted_backup_is_not_what_its_run_becomes(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    run = run_job(job)
    Backup.objects.update(state=BackupState.DELETED, trashed_at=now(), deleted_at=now())
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED
