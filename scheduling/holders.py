"""Who is running a run: a file lock that the kernel drops when the process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from django.conf import settings


def _folder() -> Path:
    folder = Path(settings.KEEPWELL_DATA) / "holders"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@lru_cache(maxsize=8)
def _read_host_id(path: Path) -> str:
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        draft.write_text(secrets.token_hex(8))
        # A link either appears whole or not at all, and the first of two processes wins.
        with suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
    return path.read_text().strip()


def host_id() -> str:
    """The id of this data folder.

    It, not the host's name, says whose locks can be seen: a container's name changes, its volume stays.
    """
    return _read_host_id(Path(settings.KEEPWELL_DATA) / "host_id")


@contextmanager
def hold() -> Iterator[str]:
    """Hold a new lock for the body, yielding its name."""
    name = secrets.token_hex(12)
    path = _folder() / name
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield name
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_held(name: str) -> bool:
    """Whether a live process holds the lock called `name`. Leaves nothing behind of a lock whose process died."""
    if not name:
        return False
    path = _folder() / name
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
