from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from backups.storage import (
    ArtifactExistsError,
    ArtifactMissingError,
    ArtifactName,
    LocalStorage,
    OpenStorage,
    StorageError,
    new_uid,
)
from backups.storage.moving import Move, move_by_link, move_by_rename, move_by_reservation
from backups.storage.names import SENTINEL, SIDECAR_SUFFIX, TRASH
from tests.support import give_back

type Publish = Callable[..., None]

WAYS = [
    pytest.param((move_by_rename,), id="rename"),
    pytest.param((move_by_link,), id="link"),
    pytest.param((move_by_reservation,), id="reservation"),
]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} - {SENTINEL}


def in_place(names: Sequence[ArtifactName]) -> set[str]:
    return {name.relative for name in names} | {name.sidecar_relative for name in names}


def in_trash(names: Sequence[ArtifactName]) -> set[str]:
    return {name.trash_relative for name in names} | {name.trash_relative + SIDECAR_SUFFIX for name in names}


@pytest.fixture
def names(opened: OpenStorage, name: ArtifactName, publish: Publish) -> list[ArtifactName]:
    """Two artifacts in each of two folders."""
    made = [replace(name, folder=folder, uid=new_uid()) for folder in ("etc", "home") for _ in range(2)]
    for each in made:
        publish(opened, each, each.uid.encode())
    return made


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each sync of a folder with how many files it held, and each removal, in their order."""
    found: list[str] = []
    real_sync, real_unlink = os.fsync, os.unlink

    def sync(handle: int) -> None:
        folder = Path(f"/proc/self/fd/{handle}").readlink()
        real_sync(handle)
        found.append(f"{folder.name}: {len(list(folder.iterdir()))}")

    def unlink(filename: str, *, dir_fd: int) -> None:
        real_unlink(filename, dir_fd=dir_fd)
        found.append("sidecar removed" if filename.endswith(SIDECAR_SUFFIX) else "artifact removed")

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "unlink", unlink)
    return found


@pytest.mark.parametrize("ways", WAYS)
def test_many_go_to_the_trash_come_back_and_are_purged(
    ways: Sequence[Move], storage: LocalStorage, place: Path, names: list[ArtifactName]
) -> None:
    with storage.open(trashing=ways) as opened:
        assert opened.move_all_to_trash(names) == {}
        assert files(place) == {n.trash_relative for n in names} | {n.sidecar_relative for n in names}
        for _ in range(2):
            assert opened.move_sidecars_to_trash(names) == {}
        assert files(place) == in_trash(names)

        assert opened.restore_all_from_trash(names) == {}
        assert files(place) == in_place(names)
        assert all((place / each.relative).read_bytes() == each.uid.encode() for each in names)
        assert all(opened.read_sidecar(each).size == 16 for each in names)

        opened.move_all_to_trash(names[:3])
        assert opened.restore_all_from_trash(names[:3]) == {}, "also before the sidecars moved"
        assert files(place) == in_place(names)

        opened.move_all_to_trash(names[:3])
        opened.move_sidecars_to_trash(names[:3])
        for _ in range(2):
            assert opened.purge_all(names[:3]) == {}
        assert files(place) == in_place(names[3:])


def test_nothing_at_all_is_done_without_a_complaint(opened: OpenStorage, place: Path) -> None:
    for act in (
        opened.move_all_to_trash,
        opened.move_sidecars_to_trash,
        opened.restore_all_from_trash,
        opened.purge_all,
    ):
        assert act([]) == {}
    assert files(place) == set()


def test_each_folder_is_put_on_disk_once_however_many_move(
    opened: OpenStorage, names: list[ArtifactName], events: list[str]
) -> None:
    opened.move_all_to_trash(names)
    assert events[-3:] == [f"{TRASH}: 4", "etc: 2", "home: 2"], "the new names before the old ones are gone"
    assert len(events) == 4, "and the storage once, for its new trash"
    events.clear()
    opened.move_sidecars_to_trash(names)
    artifacts_on_disk = [f"{TRASH}: 4", "etc: 2", "home: 2"]
    assert events == [*artifacts_on_disk, f"{TRASH}: 8", "etc: 0", "home: 0"]
    events.clear()
    opened.restore_all_from_trash(names)
    sidecars_on_disk = ["etc: 2", "home: 2", f"{TRASH}: 4"]
    assert events == [*sidecars_on_disk, "etc: 4", "home: 4", f"{TRASH}: 0"]


def test_purged_artifacts_are_gone_for_good_before_the_first_sidecar_is(
    opened: OpenStorage, names: list[ArtifactName], events: list[str]
) -> None:
    opened.move_all_to_trash(names)
    opened.move_sidecars_to_trash(names)
    events.clear()
    opened.purge_all(names)
    assert events == [*["artifact removed"] * 4, f"{TRASH}: 4", *["sidecar removed"] * 4, f"{TRASH}: 0"]


def test_one_that_cannot_be_moved_does_not_keep_the_others(
    opened: OpenStorage, place: Path, names: list[ArtifactName], publish: Publish
) -> None:
    gone, taken, *others = names
    elsewhere = replace(gone, folder="srv", uid=new_uid())
    (place / gone.relative).unlink()
    (place / TRASH).mkdir()
    (place / taken.trash_relative).write_text("another")
    failures = opened.move_all_to_trash([gone, elsewhere, taken, *others])
    assert {each: type(error) for each, error in failures.items()} == {
        gone: ArtifactMissingError,
        elsewhere: ArtifactMissingError,
        taken: ArtifactExistsError,
    }
    assert elsewhere.relative in str(failures[elsewhere])
    assert all(opened.in_trash(each) for each in others)
    assert (place / taken.trash_relative).read_text() == "another"

    assert {
        each: "keeps its sidecar" in str(error) for each, error in opened.move_sidecars_to_trash(names).items()
    } == {taken: True}
    assert files(place) == {
        taken.relative,
        taken.sidecar_relative,
        taken.trash_relative,
        gone.trash_relative + SIDECAR_SUFFIX,
        *in_trash(others),
    }


def test_one_that_cannot_be_restored_does_not_keep_the_others(
    opened: OpenStorage, place: Path, names: list[ArtifactName], publish: Publish
) -> None:
    gone, taken, *others = names
    opened.move_all_to_trash(names)
    opened.move_sidecars_to_trash(names)
    (place / gone.trash_relative).unlink()
    publish(opened, taken, b"another")
    (place / "home").rmdir()
    failures = opened.restore_all_from_trash(names)
    assert {each: type(error) for each, error in failures.items()} == {
        gone: ArtifactMissingError,
        taken: ArtifactExistsError,
    }
    assert (place / taken.relative).read_bytes() == b"another"
    assert (place / taken.trash_relative).read_bytes() == taken.uid.encode()
    assert in_place(others) <= files(place)
    assert (place / gone.trash_relative).with_name(gone.sidecar_filename).exists(), "a sidecar alone does not come back"


def test_one_that_cannot_be_purged_keeps_its_sidecar_and_not_the_others(
    opened: OpenStorage, place: Path, names: list[ArtifactName]
) -> None:
    opened.move_all_to_trash(names)
    opened.move_sidecars_to_trash(names)
    (place / names[0].trash_relative).unlink()
    (place / names[0].trash_relative).mkdir()
    failures = opened.purge_all(names)
    assert list(failures) == [names[0]]
    assert files(place) == {names[0].trash_relative + SIDECAR_SUFFIX}


@pytest.mark.parametrize("failing", [TRASH, "etc"])
def test_a_move_that_may_not_be_on_disk_is_a_failure_and_nothing_builds_on_it(
    failing: str, opened: OpenStorage, place: Path, names: list[ArtifactName], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def broken(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().name == failing:
            raise OSError(5, "Input/output error")
        real(handle)

    (place / TRASH).mkdir()
    affected = set(names) if failing == TRASH else {each for each in names if each.folder == failing}
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        assert set(opened.move_all_to_trash(names)) == affected
        failures = opened.move_sidecars_to_trash(names)
        assert set(failures) == affected
        assert all("failing disk" in str(error) for error in failures.values())
        assert all((place / each.sidecar_relative).exists() for each in affected)
    opened.move_sidecars_to_trash(names)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        assert set(opened.restore_all_from_trash(names)) == affected
        assert all((place / each.trash_relative).exists() for each in affected)
        if failing == TRASH:
            assert set(opened.purge_all(names)) == affected


def test_the_folder_is_not_put_on_disk_when_the_trash_could_not_be(
    opened: OpenStorage, place: Path, names: list[ArtifactName], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def broken(handle: int) -> None:
        tried.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        raise OSError(5, "Input/output error")

    (place / TRASH).mkdir()
    monkeypatch.setattr(os, "fsync", broken)
    opened.move_all_to_trash(names)
    assert tried == [TRASH], "a power cut could have kept the old name's removal and not the new name"


def test_an_empty_reservation_in_the_trash_is_not_brought_back(
    opened: OpenStorage, place: Path, name: ArtifactName
) -> None:
    (place / TRASH).mkdir()
    (place / name.trash_relative).touch()
    with pytest.raises(ArtifactMissingError):
        give_back(opened, name)
    assert files(place) == {name.trash_relative}


def reserve(place: Path, relative: str) -> None:
    (place / relative).parent.mkdir(exist_ok=True)
    (place / relative).touch()


@pytest.mark.parametrize("moved", ["nothing", "artifact", "both"])
def test_names_that_were_taken_and_never_filled_are_given_up(
    moved: str, opened: OpenStorage, place: Path, names: list[ArtifactName]
) -> None:
    name = names[0]
    if moved != "nothing":
        opened.move_to_trash(name)
    if moved == "both":
        opened.move_sidecar_to_trash(name)
    artifact_taken = name.trash_relative if moved == "nothing" else name.relative
    sidecar_taken = name.sidecar_relative if moved == "both" else name.trash_relative + SIDECAR_SUFFIX
    before = files(place)
    reserve(place, artifact_taken)
    reserve(place, sidecar_taken)
    for _ in range(2):
        opened.discard_reservations(name)
    assert files(place) == before


def test_an_empty_file_alone_is_damage_and_stays(opened: OpenStorage, place: Path, names: list[ArtifactName]) -> None:
    in_place, trashed, gone = names[:3]
    opened.discard_reservations(in_place)
    opened.move_to_trash(trashed)
    os.truncate(place / in_place.relative, 0)
    os.truncate(place / trashed.trash_relative, 0)
    (place / gone.relative).unlink()
    before = files(place)
    for name in (in_place, trashed, gone):
        opened.discard_reservations(name)
    assert files(place) == before


def test_a_move_that_fails_gives_up_the_name_it_took(
    storage: LocalStorage, place: Path, names: list[ArtifactName], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    before = files(place)
    with storage.open(trashing=(move_by_reservation,)) as opened, monkeypatch.context() as patched:
        patched.setattr(os, "rename", broken)
        assert set(opened.move_all_to_trash(names)) == set(names)
    assert files(place) == before


def test_a_trash_that_is_a_link_is_everyones_failure(
    opened: OpenStorage, place: Path, names: list[ArtifactName], tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (place / TRASH).symlink_to(tmp_path / "outside")
    for act in (
        opened.move_all_to_trash,
        opened.move_sidecars_to_trash,
        opened.restore_all_from_trash,
        opened.purge_all,
    ):
        assert set(act(names)) == set(names)
    assert list((tmp_path / "outside").iterdir()) == []
    assert in_place(names) <= files(place)


@pytest.mark.parametrize("ways", WAYS)
def test_moves_that_were_cut_short_are_completed(
    ways: Sequence[Move], storage: LocalStorage, place: Path, names: list[ArtifactName]
) -> None:
    artifact_half, sidecar_half, moved, untouched = names
    (place / TRASH).mkdir()
    if ways == (move_by_reservation,):
        (place / artifact_half.trash_relative).touch()
        (place / sidecar_half.relative).rename(place / sidecar_half.trash_relative)
        (place / f"{sidecar_half.trash_relative}{SIDECAR_SUFFIX}").touch()
    else:
        os.link(place / artifact_half.relative, place / artifact_half.trash_relative)
        (place / sidecar_half.relative).rename(place / sidecar_half.trash_relative)
        os.link(place / sidecar_half.sidecar_relative, place / f"{sidecar_half.trash_relative}{SIDECAR_SUFFIX}")
    (place / moved.relative).rename(place / moved.trash_relative)
    with storage.open(trashing=ways) as opened:
        assert opened.move_all_to_trash([artifact_half, untouched]) == {}
        assert opened.move_sidecars_to_trash(names) == {}
        assert files(place) == in_trash(names)
        assert all((place / each.trash_relative).read_bytes() == each.uid.encode() for each in names)


def test_the_same_name_twice_is_moved_once(opened: OpenStorage, place: Path, names: list[ArtifactName]) -> None:
    for act, where in (
        (opened.move_all_to_trash, None),
        (opened.move_sidecars_to_trash, in_trash(names)),
        (opened.restore_all_from_trash, in_place(names)),
    ):
        assert act([*names, *names]) == {}
        assert where is None or files(place) == where


def test_a_single_one_raises_what_many_return(opened: OpenStorage, name: ArtifactName) -> None:
    for act in (opened.move_to_trash, partial(give_back, opened)):
        with pytest.raises(ArtifactMissingError, match=name.relative):
            act(name)
    (opened.move_sidecar_to_trash(name), opened.purge(name))
    with pytest.raises(StorageError):
        give_back(opened, name)
