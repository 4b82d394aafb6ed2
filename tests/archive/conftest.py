# Names here are bytes, some of them not UTF-8, and modes are meant to be odd.
# ruff: noqa: PTH101, PTH102, PTH103, PTH118, PTH123, PTH211, S103
from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backups.archive import Written, write_archive
from backups.sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def nasty_tree(tmp_path: Path) -> Path:
    """A small tree with everything that is hard to copy."""
    root = os.fsencode(tmp_path / "tree")
    os.mkdir(root)

    def make(
        name: bytes, content: bytes = b"content", *, mode: int = 0o644, ns: int = 1_700_000_000_123_456_789
    ) -> None:
        path = os.path.join(root, name)
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, mode)
        os.utime(path, ns=(ns, ns))

    make(b"plain")
    make(b"empty", b"")
    make(b"block", b"x" * 512)
    make(b"big", os.urandom(3_000_001))
    make(b"\xff\xfe not utf-8")
    make("päckchen \N{SNOWMAN}".encode())
    make(b"new\nline")
    make(b"back\\slash \\101")
    make(b"-rf")
    make(b"--checkpoint-action=exec=false")
    make(b"*.wild [x]")
    make(b" spaces ")
    make(b"n" * 255)
    make(b"setuid", mode=0o4755)
    make(b"secret", mode=0o000)
    make(b"before the epoch", ns=-1_500_000_001)
    os.mkdir(os.path.join(root, b"folder"), 0o755)
    make(b"folder/-in", b"inside")
    os.mkdir(os.path.join(root, b"empty folder"), 0o2750)
    os.mkdir(os.path.join(root, b"sticky"), 0o755)
    os.chmod(os.path.join(root, b"sticky"), 0o1777)
    deep = b"/".join([b"d" * 200] * 8)
    os.makedirs(os.path.join(root, deep))
    make(deep + b"/leaf")
    os.link(os.path.join(root, b"plain"), os.path.join(root, b"z hard link"))
    for name, target in (
        (b"relative", b"folder/-in"),
        (b"absolute", b"/etc/passwd"),
        (b"dangling", b"no\xffwhere"),
        (b"up", b"../.."),
    ):
        os.symlink(target, os.path.join(root, name))
    with open(os.path.join(root, b"sparse"), "wb") as file:
        file.write(b"head")
        file.seek(50_000_000)
        file.write(b"middle")
        file.truncate(90_000_001)
    os.mkfifo(os.path.join(root, b"fifo"))
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(root)  # a socket's path may have 108 bytes only
    try:
        listener.bind("socket")
    finally:
        os.chdir(here)
        listener.close()
    with suppress(OSError):
        os.setxattr(os.path.join(root, b"plain"), "user.note", b"raw\xff\0value")
    os.mkdir(os.path.join(root, b"read only"), 0o755)
    make(b"read only/file")
    os.chmod(os.path.join(root, b"read only"), 0o555)
    for folder in (b"read only", b"folder", b""):
        os.utime(os.path.join(root, folder), ns=(1_600_000_000_000_000_007, 1_600_000_000_000_000_007))
    return Path(os.fsdecode(root))


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """Back up paths into one archive and give its place."""

    def run(*paths: Path, exclude: tuple[str, ...] = ()) -> Path:
        archive = tmp_path / "archive.tar.zst"
        stop = threading.Event()
        files = SOURCES["files"]
        config = files.clean({"paths": [str(path) for path in paths], "exclude": list(exclude)})
        with archive.open("wb") as file, files.open(config, log=lambda *_: None, stop=stop) as stream:
            written = write_archive(stream, file, stop=stop)
        assert isinstance(written, Written)
        assert written.size == archive.stat().st_size
        return archive

    return run
