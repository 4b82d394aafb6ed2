from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backups.storage import (
    ArtifactExistsError,
    ArtifactMissingError,
    ArtifactName,
    ForeignStorageError,
    LocalStorage,
    OpenStorage,
    SentinelMissingError,
    Sidecar,
    SidecarError,
    StorageError,
    StorageFullError,
    StorageNotEmptyError,
    StorageOfflineError,
    new_uid,
)
from backups.storage.moving import PUBLISHING, TRASHING, Move, move_by_link, move_by_rename, move_by_reservation
from backups.storage.names import SENTINEL
from tests.support import give_back

CREATED = datetime(2026, 11, 24, 2, 30, tzinfo=UTC)

type Publish = Callable[..., None]
type Describe = Callable[[ArtifactName, bytes], Sidecar]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} - {SENTINEL}


def unsupported(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


WAYS = [
    pytest.param((move_by_link,), id="link"),
    pytest.param((move_by_rename,), id="rename"),
    pytest.param((move_by_reservation,), id="reservation"),
    pytest.param((unsupported, unsupported, move_by_reservation), id="fallback"),
    pytest.param(PUBLISHING, id="as published"),
    pytest.param(TRASHING, id="as trashed"),
]


def test_a_new_folder_becomes_a_storage_and_stays_it(place: Path) -> None:
    for _ in range(2):
        LocalStorage.initialise(place, "storage-1", created=CREATED)
    assert (place / SENTINEL).read_text() == (
        '{"format": 1, "storage": "storage-1", "created": "2026-11-24T02:30:00+00:00"}\n'
    )
    assert sorted(path.name for path in place.iterdir()) == [SENTINEL]


def test_a_folder_of_another_storage_is_refused(storage: LocalStorage, place: Path) -> None:
    with pytest.raises(ForeignStorageError, match="already the storage storage-1"):
        LocalStorage.initialise(place, "storage-2", created=CREATED, allow_existing=True)
    with pytest.raises(ForeignStorageError, match="storage-1, not storage-2"), LocalStorage(place, "storage-2").open():
        pass


def test_a_folder_with_other_things_needs_a_yes(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(StorageNotEmptyError):
        LocalStorage.initialise(tmp_path, "storage-1", created=CREATED)
    LocalStorage.initialise(tmp_path, "storage-1", created=CREATED, allow_existing=True)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_missing_folder_is_offline_and_is_not_created(storage: LocalStorage, place: Path) -> None:
    shutil.rmtree(place)
    with pytest.raises(StorageOfflineError, match=r"Storage nas: .*Check that the disk is mounted"), storage.open():
        pass
    assert not place.exists()
    with pytest.raises(StorageOfflineError):
        LocalStorage.initialise(place / "below", "storage-1", created=CREATED)


def test_a_folder_without_sentinel_is_not_taken_for_an_empty_storage(storage: LocalStorage, place: Path) -> None:
    (place / SENTINEL).unlink()
    with pytest.raises(SentinelMissingError, match="Is the disk mounted"), storage.open():
        pass
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2, "storage": "storage-1"}', "x" * 10_000])
def test_a_sentinel_that_cannot_be_understood_stops_everything(text: str, storage: LocalStorage, place: Path) -> None:
    (place / SENTINEL).write_text(text)
    with pytest.raises(StorageError, match="cannot be understood"), storage.open():
        pass


def test_a_storage_that_was_exchanged_while_open_is_noticed(
    storage: LocalStorage, opened: OpenStorage, place: Path
) -> None:
    opened.verify()
    place.rename(place.with_name("elsewhere"))
    with pytest.raises(StorageError):
        opened.verify()
    LocalStorage.initialise(place, "storage-1", created=CREATED)
    with pytest.raises(StorageError, match="another folder"):
        opened.verify()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_an_unmounted_disk_is_noticed(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        storage = LocalStorage.initialise(place, "storage-1", created=CREATED, name="nas")
        with storage.open() as opened:
            opened.verify()
    finally:
        subprocess.run(["umount", place], check=True)
    with pytest.raises(SentinelMissingError), storage.open():
        pass


@pytest.mark.parametrize("ways", WAYS)
def test_an_artifact_is_published_with_its_sidecar(
    ways: Sequence[Move], storage: LocalStorage, place: Path, name: ArtifactName, describe: Describe
) -> None:
    with storage.open(publishing=ways) as opened:
        with opened.stage(name, 7, 1) as staged:
            staged.file.write(b"con")
            staged.file.write(b"tent")
            assert files(place) == {f"etc/{name.part_filename(7, 1)}"}
            staged.publish(describe(name, b"content").to_mapping())
        assert files(place) == {name.relative, name.sidecar_relative}
        assert opened.stat(name) == 7
        assert opened.has_sidecar(name)
        assert opened.read_sidecar(name) == describe(name, b"content")
        with opened.open_artifact(name) as file:
            assert file.read() == b"content"
        assert list(opened.list_artifacts()) == [(name.relative, 7)]


@pytest.mark.parametrize("ways", WAYS)
def test_publishing_never_overwrites(
    ways: Sequence[Move], storage: LocalStorage, place: Path, name: ArtifactName, describe: Describe, publish: Publish
) -> None:
    with storage.open(publishing=ways) as opened, opened.stage(name, 8, 1) as late:
        publish(opened, name, b"first")
        late.file.write(b"second")
        with pytest.raises(ArtifactExistsError):
            late.publish(describe(name, b"second").to_mapping())
    assert files(place) == {name.relative, name.sidecar_relative}
    assert (place / name.relative).read_bytes() == b"first"
    with storage.open() as opened:
        assert opened.read_sidecar(name).size == 5
        with pytest.raises(ArtifactExistsError), opened.stage(name, 9, 1):
            pass


@pytest.mark.parametrize("ways", WAYS)
def test_a_failure_after_the_sidecar_takes_it_back(
    ways: Sequence[Move], storage: LocalStorage, place: Path, name: ArtifactName, describe: Describe
) -> None:
    with storage.open(publishing=ways) as opened, opened.stage(name, 8, 1) as staged:
        staged.file.write(b"second")
        (place / name.relative).write_bytes(b"someone else's")
        with pytest.raises(ArtifactExistsError):
            staged.publish(describe(name, b"second").to_mapping())
    assert files(place) == {name.relative}
    assert (place / name.relative).read_bytes() == b"someone else's"


def test_leaving_without_publishing_removes_the_part(opened: OpenStorage, place: Path, name: ArtifactName) -> None:
    with pytest.raises(RuntimeError), opened.stage(name, 7, 1) as staged:
        staged.file.write(b"x")
        raise RuntimeError
    assert files(place) == set()


def test_an_error_of_the_callers_own_is_not_blamed_on_the_storage(opened: OpenStorage, name: ArtifactName) -> None:
    with pytest.raises(ConnectionResetError), opened.stage(name, 7, 1):
        raise ConnectionResetError(errno.ECONNRESET, "the database went away")


@pytest.mark.parametrize("content", [b"short", b""], ids=["another size", "empty"])
def test_a_sidecar_of_another_artifact_is_not_published(
    content: bytes, opened: OpenStorage, place: Path, name: ArtifactName, describe: Describe
) -> None:
    with pytest.raises(StorageError, match="was not published"), opened.stage(name, 7, 1) as staged:
        staged.file.write(content)
        staged.publish(describe(name, b"content").to_mapping())
    assert files(place) == set()


@pytest.mark.parametrize("ways", WAYS)
def test_deleting_goes_through_the_trash_and_can_be_undone(
    ways: Sequence[Move], storage: LocalStorage, place: Path, name: ArtifactName, publish: Publish
) -> None:
    with storage.open(trashing=ways) as opened:
        publish(opened, name)
        opened.move_to_trash(name)
        assert files(place) == {name.trash_relative, name.sidecar_relative}
        assert opened.in_trash(name)
        assert opened.stat(name) is None
        with pytest.raises(ArtifactMissingError):
            opened.move_to_trash(name)
        for _ in range(2):
            opened.move_sidecar_to_trash(name)
        assert files(place) == {name.trash_relative, name.trash_relative + ".meta.json"}

        give_back(opened, name)
        assert files(place) == {name.relative, name.sidecar_relative}
        with pytest.raises(ArtifactMissingError):
            give_back(opened, name)

        opened.move_to_trash(name)
        give_back(opened, name)
        assert files(place) == {name.relative, name.sidecar_relative}, "also before the sidecar moved"

        opened.move_to_trash(name)
        opened.move_sidecar_to_trash(name)
        for _ in range(2):
            opened.purge(name)
        assert files(place) == set()
        assert not opened.in_trash(name)


@pytest.mark.parametrize("ways", WAYS)
def test_the_trash_is_never_overwritten(
    ways: Sequence[Move], storage: LocalStorage, place: Path, name: ArtifactName, publish: Publish
) -> None:
    with storage.open(trashing=ways) as opened:
        publish(opened, name, b"first")
        opened.move_to_trash(name)
        opened.move_sidecar_to_trash(name)
        publish(opened, name, b"second")
        with pytest.raises(ArtifactExistsError):
            opened.move_to_trash(name)
        with pytest.raises(ArtifactExistsError):
            give_back(opened, name)
    assert (place / name.trash_relative).read_bytes() == b"first"
    assert (place / name.relative).read_bytes() == b"second"
    assert (place / name.sidecar_relative).exists()


def test_a_move_that_was_interrupted_between_link_and_unlink_is_completed(
    opened: OpenStorage, place: Path, name: ArtifactName, publish: Publish
) -> None:
    publish(opened, name)
    (place / ".keepwell-trash").mkdir()
    os.link(place / name.relative, place / name.trash_relative)
    opened.move_to_trash(name)
    assert files(place) == {name.trash_relative, name.sidecar_relative}


@pytest.mark.parametrize("sidecar", ["there", "lost", "moved already"])
def test_a_deletion_is_on_disk_before_anyone_is_told_of_it(
    sidecar: str,
    opened: OpenStorage,
    place: Path,
    name: ArtifactName,
    publish: Publish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(opened, name)
    synced: list[tuple[str, int]] = []
    real = os.fsync

    def watched(handle: int) -> None:
        folder = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append((folder.name, len(list(folder.iterdir()))))
        real(handle)

    monkeypatch.setattr(os, "fsync", watched)
    opened.move_to_trash(name)
    assert synced[-2:] == [(".keepwell-trash", 1), ("etc", 1)], "the artifact's move, before its sidecar's"
    if sidecar == "lost":
        (place / name.sidecar_relative).unlink()
    if sidecar == "moved already":
        (place / name.sidecar_relative).rename(place / f"{name.trash_relative}.meta.json")
    synced.clear()
    opened.move_sidecar_to_trash(name)
    after = [(".keepwell-trash", 1 if sidecar == "lost" else 2), ("etc", 0)]
    assert synced[-2:] == after, "the new name before the old"
    before = [(".keepwell-trash", 1), ("etc", 1)] if sidecar == "there" else after
    assert synced[:-2] == before, "whoever moved the artifact may have died before that was on disk"


def test_a_sidecar_stays_with_an_artifact_that_is_in_its_place(
    opened: OpenStorage, place: Path, name: ArtifactName, publish: Publish
) -> None:
    publish(opened, name)
    with pytest.raises(StorageError, match="keeps its sidecar"):
        opened.move_sidecar_to_trash(name)
    assert files(place) == {name.relative, name.sidecar_relative}


def test_what_is_missing_is_a_fault_with_a_sentence(opened: OpenStorage, name: ArtifactName) -> None:
    for act in (opened.move_to_trash, opened.open_artifact):
        with pytest.raises(ArtifactMissingError, match="Someone else moved or removed it"):
            act(name)
    with pytest.raises(SidecarError, match="is not there"):
        opened.read_sidecar(name)
    assert opened.stat(name) is None
    assert not opened.has_sidecar(name)


def test_links_are_never_followed(opened: OpenStorage, place: Path, name: ArtifactName, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / name.filename).write_text("mine")
    (place / "etc").symlink_to(outside)
    for act in (opened.stat, opened.open_artifact, opened.move_to_trash):
        with pytest.raises(StorageError):
            act(name)
    with pytest.raises(StorageError), opened.stage(name, 1, 1):
        pass
    assert list(opened.list_artifacts()) == []
    assert list(opened.unknown_files(set())) == ["etc"]
    (place / "etc").unlink()
    (place / "etc").mkdir()
    (place / name.relative).symlink_to(outside / name.filename)
    assert opened.stat(name) is None
    with pytest.raises(StorageError):
        opened.open_artifact(name)
    assert (outside / name.filename).read_text() == "mine"


def test_clearing_up_removes_the_leftovers_of_exactly_one_run(
    opened: OpenStorage, place: Path, name: ArtifactName, publish: Publish
) -> None:
    other = replace(name, uid=new_uid())
    publish(opened, other)
    kept = {
        other.relative,
        other.sidecar_relative,
        f"etc/{other.part_filename(7, 1)}",
        f"etc/{name.part_filename(8, 1)}",
        "etc/x",
    }
    gone = {f"etc/{name.part_filename(7, 1)}", f"etc/{name.sidecar_part_filename(7, 2)}", name.sidecar_relative}
    for relative in (kept | gone) - {other.relative, other.sidecar_relative}:
        (place / relative).write_text("x")
    (place / name.relative).touch()
    for _ in range(2):
        opened.discard_unpublished(name, 7)
    opened.discard_unpublished(other, 8)
    assert files(place) == kept


def test_clearing_up_leaves_what_was_published_or_trashed(
    opened: OpenStorage, place: Path, name: ArtifactName, publish: Publish
) -> None:
    publish(opened, name)
    (place / f"etc/{name.part_filename(7, 1)}").write_text("x")
    opened.discard_unpublished(name, 7)
    assert files(place) == {name.relative, name.sidecar_relative}
    opened.move_to_trash(name)
    opened.discard_unpublished(name, 7)
    assert files(place) == {name.trash_relative, name.sidecar_relative}


def test_unknown_files_are_reported_and_not_touched(
    opened: OpenStorage, place: Path, name: ArtifactName, publish: Publish
) -> None:
    trashed, unlisted = replace(name, uid=new_uid()), replace(name, uid=new_uid())
    for each in (name, trashed, unlisted):
        publish(opened, each)
    opened.move_to_trash(trashed)
    (place / "etc/notes.txt").write_text("mine")
    (place / "Photos/2026").mkdir(parents=True)
    (place / "etc/sub").mkdir()
    (place / "etc/sub/deep").write_text("mine")
    (place / "readme").write_text("mine")
    (place / f"etc/{name.part_filename(7, 1)}").write_text("x")
    before = files(place)

    found = set(opened.unknown_files({name.relative, trashed.relative, trashed.trash_relative}))
    assert found == {"readme", "Photos/", "etc/notes.txt", "etc/sub/", unlisted.relative, unlisted.sidecar_relative}
    assert list(opened.list_parts()) == [(f"etc/{name.part_filename(7, 1)}", 1)]
    assert files(place) == before


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path, name: ArtifactName) -> None:
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        storage = LocalStorage.initialise(place, "storage-1", created=CREATED, name="nas")
        with storage.open() as opened:
            free, total = opened.free_space()
            assert 0 < free < total == 1 << 20
            with pytest.raises(StorageFullError, match="Storage nas is full"), opened.stage(name, 7, 1) as staged:
                for _ in range(100):
                    staged.file.write(b"x" * 65536)
            assert files(place) == set()
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        with storage.open() as opened, pytest.raises(StorageError, match="read-only"), opened.stage(name, 7, 1):
            pass
    finally:
        subprocess.run(["umount", place], check=True)
