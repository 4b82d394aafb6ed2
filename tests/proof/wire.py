"""Every change that Keepwell makes in a storage or to a row, one at a time: watched, and interrupted at will."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from backups.models import AuditEntry, Backup
from backups.storage import moving

TRASH = ".keepwell-trash"
NAME = re.compile(r"(?P<artifact>\d{4}-\d\d-\d\dT\d{6}Z-(?P<uid>[0-9a-f]{16})\.tar\.zst)(?P<sidecar>\.meta\.json)?")
WRITES = ("INSERT", "UPDATE", "DELETE")


class CrashError(BaseException):
    """The process is dead: nothing of ours may catch this, and nothing it still tries to do happens."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens at the `at`-th change: `crash`, `error` (a disk that fails once), or `unmount`.

    With `rows`, changes of rows are counted as well, and there a crash is all that can happen.
    """

    kind: str
    at: int
    rows: bool


class Wire:
    """Stands before the system calls that change a storage, and before the statements that change rows."""

    def __init__(self, unmount: Callable[[Path], None]) -> None:
        self.wrong: list[str] = []
        self.hit = False
        self.renames = True
        self._unmount = unmount
        self._fault: Fault | None = None
        self._count = 0
        self._is_dead = False

    def install(self, patch: pytest.MonkeyPatch) -> None:
        rename, link, unlink = os.rename, os.link, os.unlink
        renameat2 = moving._renameat2()

        def watched_rename(src: Any, dst: Any, *, src_dir_fd: Any = None, dst_dir_fd: Any = None) -> None:
            if src_dir_fd is not None:
                self._before(src_dir_fd, src, dst_dir_fd)
            rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        def watched_link(src: Any, dst: Any, *, src_dir_fd: Any = None, dst_dir_fd: Any = None, **more: Any) -> None:
            if src_dir_fd is not None:
                self._before(src_dir_fd, src, dst_dir_fd)
            link(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, **more)

        def watched_unlink(path: Any, *, dir_fd: Any = None) -> None:
            if dir_fd is not None:
                self._before(dir_fd, path, None)
            unlink(path, dir_fd=dir_fd)

        def watched_fsync(_descriptor: int) -> None:
            # Power cuts are proven elsewhere; here a process dies, and the kernel keeps what it was told.
            self._tick(None)

        def watched_renameat2(src: int, name: bytes, dst: int, new_name: bytes, flags: int) -> int:
            assert renameat2 is not None
            self._before(src, os.fsdecode(name), dst)
            return renameat2(src, name, dst, new_name, flags)

        patch.setattr(os, "rename", watched_rename)
        patch.setattr(os, "link", watched_link)
        patch.setattr(os, "unlink", watched_unlink)
        patch.setattr(os, "fsync", watched_fsync)
        patch.setattr(moving, "_renameat2", lambda: watched_renameat2 if self.renames else None)

    @contextmanager
    def armed(self, fault: Fault | None) -> Iterator[None]:
        """Let the fault come while the body runs; a crash ends the body, and everything in it."""
        self._fault, self._count, self.hit, self._is_dead = fault, 0, False, False
        try:
            with connection.execute_wrapper(self._statement):
                yield
        except CrashError:
            pass
        finally:
            self._fault, self._is_dead = None, False

    def _statement(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if self._is_dead:
            raise CrashError
        if self._fault is not None and self._fault.rows and sql.startswith(WRITES):
            self._tick(None, only_crashes=True)
        return execute(sql, params, many, context)

    def _before(self, folder: int, name: Any, destination: int | None) -> None:
        here = Path(f"/proc/self/fd/{folder}").readlink()
        self._tick(here)
        match = NAME.fullmatch(os.fspath(name))
        if match is not None:
            there = Path(f"/proc/self/fd/{destination}").readlink() if destination is not None else None
            self._look(here, match, there)

    def _tick(self, here: Path | None, *, only_crashes: bool = False) -> None:
        if self._is_dead:
            raise CrashError
        fault = self._fault
        if fault is None:
            return
        self._count += 1
        if self._count < fault.at or self.hit or (only_crashes and fault.kind != "crash"):
            return
        if fault.kind == "crash":
            self.hit = self._is_dead = True
            raise CrashError
        if here is None:
            return
        self.hit = True
        if fault.kind == "unmount":
            self._unmount(here)
        else:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _look(self, here: Path, match: re.Match[str], there: Path | None) -> None:
        """R17 and R21: the row and the audit say it first, and no sidecar goes before its artifact."""
        uid, in_trash = match["uid"], here.name == TRASH
        where = f"{match[0]} in {here.name}{f' to {there.name}' if there else ''}"
        if match["sidecar"]:
            artifact, comes_back = here / match["artifact"], in_trash and there is not None
            if not comes_back and _size(artifact) and not self._is_second_name(here, match[0]):
                self.wrong.append(f"a sidecar goes before its artifact: {where}")
            return
        row = Backup.objects.filter(uid=uid).values("state", "size", "sha256").first()
        wanted = "purging" if in_trash and there is None and not self._is_second_name(here, match[0]) else "deleting"
        if row is None or row["state"] != wanted:
            self.wrong.append(f"the row says {row['state'] if row else 'nothing'} and not {wanted}: {where}")
            return
        audited = AuditEntry.objects.filter(backup_uid=uid, size=row["size"], sha256=row["sha256"])
        actions = {"purge"} if wanted == "purging" else {"trash", "untrash", "reconcile"}
        if not audited.filter(action__in=actions).exists():
            self.wrong.append(f"no audit entry was written first: {where}")

    @staticmethod
    def _is_second_name(here: Path, name: str) -> bool:
        return (here / name).stat().st_nlink > 1


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
