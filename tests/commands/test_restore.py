from __future__ import annotations

import hashlib
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from django.utils import timezone

from backups.archive import ExtractError
from backups.choices import BackupState
from backups.models import Backup, BackupJob, Storage
from backups.services.restore import DestinationRefusedError, backup_restore
from backups.storage.names import SENTINEL
from tests.commands.conftest import Run
from tests.factories import BackupFactory


def artifact(backup: Backup) -> Path:
    return Path(backup.storage.path) / backup.artifact.relative


def ignore(*_: object) -> None:
    """For what a test does not look at."""


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below `root`: kind, mode, time to the nanosecond, and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        links = status.st_nlink if stat.S_ISREG(status.st_mode) else 1
        found[str(path.relative_to(root))] = (stat.filemode(status.st_mode), status.st_mtime_ns, links, content)
    return found


def test_a_restored_tree_is_the_one_that_was_backed_up(run: Run, backup: Backup, tree: Path, tmp_path: Path) -> None:
    before = described(tree)
    shutil.rmtree(tree)
    out = tmp_path / "out"
    ended = run("restore", backup.uid, "--to", str(out))
    assert ended.status == 0, ended.err
    assert described(out / tree.relative_to("/")) == before
    assert f"sha256 {backup.sha256} matched" in ended.out
    backup.refresh_from_db()
    assert backup.verified_at is not None, "the whole artifact was read and matched"


def test_gnu_tar_restores_the_artifact_without_keepwell(backup: Backup, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "--zstd", "-xpf", str(artifact(backup)), "-C", str(out)], check=True)
    assert described(out / tree.relative_to("/")) == described(tree)


def test_the_report_as_json(manage: Run, backup: Backup, tmp_path: Path) -> None:
    ended = manage("restore", "nightly/docs@latest", "--to", str(tmp_path / "out"), "--json")
    assert (ended.status, ended.err) == (0, "")
    assert ended.value["uid"] == backup.uid
    assert (ended.value["files"], ended.value["symlinks"], ended.value["hardlinks"]) == (5, 1, 1)
    assert ended.value["warnings"] == 0


@pytest.mark.parametrize("name", ["uid", "prefix", "upper case", "target", "job and target"])
def test_the_ways_to_name_a_backup(run: Run, backup: Backup, tmp_path: Path, name: str) -> None:
    words = {
        "uid": backup.uid,
        "prefix": backup.uid[:6],
        "upper case": backup.uid[:8].upper(),
        "target": "docs@latest",
        "job and target": "nightly/docs@latest",
    }
    assert run("restore", words[name], "--to", str(tmp_path / "out"), "--json").value["uid"] == backup.uid


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "names no backup"),
        ("abc12", "at least 6 digits"),
        ("ffffffffffff", "no backup whose uid starts with ffffffffffff. The newest are: docs of"),
        ("doc@latest", "Did you mean docs@latest? There are copies of: docs."),
        ("weekly/docs@latest", "no copy of “weekly/docs” to restore"),
        ("../docs", "names no backup"),
        ("\x1b[31m", r"“\x1b[31m” names no backup"),
    ],
    ids=["empty", "short", "unknown uid", "misspelt target", "another job", "a path", "control characters"],
)
def test_a_name_that_means_no_backup_is_status_2(
    run: Run, backup: Backup, tmp_path: Path, words: str, message: str
) -> None:
    out = tmp_path / "out"
    ended = run("restore", words, "--to", str(out))
    assert ended.status == 2
    assert message in ended.err
    assert not out.exists()


def test_a_prefix_of_two_backups_is_status_2_and_lists_them(run: Run, nightly: BackupJob, tmp_path: Path) -> None:
    for uid in ("abcdef0000000001", "abcdef0000000002"):
        BackupFactory(uid=uid, job=nightly)
    ended = run("restore", "abcdef", "--to", str(tmp_path / "out"))
    assert ended.status == 2
    assert "abcdef0000000001" in ended.err
    assert "abcdef0000000002" in ended.err


def test_the_latest_is_the_newest_good_copy_and_newer_bad_ones_are_mentioned(
    run: Run, backup: Backup, nightly: BackupJob, tmp_path: Path
) -> None:
    BackupFactory(job=nightly, created_at=timezone.now(), suspect=True)
    ended = run("restore", "docs@latest", "--to", str(tmp_path / "out"))
    assert ended.status == 0
    assert backup.uid in ended.out
    assert "1 newer copy is there but not good" in ended.err


def test_a_suspect_copy_is_restored_with_a_warning(run: Run, backup: Backup, tmp_path: Path) -> None:
    Backup.objects.update(suspect_reason="255 B is under half of 5 KiB")
    ended = run("restore", backup.uid, "--to", str(tmp_path / "out"))
    assert ended.status == 0
    assert "warning: This copy is suspect: 255 B" in ended.err


@pytest.mark.parametrize("change", ["one bit", "cut short", "made longer"])
def test_a_tampered_artifact_is_quarantined_and_not_unpacked(
    run: Run, backup: Backup, tmp_path: Path, change: str
) -> None:
    path, out = artifact(backup), tmp_path / "out"
    raw = bytearray(path.read_bytes())
    match change:
        case "one bit":
            raw[len(raw) // 2] ^= 1
        case "cut short":
            del raw[-1:]
        case _:
            raw += b"\0"
    path.write_bytes(raw)
    ended = run("restore", backup.uid, "--to", str(out))
    assert ended.status == 1
    assert "is damaged, and is quarantined now" in ended.err
    assert not out.exists()
    backup.refresh_from_db()
    assert (backup.state, backup.verified_at) == (BackupState.QUARANTINED, None)
    assert path.read_bytes() == bytes(raw), "the damaged file itself is evidence and stays"

    again = run("restore", backup.uid, "--to", str(out))
    assert again.status == 3
    assert "is quarantined" in again.err


def test_a_missing_artifact_is_marked_missing(run: Run, backup: Backup, tmp_path: Path) -> None:
    artifact(backup).unlink()
    out = tmp_path / "out"
    ended = run("restore", backup.uid, "--to", str(out))
    assert ended.status == 1
    assert "is not there" in ended.err
    backup.refresh_from_db()
    assert backup.state == BackupState.MISSING
    assert not out.exists()


def test_a_missing_artifact_that_came_back_can_be_restored(run: Run, backup: Backup, tmp_path: Path) -> None:
    Backup.objects.update(state=BackupState.MISSING)
    assert run("restore", backup.uid, "--to", str(tmp_path / "out")).status == 0


def test_an_artifact_replaced_by_a_link_is_not_followed(run: Run, backup: Backup, tmp_path: Path) -> None:
    path = artifact(backup)
    copy = shutil.copy(path, tmp_path / "copy")
    path.unlink()
    path.symlink_to(copy)
    out = tmp_path / "out"
    assert run("restore", backup.uid, "--to", str(out)).status == 1
    assert not out.exists()


def test_an_unmounted_storage_is_refused_and_no_copy_is_called_missing(
    run: Run, backup: Backup, nas: Storage, tmp_path: Path
) -> None:
    away = Path(nas.path).rename(tmp_path / "disk")
    Path(nas.path).mkdir()
    out = tmp_path / "out"
    ended = run("restore", backup.uid, "--to", str(out))
    assert ended.status == 3
    assert f"no Keepwell sentinel ({SENTINEL}). Is the disk mounted?" in ended.err
    assert not out.exists()
    Path(nas.path).rmdir()
    assert run("restore", backup.uid, "--to", str(out)).status == 1, "not even the mount point is there"
    backup.refresh_from_db()
    assert backup.state == BackupState.AVAILABLE
    away.rename(nas.path)
    assert run("restore", backup.uid, "--to", str(out)).status == 0


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (BackupState.TRASHED, "is in the trash"),
        (BackupState.DELETED, "its bytes are gone"),
        (BackupState.DELETING, "Try again in a moment"),
    ],
)
def test_a_copy_on_its_way_out_is_refused(
    run: Run, backup: Backup, tmp_path: Path, state: BackupState, message: str
) -> None:
    now = timezone.now()
    Backup.objects.update(state=state, trashed_at=now, deleted_at=now, holder="")
    ended = run("restore", backup.uid, "--to", str(tmp_path / "out"))
    assert ended.status == 3
    assert message in ended.err


def test_a_destination_with_something_in_it_is_left_alone(run: Run, backup: Backup, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".mine").write_text("mine")
    ended = run("restore", backup.uid, "--to", str(out))
    assert ended.status == 2
    assert "is not empty" in ended.err
    assert [path.name for path in out.iterdir()] == [".mine"]


def test_a_destination_without_a_name_is_not_the_current_folder(run: Run, backup: Backup) -> None:
    ended = run("restore", backup.uid, "--to", " ")
    assert ended.status == 2
    assert "--to is empty" in ended.err


def test_an_empty_destination_is_used(run: Run, backup: Backup, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert run("restore", backup.uid, "--to", str(out)).status == 0


def test_a_used_destination_is_refused_before_the_artifact_is_read(backup: Backup, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").touch()
    artifact(backup).write_bytes(b"no longer an archive")
    with pytest.raises(DestinationRefusedError, match="is not empty"):
        backup_restore(backup=backup, destination=out, stop=threading.Event(), log=ignore, progress=ignore)
    backup.refresh_from_db()
    assert backup.state == BackupState.AVAILABLE


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("link", "is a link"),
        ("file", "is not a folder"),
        ("no parent", "Create that one first"),
        ("storage", "lies in the storage nas"),
        ("link into the storage", "lies in the storage nas"),
    ],
)
def test_a_destination_that_is_not_a_folder_of_its_own_is_status_2(
    run: Run, backup: Backup, nas: Storage, tmp_path: Path, kind: str, message: str
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    (tmp_path / "into").symlink_to(nas.path)
    destinations = {
        "link": tmp_path / "link",
        "file": tmp_path / "file",
        "no parent": tmp_path / "a" / "b",
        "storage": Path(nas.path) / "out",
        "link into the storage": tmp_path / "into" / "out",
    }
    ended = run("restore", backup.uid, "--to", str(destinations[kind]))
    assert ended.status == 2
    assert message in ended.err
    assert list((tmp_path / "real").iterdir()) == []


def test_an_archive_larger_than_its_row_says_is_stopped(backup: Backup, tmp_path: Path) -> None:
    Backup.objects.update(source_bytes=1000)
    backup.refresh_from_db()
    with pytest.raises(ExtractError, match="more than 1000 bytes"):
        backup_restore(
            backup=backup,
            destination=tmp_path / "out",
            stop=threading.Event(),
            log=ignore,
            progress=ignore,
        )


def test_progress_covers_checking_and_unpacking(backup: Backup, tmp_path: Path) -> None:
    seen: dict[str, int] = {}
    backup_restore(
        backup=backup,
        destination=tmp_path / "out",
        stop=threading.Event(),
        log=ignore,
        progress=lambda phase, done, _total: seen.update({phase: done}),
    )
    assert seen == {"checking": backup.size, "unpacking": backup.size}


def test_a_row_that_names_a_place_outside_the_storage_is_refused(run: Run, backup: Backup, tmp_path: Path) -> None:
    Backup.objects.update(folder="../outside")
    ended = run("restore", backup.uid, "--to", str(tmp_path / "out"))
    assert ended.status == 3
    assert "its row in the catalogue names no artifact" in ended.err
    checked = run("check_storage", "nas", "--json")
    assert checked.status == 1
    assert checked.value["missing"] == [f"{backup.uid}: its row names no artifact"]


def test_restoring_only_reads_the_storage(run: Run, backup: Backup, nas: Storage, tmp_path: Path) -> None:
    before = described(Path(nas.path))
    assert run("restore", backup.uid, "--to", str(tmp_path / "out")).status == 0
    assert described(Path(nas.path)) == before
