"""What dead processes left: mended one state at a time, and by killing a real process at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from django.core.management import call_command

from backups.choices import BackupState
from backups.models import Backup, BackupJob, BackupRun, BackupRunTarget
from backups.services.options import options_update
from backups.services.recovery import backups_recover
from backups.services.storages import storage_backend
from backups.storage import ArtifactName, Sidecar, new_uid
from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling import holders
from scheduling.choices import OPEN, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.ledger import runs_recover
from tests.support import add_backup, assert_catalogue_matches_storage, files_in, make_job, no_blast_radius, now

ROOT = Path(__file__).resolve().parent.parent.parent
DEAD = "0" * 24


def dead_attempt(job: BackupJob, name: ArtifactName) -> BackupRunTarget:
    """The attempt of a run whose process died after it had named its artifact."""
    run = BackupRun.objects.create(
        job=job, job_name=job.name, status="running", started_at=now(), host=holders.host_id(), holder=DEAD, fence=1
    )
    return BackupRunTarget.objects.create(
        run=run,
        target=job.targets.get(),
        target_name="etc",
        storage=job.storage,
        status="running",
        uid=name.uid,
        folder=name.folder,
        suffix=name.suffix,
        stamped_at=name.created,
        unsettled=True,
    )


def new_name() -> ArtifactName:
    return ArtifactName(folder="etc", created=now().replace(microsecond=0), uid=new_uid(), suffix=".tar.zst")


@pytest.mark.django_db
def test_a_copy_that_was_published_before_the_process_died_is_entered(tmp_path: Path) -> None:
    job, name = make_job(tmp_path), new_name()
    attempt = dead_attempt(job, name)
    with storage_backend(job.storage).open() as storage, storage.stage(name, attempt.run_id, 1) as staged:
        staged.file.write(b"x" * 10)
        sidecar = Sidecar(
            name=name,
            target="etc",
            kind="files",
            job=job.name,
            run="1",
            size=10,
            sha256="a" * 64,
            summary={"files": 2, "bytes": 9},
        )
        staged.publish(sidecar.to_mapping())
    assert runs_recover() == 1
    backup = Backup.objects.get()
    assert (backup.uid, backup.size, backup.sha256, backup.entries, backup.job) == (name.uid, 10, "a" * 64, 2, job)
    attempt.refresh_from_db()
    assert (attempt.unsettled, attempt.active) == (False, False)
    assert_catalogue_matches_storage(job.storage)


@pytest.mark.django_db
def test_what_was_not_published_is_cleared_away(tmp_path: Path) -> None:
    job, name = make_job(tmp_path), new_name()
    attempt = dead_attempt(job, name)
    folder = Path(job.storage.path) / name.folder
    folder.mkdir()
    (folder / name.part_filename(attempt.run_id, 1)).write_bytes(b"half")
    (folder / name.sidecar_filename).write_bytes(b"{}")
    runs_recover()
    assert files_in(job.storage) == set()
    assert not Backup.objects.exists()
    attempt.refresh_from_db()
    assert (attempt.status, attempt.unsettled) == ("lost", False)


@pytest.mark.django_db
def test_a_storage_that_is_away_is_settled_when_it_is_back(tmp_path: Path) -> None:
    job, name = make_job(tmp_path), new_name()
    attempt = dead_attempt(job, name)
    root = Path(job.storage.path)
    root.rename(tmp_path / "away")
    runs_recover()
    attempt.refresh_from_db()
    assert attempt.unsettled
    (tmp_path / "away").rename(root)
    runs_recover()
    attempt.refresh_from_db()
    assert not attempt.unsettled


@pytest.mark.django_db
@pytest.mark.parametrize("moved", ["nothing", "artifact", "both", "lost"])
def test_a_deletion_that_was_cut_short_ends_as_not_started_or_done(tmp_path: Path, moved: str) -> None:
    job = make_job(tmp_path)
    backup = add_backup(job, now())
    Backup.objects.update(state=BackupState.DELETING, holder=DEAD)
    with storage_backend(job.storage).open() as storage:
        if moved in ("artifact", "both"):
            storage.move_to_trash(backup.artifact)
        if moved == "both":
            storage.move_sidecar_to_trash(backup.artifact)
    if moved == "lost":
        (Path(job.storage.path) / backup.artifact.relative).unlink()
    backups_recover()
    backups_recover()
    backup.refresh_from_db()
    assert backup.state == {"nothing": "available", "lost": "missing"}.get(moved, "trashed")
    if moved != "lost":
        assert_catalogue_matches_storage(job.storage)


@pytest.mark.django_db
@pytest.mark.parametrize("removed", ["nothing", "artifact", "both"])
def test_a_purge_that_was_cut_short_is_not_started_or_done(tmp_path: Path, removed: str) -> None:
    """What is still whole is left to the next purge, which looks anew at what protects it."""
    job = make_job(tmp_path)
    backup = add_backup(job, now())
    with storage_backend(job.storage).open() as storage:
        storage.move_to_trash(backup.artifact)
        storage.move_sidecar_to_trash(backup.artifact)
    Backup.objects.update(state=BackupState.PURGING, holder=DEAD, trashed_at=now())
    trash = Path(job.storage.path) / ".keepwell-trash"
    if removed in ("artifact", "both"):
        (trash / backup.artifact.filename).unlink()
    if removed == "both":
        (trash / backup.artifact.sidecar_filename).unlink()
    backups_recover()
    backup.refresh_from_db()
    assert backup.state == (BackupState.TRASHED if removed == "nothing" else BackupState.DELETED)
    assert_catalogue_matches_storage(job.storage)


@pytest.mark.django_db
def test_a_backup_that_a_living_process_is_moving_is_left_to_it(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    add_backup(job, now())
    with holders.hold() as holder:
        Backup.objects.update(state=BackupState.DELETING, holder=holder)
        backups_recover()
        assert Backup.objects.get().state == BackupState.DELETING


def kill_scheduler_during(model: type[BackupRun] | type[MaintenanceRun], delay: float, output: Path) -> None:
    """Start a real scheduler, wait until it runs something, and kill it and its children `delay` seconds later."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "run_scheduler"], cwd=ROOT, stdout=file, stderr=file, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 60
            while not model.objects.exclude(status="queued").exists():
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < deadline, f"nothing was started within a minute:\n{output.read_text()}"
                time.sleep(0.01)
            time.sleep(delay)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize("round_", range(4))
def test_kill_9_during_a_backup_leaves_nothing_half(database_url: str, tmp_path: Path, round_: int) -> None:
    job = make_job(tmp_path)
    for number in range(3000):
        (tmp_path / "source-etc" / f"more-{number}").write_bytes(os.urandom(3000))
    scheduled_dispatch("backup", job.pk, trigger=RunTrigger.MANUAL)
    kill_scheduler_during(BackupRun, random.uniform(0, 0.25), tmp_path / "scheduler.log")
    runs_recover()
    assert not BackupRun.objects.filter(status__in=OPEN).exists()
    assert_catalogue_matches_storage(job.storage)
    again = scheduled_dispatch("backup", job.pk, inline=True, trigger=RunTrigger.COMMAND)
    assert again is not None
    assert again.status == "succeeded"
    assert_catalogue_matches_storage(job.storage)


@pytest.mark.parametrize("round_", range(4))
def test_kill_9_during_a_cleanup_leaves_nothing_half(database_url: str, tmp_path: Path, round_: int) -> None:
    call_command("migrate", verbosity=0)
    cleanup, _ = MaintenanceJob.objects.get_or_create(
        key="by_hand", defaults={"name": "By hand", "job_type": "retention_cleanup"}
    )
    job = make_job(tmp_path)
    start = now()
    for number in range(150):
        add_backup(
            job, start.replace(year=2020 + number // 300, month=1 + number % 12, day=1 + number % 28, hour=number % 24)
        )
    options_update(retention={"keep_last": 1})
    no_blast_radius()
    scheduled_dispatch("maintenance", cleanup.pk, trigger=RunTrigger.MANUAL)
    kill_scheduler_during(MaintenanceRun, random.uniform(0, 0.3), tmp_path / "scheduler.log")
    runs_recover()
    assert not MaintenanceRun.objects.filter(status__in=OPEN).exists()
    assert_catalogue_matches_storage(job.storage)
    again = scheduled_dispatch("maintenance", cleanup.pk, inline=True, trigger=RunTrigger.COMMAND)
    assert again is not None
    assert again.status == "succeeded"
    assert Backup.objects.available().count() == 1
    assert_catalogue_matches_storage(job.storage)
