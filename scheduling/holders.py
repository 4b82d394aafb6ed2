"""Who is running a run: a file lock that the kernel drops when the process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.db import connection

from scheduling.database_clock import database_now
from scheduling.models import Host

DRAFT = "new-"
DRAFT_SECONDS = 3600
# A host that is silent for longer than this has no part in the work any more.
SILENT_SECONDS = settings.KEEPWELL_LEASE_SECONDS * 1.5


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


def other_hosts_possible() -> bool:
    """Whether processes of another data folder may be at the same database.

    A SQLite file has one: rows of another host id were copied here with the file, and their processes are not.
    """
    return connection.vendor != "sqlite"


@contextmanager
def hold() -> Iterator[str]:
    """Hold a new lock for the body, yielding its name, which also says whose it is: `<host id>.<file>`."""
    file = secrets.token_hex(12)
    path = _folder() / file
    draft = path.with_name(f"{DRAFT}{file}")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Under its own name only once it is locked: `sweep` may look at any moment.
        draft.rename(path)
        yield f"{host_id()}.{file}"
    finally:
        draft.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_held(name: str) -> bool:
    """Whether a live process holds the lock called `name`. Leaves nothing behind of a lock whose process died.

    A lock of another data folder cannot be seen from here: it counts as held while any process there is alive.
    """
    host, _, file = name.rpartition(".")
    if host and host != host_id():
        return other_hosts_possible() and _is_alive(host)
    return bool(file) and _is_locked(_folder() / file)


def _is_alive(host: str) -> bool:
    silent_since = database_now(ahead=-SILENT_SECONDS)
    return Host.objects.filter(host=host, seen_at__gt=silent_since).exists()


def sweep() -> None:
    """Remove the locks of dead processes, also of those that died before they had claimed anything."""
    for path in _folder().iterdir():
        if path.name.startswith(DRAFT):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > DRAFT_SECONDS:
                    path.unlink()
        else:
            _is_locked(path)


def _is_locked(path: Path) -> bool:
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
