from __future__ import annotations

import io
import os
import tarfile
import threading
from pathlib import Path

import pytest
import zstandard

from backups.archive import (
    DamagedArchiveError,
    DestinationError,
    ExtractError,
    ExtractLimits,
    ExtractSummary,
    Stopped,
    extract_archive,
)
from backups.archive.members import MemberStream

type Entry = tuple[str, bytes, str | bytes]


def archive_of(*entries: Entry) -> bytes:
    """Make a .tar.zst of (name, type, content or link target)."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, value in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
            if kind == tarfile.REGTYPE:
                content = value.encode() if isinstance(value, str) else value
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.linkname = value if isinstance(value, str) else value.decode()
                tar.addfile(info)
    return zstandard.compress(raw.getvalue())


def unpack(
    archive: bytes, destination: Path, *, limits: ExtractLimits | None = None, log: list[str] | None = None
) -> ExtractSummary:
    lines = [] if log is None else log
    return extract_archive(
        io.BytesIO(archive),
        destination,
        stop=threading.Event(),
        log=lambda _, text: lines.append(text),
        limits=limits,
        owner=True,
    )


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


FILE, DIR, SYM, LNK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([("../escaped", FILE, "x")], id="parent"),
        pytest.param([("a/../../escaped", FILE, "x")], id="parent in the middle"),
        pytest.param([("a", DIR, ""), ("a/..", DIR, "")], id="parent as a folder"),
        pytest.param([("h", LNK, "../outside")], id="hard link to a parent"),
        pytest.param([("l/..", SYM, "x")], id="link named as a parent"),
        pytest.param([("/", FILE, "x")], id="no name"),
    ],
)
def test_names_that_lead_out_are_refused(entries: list[Entry], tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "outside").write_text("mine")
    with pytest.raises(ExtractError):
        unpack(archive_of(*entries), inner / "out")
    assert names(inner) == {"outside", "out"} or names(inner) == {"outside", "out", "out/a"}


def untouched(victim: Path) -> list[tuple[int, ...]]:
    """What writing would change of a folder and its file; not the time of access, which looking changes."""
    found = [path.stat() for path in (victim, victim / "kept")]
    return [(s.st_ino, s.st_mode, s.st_nlink, s.st_uid, s.st_gid, s.st_size, s.st_mtime_ns) for s in found]


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([("l", SYM, "{out}"), ("l/f", FILE, "x")], id="write through an absolute link"),
        pytest.param([("l", SYM, "../victim"), ("l/f", FILE, "x")], id="write through a relative link"),
        pytest.param([("l", SYM, "../victim/kept"), ("l", FILE, "x")], id="file over a link"),
        pytest.param([("l", SYM, "../victim"), ("l", DIR, ""), ("l/f", FILE, "x")], id="folder over a link"),
        pytest.param([("a", SYM, "."), ("a/b", SYM, ".."), ("a/b/victim/f", FILE, "x")], id="chain of links"),
        pytest.param([("a", SYM, "../victim"), ("a/b", SYM, "x"), ("a/b/f", FILE, "x")], id="link below a link"),
        pytest.param([("l", SYM, "../victim/kept"), ("h", LNK, "l"), ("h", FILE, "x")], id="hard link to a link"),
        pytest.param([("h", LNK, "{out}/kept"), ("h", FILE, "x")], id="hard link to an absolute path"),
        pytest.param([("l", SYM, "../victim"), ("h", LNK, "l/kept"), ("h", FILE, "x")], id="hard link through a link"),
        pytest.param([("{out}/f", FILE, "x")], id="absolute name"),
        pytest.param([("//{out}/f", FILE, "x")], id="absolute name with more slashes"),
        pytest.param([("d", DIR, ""), ("d", SYM, "../victim"), ("d/f", FILE, "x"), ("d/f", DIR, "")], id="swaps"),
    ],
)
def test_nothing_outside_is_ever_written(entries: list[Entry], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o751)
    (victim / "kept").write_text("mine")
    before = untouched(victim)
    placed = [
        (name.format(out=victim), kind, value.format(out=victim) if isinstance(value, str) else value)
        for name, kind, value in entries
    ]
    unpack(archive_of(*placed), tmp_path / "out")

    assert names(victim) == {"kept"}
    assert (victim / "kept").read_text() == "mine"
    assert untouched(victim) == before


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param([("a", FILE, "1"), ("a", FILE, "22")], {"a": "22"}, id="file, file"),
        pytest.param(
            [("a", FILE, "1"), ("h", LNK, "a"), ("a", FILE, "22")], {"a": "22", "h": "1"}, id="linked file, file"
        ),
        pytest.param([("a", FILE, "1"), ("a", DIR, "")], {"a": None}, id="file, folder"),
        pytest.param([("a", FILE, "1"), ("a/b", FILE, "2")], {"a": None, "a/b": "2"}, id="file, file below it"),
        pytest.param([("a", DIR, ""), ("a", FILE, "1")], {"a": "1"}, id="empty folder, file"),
        pytest.param([("a/b", FILE, "1"), ("a", FILE, "2")], {"a": None, "a/b": "1"}, id="full folder, file"),
        pytest.param([("b", FILE, "1"), ("a", SYM, "b"), ("a", FILE, "2")], {"b": "1", "a": "2"}, id="link, file"),
        pytest.param([("b", FILE, "1"), ("a", FILE, "2"), ("a", SYM, "b")], {"b": "1", "a": "1"}, id="file, link"),
        pytest.param([("a/b", FILE, "1"), ("a", SYM, "x")], {"a": None, "a/b": "1"}, id="full folder, link"),
        pytest.param([("a", FILE, "1"), ("a", LNK, "a")], {"a": "1"}, id="link to itself"),
    ],
)
def test_the_later_of_two_entries_wins_unless_a_full_folder_would_go(
    entries: list[Entry], expected: dict[str, str | None], tmp_path: Path
) -> None:
    unpack(archive_of(*entries), tmp_path / "out")
    found = {
        name: path.read_text() if path.is_file() else None
        for name in names(tmp_path / "out")
        for path in [tmp_path / "out" / name]
    }
    assert found == expected


@pytest.mark.parametrize(
    "kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"], ids=["char", "block", "fifo", "unknown"]
)
def test_special_files_are_skipped_with_a_warning(kind: bytes, tmp_path: Path) -> None:
    log: list[str] = []
    summary = unpack(archive_of(("d/s\x1b[2J", kind, ""), ("after", FILE, "x")), tmp_path / "out", log=log)
    assert names(tmp_path / "out") == {"after"}
    assert summary.warnings == 1
    assert "\x1b" not in log[0]


def test_a_missing_hard_link_target_is_a_warning(tmp_path: Path) -> None:
    assert unpack(archive_of(("h", LNK, "gone/file"), ("f", FILE, "x")), tmp_path / "out").warnings == 1
    assert names(tmp_path / "out") == {"f"}


def test_a_deep_chain_of_folders_is_unpacked_below_the_destination(tmp_path: Path) -> None:
    deep = "/".join(["d" * 200] * 40)
    unpack(archive_of((f"{deep}/f", FILE, "x")), tmp_path / "out")
    with pytest.raises(ExtractError, match="not a usable name"):
        unpack(archive_of(("/".join("d" * 3000), FILE, "x")), tmp_path / "out2")


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(ExtractLimits(entries=2), id="entries"),
        pytest.param(ExtractLimits(bytes=25), id="bytes"),
    ],
)
def test_limits_stop_the_unpacking(limits: ExtractLimits, tmp_path: Path) -> None:
    entries: list[Entry] = [(str(number), FILE, "0123456789") for number in range(3)]
    with pytest.raises(ExtractError, match="Unpacking was stopped"):
        unpack(archive_of(*entries), tmp_path / "out", limits=limits)


def test_a_destination_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(DestinationError, match="is not empty"):
        unpack(archive_of(("mine", FILE, "x")), tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_destination_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(DestinationError):
        unpack(archive_of(("f", FILE, "x")), tmp_path / "link")


def raw_archive() -> bytearray:
    return bytearray(zstandard.decompress(archive_of(("a", FILE, "1" * 600), ("b", FILE, "2" * 600))))


@pytest.mark.parametrize(
    ("damage", "intact"),
    [
        pytest.param(lambda raw: raw[:1000], 1, id="cut in the data"),
        pytest.param(lambda raw: raw[:1536], 1, id="cut between members"),
        pytest.param(lambda raw: raw[:3072], 2, id="no end marker"),
        pytest.param(lambda raw: raw[:1540] + b"!!!" + raw[1543:], 1, id="a damaged header"),
        pytest.param(lambda raw: raw[:1536] + b"\0" * 1024 + raw[1536:], 1, id="an end in the middle"),
        pytest.param(lambda _: b"", 0, id="nothing"),
    ],
)
def test_damage_is_never_taken_for_the_end(damage: object, intact: int, tmp_path: Path) -> None:
    raw = damage(raw_archive())  # type: ignore[operator]
    found: list[bytes] = []
    file = io.BytesIO(zstandard.compress(bytes(raw)))
    with pytest.raises(DamagedArchiveError), MemberStream(file) as members:
        found.extend(member.path for member in members)
    assert len(found) == intact
    with pytest.raises(DamagedArchiveError):
        unpack(zstandard.compress(bytes(raw)), tmp_path / "out")


def test_a_flipped_bit_in_a_frame_is_damage(tmp_path: Path) -> None:
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    archive = bytearray(compressor.compress(bytes(raw_archive())))
    archive[-1] ^= 1
    with pytest.raises(DamagedArchiveError):
        unpack(bytes(archive), tmp_path / "out")


def test_something_else_than_an_archive_is_damage(tmp_path: Path) -> None:
    with pytest.raises(DamagedArchiveError):
        unpack(b"#!/bin/sh\n" * 1000, tmp_path / "out")


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME], ids=["pax", "global", "long name"]
)
def test_a_header_that_claims_gigabytes_is_refused(kind: bytes, tmp_path: Path) -> None:
    with pytest.raises(DamagedArchiveError, match="do not end"):
        unpack(zstandard.compress(header(kind, 5 << 30) + b"\0" * (64 << 20)), tmp_path / "out")


def test_a_chain_of_headers_without_a_member_is_refused(tmp_path: Path) -> None:
    longname = header(tarfile.GNUTYPE_LONGNAME, 1 << 20) + b"n" * (1 << 20)
    with pytest.raises(DamagedArchiveError, match="do not end"):
        unpack(zstandard.compress(longname * 40), tmp_path / "out")


def pax_record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + 2
    return f"{length}".encode() + body if len(str(length)) == 2 else f"{len(body) + 3}".encode() + body


def test_the_place_after_a_sparse_file_with_a_stated_size_is_found(tmp_path: Path) -> None:
    """A pax "size" appears for stored data of over 8 GiB, and made what follows unreadable."""
    sparse_map = b"1\n4096\n5\n".ljust(512, b"\0")
    records = b"".join(
        pax_record(key, value)
        for key, value in {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "sparse",
            "GNU.sparse.realsize": "1000000",
            "size": "517",
        }.items()
    )
    raw = header(tarfile.XHDTYPE, len(records)) + records.ljust(512, b"\0")
    raw += header(tarfile.REGTYPE, 517) + sparse_map + b"hello".ljust(512, b"\0")
    raw += header(tarfile.REGTYPE, 5, "after") + b"world".ljust(512, b"\0") + b"\0" * 1024

    unpack(zstandard.compress(raw), tmp_path / "out")
    assert (tmp_path / "out/after").read_bytes() == b"world"
    assert (tmp_path / "out/sparse").stat().st_size == 1_000_000
    assert (tmp_path / "out/sparse").read_bytes()[4096:4102] == b"hello\0"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give owners away")
def test_set_id_bits_need_the_restored_owner(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, uid in (("owned", 1234), ("impossible", 2**32 - 1)):
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid = 0o6755, uid, 1234
            tar.addfile(info)
    archive = zstandard.compress(raw.getvalue())
    unpack(archive, tmp_path / "out")
    extract_archive(io.BytesIO(archive), tmp_path / "mine", stop=threading.Event(), log=lambda *_: None, owner=False)

    def state(path: Path) -> tuple[int, int]:
        return path.stat().st_mode & 0o7777, path.stat().st_uid

    assert state(tmp_path / "out/owned") == (0o6755, 1234)
    assert state(tmp_path / "out/impossible") == (0o755, 0)
    assert state(tmp_path / "mine/owned") == (0o755, 0)


def test_the_stop_event_ends_the_unpacking(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        extract_archive(
            io.BytesIO(archive_of(("f", FILE, "x"))), tmp_path / "out", stop=stop, log=lambda *_: None, owner=False
        )
