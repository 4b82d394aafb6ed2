from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backups.storage import ForeignStorageError, LocalStorage, OpenStorage, StorageError, StorageNotEmptyError
from backups.storage.names import EPOCH, EPOCH_DRAFT, SENTINEL
from tests.storage.conftest import CREATED

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from backups.storage import LocalStorage
with LocalStorage(Path(sys.argv[1]), "storage-1").open() as opened:
    for value in range(int(sys.argv[2]), int(sys.argv[3])):
        opened.raise_epoch(value)
        print(value, flush=True)
"""


def content(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_a_storage_begins_at_zero_and_is_only_raised(opened: OpenStorage, place: Path) -> None:
    assert opened.read_epoch() == 0
    opened.raise_epoch(0)
    assert content(place) == {SENTINEL}
    for value, then in ((3, 3), (2, 3), (3, 3), (2**53, 2**53)):
        opened.raise_epoch(value)
        assert opened.read_epoch() == then
    assert content(place) == {SENTINEL, EPOCH}
    assert json.loads((place / EPOCH).read_text()) == {"format": 1, "storage": "storage-1", "epoch": 2**53}


@pytest.mark.parametrize("value", [-1, 2**53 + 1])
def test_what_is_no_epoch_is_refused(value: int, opened: OpenStorage, place: Path) -> None:
    with pytest.raises(ValueError, match="is not an epoch"):
        opened.raise_epoch(value)
    assert content(place) == {SENTINEL}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "7",
        '{"format": 1, "storage": "storage-1"}',
        '{"format": 2, "storage": "storage-1", "epoch": 7}',
        '{"format": 1, "storage": "storage-1", "epoch": true}',
        '{"format": 1, "storage": "storage-1", "epoch": "7"}',
        '{"format": 1, "storage": "storage-1", "epoch": -7}',
        '{"format": 1, "storage": "storage-1", "epoch": 7.0}',
        '{"format": 1, "storage": 1, "epoch": 7}',
        '{"format": 1, "storage": "storage-1", "epoch": ' + "9" * 20 + "}",
        '{"format": 1, "storage": "storage-1", "epoch": 7}' + " " * 5000,
        "[" * 4000,
    ],
)
def test_a_damaged_epoch_stops_and_is_left_as_it_is(text: str, opened: OpenStorage, place: Path) -> None:
    (place / EPOCH).write_text(text)
    with pytest.raises(StorageError, match="cannot be understood"):
        opened.read_epoch()
    with pytest.raises(StorageError, match="cannot be understood"):
        opened.raise_epoch(8)
    assert (place / EPOCH).read_text() == text
    assert content(place) == {SENTINEL, EPOCH}


def test_the_epoch_of_another_storage_stops(opened: OpenStorage, place: Path) -> None:
    (place / EPOCH).write_text('{"format": 1, "storage": "storage-2", "epoch": 7}')
    for act in (opened.read_epoch, lambda: opened.raise_epoch(8)):
        with pytest.raises(ForeignStorageError, match="storage-2, not storage-1"):
            act()


@pytest.mark.parametrize("name", [EPOCH, EPOCH_DRAFT])
@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
def test_what_is_not_a_plain_file_is_refused(
    kind: str, name: str, opened: OpenStorage, place: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    if kind == "folder":
        (place / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(place / name)
    else:
        (place / name).symlink_to(outside)
        if kind == "link":
            outside.write_text('{"format": 1, "storage": "storage-1", "epoch": 7}')
    before = outside.read_text() if outside.exists() else None
    with pytest.raises(StorageError):
        opened.raise_epoch(8)
    if name == EPOCH:
        with pytest.raises(StorageError):
            opened.read_epoch()
    assert (outside.read_text() if outside.exists() else None) == before
    assert set(opened.unknown_files(set())) == {name + ("/" if kind == "folder" else "")}


def test_a_draft_that_is_a_second_name_of_another_file_is_not_written_through(
    opened: OpenStorage, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("mine")
    os.link(tmp_path / "mine", place / EPOCH_DRAFT)
    with pytest.raises(StorageError, match="Move it away"):
        opened.raise_epoch(8)
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("draft", ["", '{"format": 1, "stor', '{"format": 1, "storage": "x", "epoch": 99999}' * 9])
def test_the_draft_of_a_crash_is_harmless(draft: str, opened: OpenStorage, place: Path) -> None:
    opened.raise_epoch(4)
    (place / EPOCH_DRAFT).write_text(draft)
    assert opened.read_epoch() == 4
    assert list(opened.unknown_files(set())) == []
    assert list(opened.list_parts()) == []
    opened.raise_epoch(5)
    assert opened.read_epoch() == 5
    assert content(place) == {SENTINEL, EPOCH}


def test_bookkeeping_is_never_reported_as_unknown(opened: OpenStorage, place: Path) -> None:
    opened.raise_epoch(4)
    (place / EPOCH_DRAFT).touch()
    (place / f"{SENTINEL}.storage-1.part").touch()
    (place / f"{SENTINEL}.bak").touch()
    (place / f"{EPOCH}.bak").touch()
    assert set(opened.unknown_files(set())) == {f"{SENTINEL}.bak", f"{EPOCH}.bak"}


def test_a_write_that_fails_leaves_the_old_epoch(
    opened: OpenStorage, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.raise_epoch(4)

    def broken(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(StorageError, match="Storage nas is full"):
            opened.raise_epoch(5)
    assert opened.read_epoch() == 4
    opened.raise_epoch(5)
    assert opened.read_epoch() == 5


def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_the_return(
    opened: OpenStorage, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    real = os.fsync

    def watched(handle: int) -> None:
        real(handle)
        synced.append((Path(f"/proc/self/fd/{handle}").readlink().name, (place / EPOCH).exists()))

    monkeypatch.setattr(os, "fsync", watched)
    opened.raise_epoch(1)
    assert synced == [(EPOCH_DRAFT, False), (place.name, True)]


def test_an_epoch_of_its_own_does_not_make_a_folder_anyone_elses(storage: LocalStorage, place: Path) -> None:
    with storage.open() as opened:
        opened.raise_epoch(4)
    (place / EPOCH_DRAFT).touch()
    (place / SENTINEL).unlink()
    again = LocalStorage.initialise(place, storage.uid, created=CREATED)
    with again.open() as opened:
        assert opened.read_epoch() == 4


def test_a_folder_with_another_storages_epoch_needs_a_yes_and_then_begins_anew(
    storage: LocalStorage, place: Path
) -> None:
    with storage.open() as opened:
        opened.raise_epoch(4)
    (place / SENTINEL).unlink()
    with pytest.raises(StorageNotEmptyError):
        LocalStorage.initialise(place, "storage-2", created=CREATED)
    assert (place / EPOCH).exists()
    with LocalStorage.initialise(place, "storage-2", created=CREATED, allow_existing=True).open() as opened:
        assert opened.read_epoch() == 0


def test_a_killed_writer_leaves_an_epoch_that_can_be_read_and_is_never_behind(
    storage: LocalStorage, place: Path
) -> None:
    chance = random.Random(20261124)
    told = 0
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, place, str(told + 1), "1000000"], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        first = int(child.stdout.readline())
        time.sleep(chance.uniform(0.0, 0.03))
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().split()
        child.wait()
        child.stdout.close()
        # The last number may have been cut short on its way.
        told = int(rest[-2]) if len(rest) > 1 else first
        with storage.open() as opened:
            assert opened.read_epoch() >= told
            assert list(opened.unknown_files(set())) == []
            told = opened.read_epoch()


def test_writers_at_once_never_lower_it(storage: LocalStorage, place: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, place, str(start), "150"], cwd=ROOT, stdout=subprocess.DEVNULL)
        for start in (1, 3, 5)
    ]
    seen = 0
    with storage.open() as opened:
        while any(child.poll() is None for child in children):
            now = opened.read_epoch()
            assert now >= seen
            seen = now
        assert opened.read_epoch() == 149
    assert [child.returncode for child in children] == [0, 0, 0]
    assert content(place) == {SENTINEL, EPOCH}
