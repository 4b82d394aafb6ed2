from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backups.archive import Stopped
from backups.sources import SOURCES, SourceConfigError, SourceError
from scheduling.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = SOURCES["files"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class Reading:
    """One whole read of a files source: its raw archive, its log, its summary."""

    def __init__(self, *paths: Path | str, exclude: tuple[str, ...] = (), forbidden: tuple[Path, ...] = ()) -> None:
        self.log: list[tuple[str, str]] = []
        config = FILES.clean({"paths": [str(path) for path in paths], "exclude": list(exclude)})
        with FILES.open(
            config, log=lambda level, text: self.log.append((level, text)), stop=threading.Event(), forbidden=forbidden
        ) as stream:
            blocks = []
            while block := stream.read(1 << 20):
                blocks.append(block)
            assert stream.read(10) == b""
            self.summary = stream.summary.to_mapping()
        self.raw = b"".join(blocks)

    @property
    def names(self) -> set[str]:
        with tarfile.open(fileobj=io.BytesIO(self.raw)) as tar:
            return {"/" + name for name in tar.getnames()}

    @property
    def warnings(self) -> list[str]:
        return [text for level, text in self.log if level == "warning"]


@pytest.mark.parametrize(
    ("config", "field", "says"),
    [
        pytest.param({}, "paths", "at least one", id="nothing"),
        pytest.param({"paths": []}, "paths", "at least one", id="no paths"),
        pytest.param({"paths": "/etc"}, "paths", "at least one", id="text for a list"),
        pytest.param({"paths": [1]}, "paths", "at least one", id="a number"),
        pytest.param({"paths": ["etc"]}, "paths", "not an absolute path", id="relative"),
        pytest.param({"paths": [""]}, "paths", "not an absolute path", id="blank"),
        pytest.param({"paths": ["/e\0tc"]}, "paths", "not an absolute path", id="NUL"),
        pytest.param({"paths": ["/etc", "/etc/"]}, "paths", "twice", id="twice"),
        pytest.param({"paths": ["/srv/x/../../etc", "/etc/ssl"]}, "paths", "already inside", id="nested"),
        pytest.param({"paths": ["/etc/ssl", "/"]}, "paths", "already inside", id="inside the root"),
        pytest.param({"paths": ["/etc"], "exclude": [""]}, "exclude", "not a pattern", id="blank pattern"),
        pytest.param({"paths": ["/etc"], "exclude": ["/"]}, "exclude", "not a pattern", id="slash"),
        pytest.param({"paths": ["/etc"], "exclude": ["a\nb"]}, "exclude", "not a pattern", id="newline"),
        pytest.param({"paths": ["/etc"], "exclude": "x"}, "exclude", "list", id="text for patterns"),
        pytest.param({"paths": ["/etc"], "excludes": []}, "excludes", "unknown", id="unknown field"),
    ],
)
def test_a_wrong_configuration_is_refused_by_field(config: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(SourceConfigError) as caught:
        FILES.clean(config)
    assert list(caught.value.errors) == [field]
    assert says in caught.value.errors[field]


def test_a_configuration_is_normalised() -> None:
    config = FILES.clean({"paths": ["//etc//ssl/", "/etc-other/./x"], "exclude": ["cache/", "*.tmp", "*.tmp"]})
    assert config == {"paths": ["/etc/ssl", "/etc-other/x"], "exclude": ["cache", "*.tmp"]}
    assert FILES.clean(config) == config


def test_the_summary_counts_entries_and_bytes(tree: Path) -> None:
    (tree / "a/b").mkdir(parents=True)
    for name in ("a/one", "a/b/new\nline/", "two", "back\\slash"):
        (tree / name.rstrip("/")).write_text("x")
    (tree / "link").symlink_to("a")
    read = Reading(tree)
    assert read.summary == {"files": 5, "directories": 3, "bytes": len(read.raw), "warnings": 0}


def test_excludes_mean_what_gnu_tar_means_and_a_slash_starts_at_the_root(tree: Path) -> None:
    for folder in ("cache", "keep/cache", "keep"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
        (tree / folder / "f").write_text("x")
        (tree / folder / "f.tmp").write_text("x")
    read = Reading(tree, exclude=("*.tmp", f"{tree}/cache/", "--checkpoint=1"))
    assert read.names == {str(tree), f"{tree}/keep", f"{tree}/keep/f", f"{tree}/keep/cache", f"{tree}/keep/cache/f"}


@pytest.mark.parametrize(
    "name", ["-rf", "--checkpoint-action=exec=touch hacked", "a b", "new\nline", "*", "\\101", "\udcff"]
)
def test_a_root_of_any_name_is_packed_as_itself(name: str, tree: Path) -> None:
    root = tree / name
    root.mkdir()
    (root / "f").write_text("x")
    (tree / "A").mkdir()
    (tree / "A/other").write_text("x")
    read = Reading(root)
    assert read.names == {str(root), f"{root}/f"}
    assert not Path("/hacked").exists()


def test_options_in_the_environment_have_no_effect(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "f").write_text("x")
    monkeypatch.setenv("TAR_OPTIONS", "--exclude=f")
    assert Reading(tree).summary["files"] == 1


def test_a_single_file_is_a_root_too(tree: Path) -> None:
    (tree / "f").write_text("x")
    assert Reading(tree / "f").names == {f"{tree}/f"}


def test_a_missing_path_is_an_error_that_says_what_to_do(tree: Path) -> None:
    with pytest.raises(SourceError) as caught:
        Reading(tree / "gone")
    assert str(caught.value) == f"{tree}/gone does not exist. Check that the disk is mounted, then run again."
    assert FILES.check(FILES.clean({"paths": [f"{tree}/gone"]})) == [str(caught.value)]


def test_a_fifo_as_path_is_refused_and_never_waited_for(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    with pytest.raises(SourceError, match="neither a folder nor a file"):
        Reading(tree / "fifo")


def test_fifos_and_sockets_inside_do_not_block(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "f").write_text("x")
    os.mkfifo(tree / "fifo")
    monkeypatch.chdir(tree)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        read = Reading(tree)
    assert read.warnings == [f"{tree}/socket: socket ignored"]
    assert read.summary["warnings"] == 1


@pytest.mark.parametrize("inside", [[], ["a/b/c"]], ids=["empty", "only folders"])
def test_a_path_without_any_file_is_an_error_because_a_mount_may_be_missing(inside: list[str], tree: Path) -> None:
    for name in inside:
        (tree / name).mkdir(parents=True)
    with pytest.raises(SourceError, match="is empty"):
        Reading(tree)
    assert "is empty" in FILES.check(FILES.clean({"paths": [str(tree)]}))[0]


def test_one_empty_path_among_others_is_a_warning(tree: Path) -> None:
    (tree / "full").mkdir()
    (tree / "full/f").write_text("x")
    (tree / "empty").mkdir()
    read = Reading(tree / "full", tree / "empty")
    assert len(read.warnings) == 1
    assert f"{tree}/empty is empty" in read.warnings[0]


def test_excluding_everything_is_an_error(tree: Path) -> None:
    (tree / "f").write_text("x")
    with pytest.raises(SourceError, match="Nothing was left"):
        Reading(tree, exclude=("*",))


def test_a_path_that_is_a_link_is_followed_once_and_said(tree: Path) -> None:
    (tree / "real").mkdir()
    (tree / "real/f").write_text("x")
    (tree / "link").symlink_to("real")
    read = Reading(tree / "link")
    assert read.names == {f"{tree}/real", f"{tree}/real/f"}
    assert read.log == [("info", f"{tree}/link is a link: {tree}/real is backed up instead.")]
    both = Reading(tree / "link", tree / "real")
    assert both.summary["files"] == 1


@pytest.mark.parametrize("storage", [".", "backups", ".."], ids=["the same", "inside", "around"])
def test_a_storage_and_a_path_inside_each_other_are_refused(storage: str, tree: Path) -> None:
    (tree / "backups").mkdir()
    (tree / "f").write_text("x")
    (tree / "alias").symlink_to(tree / storage)
    with pytest.raises(SourceError, match="one inside the other"):
        Reading(tree, forbidden=(tree / "alias",))


def test_a_storage_beside_a_path_of_similar_name_is_fine(tree: Path) -> None:
    (tree / "data").mkdir()
    (tree / "data/f").write_text("x")
    (tree / "data-backups").mkdir()
    assert Reading(tree / "data", forbidden=(tree / "data-backups",)).summary["files"] == 1


def test_files_that_change_and_vanish_meanwhile_are_warnings(tree: Path) -> None:
    for number in range(300):
        (tree / f"{number:03}").write_bytes(os.urandom(300_000))
    done = threading.Event()

    def disturb() -> None:
        while not done.is_set():
            for number in range(0, 300, 2):
                with (tree / f"{number:03}").open("ab") as file:
                    file.write(b"more")
                (tree / f"{number + 1:03}").unlink(missing_ok=True)

    log: list[str] = []
    config = FILES.clean({"paths": [str(tree)]})
    with FILES.open(config, log=lambda _, text: log.append(text), stop=threading.Event()) as stream:
        first = stream.read(1)
        threading.Thread(target=disturb).start()
        try:
            time.sleep(0.3)
            while stream.read(1 << 20):
                pass
        finally:
            done.set()
        assert first
        summary = stream.summary.to_mapping()
    assert summary["warnings"] == len(log)
    assert any("file changed as we read it" in text for text in log)
    assert any("removed before we read it" in text or "No such file" in text for text in log)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_unreadable_files_are_warnings_and_an_unreadable_path_is_an_error(open_folder: Path) -> None:
    tree = open_folder
    program = f"""
import os, sys, threading
os.setgid(65534); os.setuid(65534)
from backups.sources import files
from backups.sources.errors import SourceError
lines = []
def run(*paths):
    config = files.clean({{"paths": list(paths)}})
    with files.open(config, log=lambda _, text: lines.append(text), stop=threading.Event()) as stream:
        while stream.read(1 << 20):
            pass
    return stream.summary
print(run({str(tree)!r}).to_mapping())
print("\\n".join(lines))
try:
    run({str(tree / "closed")!r})
except SourceError as error:
    print(error)
"""
    (tree / "open").write_text("x")
    (tree / "sécret\x1b").write_text("x")
    (tree / "sécret\x1b").chmod(0)
    (tree / "closed").mkdir(mode=0o700)
    (tree / "closed/f").write_text("x")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "{'files': 1, 'directories': 1, 'bytes': 65536, 'warnings': 2}"
    assert set(lines[1:3]) == {
        f"{tree}/closed: Cannot open: Permission denied",
        f"{tree}/sécret\\033: Cannot open: Permission denied",
    }
    assert "permission denied" in lines[3]


def test_the_stop_event_ends_a_read_promptly_and_the_child_with_it(tree: Path) -> None:
    with (tree / "f").open("wb") as file:
        file.write(os.urandom(50_000_000))
    stop = threading.Event()
    with FILES.open(FILES.clean({"paths": [str(tree)]}), log=lambda *_: None, stop=stop) as stream:
        stream.read(1)
        child = stream._process.pid  # type: ignore[attr-defined]
        stop.set()
        begin = time.monotonic()
        with pytest.raises(Stopped):
            stream.read(1 << 20)
        assert time.monotonic() - begin < 2
        assert not Path(f"/proc/{child}").exists()


def fake_tar(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    folder.mkdir()
    (folder / "tar").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "tar").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_stop_event_ends_a_read_that_waits(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "f").write_text("x")
    fake_tar(tree / "bin", monkeypatch, '[ "$1" = --version ] && { echo "tar (GNU tar) 1.35"; exit; }; sleep 60')
    stop = threading.Event()
    with FILES.open(FILES.clean({"paths": [str(tree)]}), log=lambda *_: None, stop=stop) as stream:
        threading.Timer(0.2, stop.set).start()
        begin = time.monotonic()
        with pytest.raises(Stopped):
            stream.read(1)
        assert time.monotonic() - begin < 3


def test_a_stop_that_came_first_is_a_stop_and_no_empty_folder(tree: Path) -> None:
    (tree / "f").write_text("x")
    stop = threading.Event()
    stop.set()
    for _ in range(20):
        with (
            pytest.raises(Stopped),
            FILES.open(FILES.clean({"paths": [str(tree)]}), log=lambda *_: None, stop=stop) as stream,
        ):
            stream.read(1)


def test_leaving_early_ends_the_child(tree: Path) -> None:
    (tree / "f").write_bytes(os.urandom(5_000_000))
    with FILES.open(FILES.clean({"paths": [str(tree)]}), log=lambda *_: None, stop=threading.Event()) as stream:
        stream.read(1)
        child = stream._process.pid  # type: ignore[attr-defined]
    assert not Path(f"/proc/{child}").exists()
    with pytest.raises(RuntimeError):
        _ = stream.summary


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param("echo bsdtar 3.7", "is not GNU tar", id="another tar"),
        pytest.param(
            '[ "$1" = --version ] && { echo "tar (GNU tar) 1.35"; exit; }; echo "tar: disk on fire" >&2; exit 2',
            "said 2.*disk on fire",
            id="fatal",
        ),
        pytest.param(
            '[ "$1" = --version ] && { echo "tar (GNU tar) 1.35"; exit; }; kill -SEGV $$', "signal 11", id="killed"
        ),
    ],
)
def test_a_tar_that_fails_is_an_error_with_its_own_words(
    body: str, says: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "f").write_text("x")
    fake_tar(tree / "bin", monkeypatch, body)
    with pytest.raises(SourceError, match=says):
        Reading(tree)


def test_a_missing_tar_is_an_error_that_names_the_package(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "f").write_text("x")
    monkeypatch.setenv("PATH", str(tree))
    with pytest.raises(SourceError, match="Install the package tar"):
        Reading(tree)
    assert "not installed" in FILES.check(FILES.clean({"paths": [str(tree)]}))[0]


def test_only_a_thousand_warnings_are_logged_and_all_are_counted(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "f").write_text("x")
    body = f"""[ "$1" = --version ] && {{ echo "tar (GNU tar) 1.35"; exit; }}
i=0; while [ $i -lt 1500 ]; do echo "tar: x$i: file changed as we read it" >&2; i=$((i+1)); done
exec {subprocess.check_output(["which", "tar"], text=True).strip()} "$@\""""
    fake_tar(tree / "bin", monkeypatch, body)
    read = Reading(tree)
    assert read.summary["warnings"] == 1500
    assert len(read.warnings) == 1001
    assert "500 further warnings" in read.warnings[-1]


def test_control_characters_in_names_are_escaped() -> None:
    assert printable("a\x1b[31m\n\u202e\udcffé") == "a\\x1b[31m\\n\\u202e\\xffé"
