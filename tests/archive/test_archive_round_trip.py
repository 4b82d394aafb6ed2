# Names here are bytes, some of them not UTF-8, and modes are meant to be odd.
# ruff: noqa: PTH115, PTH118, PTH120
from __future__ import annotations

import filecmp
import os
import shutil
import stat
import struct
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backups.archive import ExtractSummary, MemberKind, extract_archive
from backups.archive.members import MemberStream

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


def unpack(archive: Path, destination: Path, log: list[tuple[str, str]] | None = None) -> ExtractSummary:
    lines = [] if log is None else log
    with archive.open("rb") as file:
        return extract_archive(
            file,
            destination,
            stop=threading.Event(),
            log=lambda level, text: lines.append((level, text)),
            owner=os.geteuid() == 0,
        )


def describe(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything that must survive, by name: kind, mode, owner, time, and the link's target or the size."""
    found: dict[bytes, tuple[object, ...]] = {}
    top = os.fsencode(root)
    for folder, folders, files in os.walk(top):
        for name in [*folders, *files, b"."]:
            path = os.path.normpath(os.path.join(folder, name))
            state = os.lstat(path)
            if stat.S_ISFIFO(state.st_mode) or stat.S_ISSOCK(state.st_mode):
                continue
            extra: object = os.readlink(path) if stat.S_ISLNK(state.st_mode) else 0
            if stat.S_ISREG(state.st_mode):
                extra = (state.st_size, state.st_nlink)
            times = state.st_mtime_ns
            found[os.path.relpath(path, top)] = (state.st_mode, state.st_uid, state.st_gid, times, extra)
    return found


def differing_files(first: Path, second: Path) -> list[bytes]:
    return [
        name
        for name, (mode, *_) in describe(first).items()
        if stat.S_ISREG(int(str(mode)))
        and not filecmp.cmp(
            os.path.join(os.fsencode(first), name), os.path.join(os.fsencode(second), name), shallow=False
        )
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="owners and set-id bits need root")
def test_everything_in_a_nasty_tree_comes_back_exactly(
    nasty_tree: Path, pack: Callable[..., Path], tmp_path: Path
) -> None:
    log: list[tuple[str, str]] = []
    summary = unpack(pack(nasty_tree), tmp_path / "out", log)
    restored = tmp_path / "out" / nasty_tree.relative_to("/")

    assert describe(restored) == describe(nasty_tree)
    assert differing_files(nasty_tree, restored) == []
    assert [level for level, _ in log] == ["warning"], "only the fifo is left out"
    assert (summary.hardlinks, summary.symlinks) == (1, 4)


def test_a_sparse_file_stays_sparse(nasty_tree: Path, pack: Callable[..., Path], tmp_path: Path) -> None:
    archive = pack(nasty_tree)
    unpack(archive, tmp_path / "out")
    restored = (tmp_path / "out" / nasty_tree.relative_to("/") / "sparse").stat()

    assert restored.st_size == 90_000_001
    assert restored.st_blocks * 512 < 1_000_000
    assert archive.stat().st_size < 4_000_000


def test_extended_attributes_come_back(nasty_tree: Path, pack: Callable[..., Path], tmp_path: Path) -> None:
    try:
        expected = os.getxattr(nasty_tree / "plain", "user.note")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    unpack(pack(nasty_tree), tmp_path / "out")
    restored = tmp_path / "out" / nasty_tree.relative_to("/") / "plain"
    assert os.getxattr(restored, "user.note") == expected


def test_gnu_tar_alone_restores_the_same_tree(nasty_tree: Path, pack: Callable[..., Path], tmp_path: Path) -> None:
    archive = pack(nasty_tree)
    out = tmp_path / "by tar"
    out.mkdir()
    listed = subprocess.run(["tar", "--zstd", "-tf", archive], capture_output=True, check=True).stdout
    subprocess.run(["tar", "--zstd", "-xpf", archive, "-C", out], check=True, capture_output=True)
    restored = out / nasty_tree.relative_to("/")

    assert listed.count(b"\n") == len(describe(nasty_tree)) + 1, "and the fifo"
    assert describe(restored) == describe(nasty_tree)
    assert differing_files(nasty_tree, restored) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="access control lists come back with owners, which need root")
def test_access_control_lists_come_back(nasty_tree: Path, pack: Callable[..., Path], tmp_path: Path) -> None:
    entries = ((1, 6, 2**32 - 1), (2, 6, 1000), (4, 4, 2**32 - 1), (16, 6, 2**32 - 1), (32, 0, 2**32 - 1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(nasty_tree / "plain", "system.posix_acl_access", acl)
    except OSError:
        pytest.skip("this file system has no access control lists")
    unpack(pack(nasty_tree), tmp_path / "out")
    restored = tmp_path / "out" / nasty_tree.relative_to("/") / "plain"
    assert os.getxattr(restored, "system.posix_acl_access") == acl
    assert restored.stat().st_mode == (nasty_tree / "plain").stat().st_mode


@pytest.mark.parametrize("kind", ["gnu", "pax", "oldgnu", "ustar"])
def test_archives_that_gnu_tar_made_are_read_too(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / ("n" * 90)).write_bytes(b"content")
    with (source / "sparse").open("wb") as file:
        for extent in range(60):
            file.seek(extent * 1_000_000)
            file.write(b"%d" % extent)
        file.truncate(70_000_000)
    archive = tmp_path / "a.tar.zst"
    sparse = [] if kind == "ustar" else ["--sparse"]
    subprocess.run(["tar", f"--format={kind}", *sparse, "--zstd", "-cf", archive, "-C", source, "."], check=True)

    unpack(archive, tmp_path / "out")
    assert differing_files(source, tmp_path / "out") == []


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_what_follows_a_sparse_file_is_read_in_every_sparse_format(version: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
    (source / "zlast").write_text("after it")
    archive = tmp_path / "a.tar.zst"
    command = ["tar", "--format=pax", "--sparse", f"--sparse-version={version}", "--zstd", "-cf", archive, "-C", source]
    subprocess.run([*command, "sparse", "zlast"], check=True)

    unpack(archive, tmp_path / "out")
    assert differing_files(source, tmp_path / "out") == []


def test_part_of_the_system_comes_back_exactly(pack: Callable[..., Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(
        os.path.dirname(os.__file__),
        source,
        symlinks=True,
        ignore=shutil.ignore_patterns("site-packages", "dist-packages"),
    )
    unpack(pack(source), tmp_path / "out")
    restored = tmp_path / "out" / source.relative_to("/")

    assert len(describe(source)) > 500
    assert describe(restored) == describe(source)
    assert differing_files(source, restored) == []


def test_members_are_listed_as_they_are(nasty_tree: Path, pack: Callable[..., Path]) -> None:
    with pack(nasty_tree).open("rb") as file, MemberStream(file) as stream:
        members = {member.path.rsplit(b"/", 1)[-1]: member for member in stream}

    assert members[b"\xff\xfe not utf-8"].size == 7
    assert members[b"sparse"].size == 90_000_001
    assert members[b"dangling"].link == b"no\xffwhere"
    assert members[b"fifo"].kind is MemberKind.SPECIAL
    assert members[b"z hard link"].kind is MemberKind.HARDLINK or members[b"plain"].kind is MemberKind.HARDLINK
    assert members[b"plain"].mtime_ns == 1_700_000_000_123_456_789


@pytest.mark.parametrize(
    ("make", "limit_mib"),
    [
        pytest.param("files(20000)", 150, id="20,000 files"),
        pytest.param("random(400)", 150, id="400 MiB of noise"),
        pytest.param("hole(4000)", 150, id="a hole of 4 GB"),
    ],
)
def test_memory_stays_flat_both_ways(make: str, limit_mib: int, tmp_path: Path) -> None:
    program = f"""
        import os, threading
        from pathlib import Path
        from backups.archive import extract_archive, write_archive
        from backups.sources import files as source

        top = Path({str(tmp_path)!r})
        tree = top / "tree"
        tree.mkdir()

        def files(count):
            for number in range(count):
                folder = tree / str(number // 1000)
                folder.mkdir(exist_ok=True)
                (folder / f"a file with an ordinary name {{number}}").write_bytes(b"%d" % number)

        def random(mib):
            with (tree / "noise").open("wb") as file:
                for _ in range(mib):
                    file.write(os.urandom(1 << 20))

        def hole(mb):
            with (tree / "hole").open("wb") as file:
                file.write(b"head")
                file.truncate(mb * 1_000_000)

        {make}
        stop, log = threading.Event(), lambda level, text: None
        config = source.clean({{"paths": [str(tree)]}})
        with (top / "a").open("wb") as file, source.open(config, log=log, stop=stop) as stream:
            write_archive(stream, file, stop=stop)
        with (top / "a").open("rb") as file:
            extract_archive(file, top / "out", stop=stop, log=log, owner=False)
        status = Path("/proc/self/status").read_text()
        print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
    """
    # VmHWM is this process's own peak; ru_maxrss would start at that of the test runner it was forked from.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < limit_mib
