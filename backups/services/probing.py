"""Whether storages answer, asked without letting a page wait for a disk that does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from backups.models import Storage
from backups.services.storages import storage_backend
from backups.storage import ForeignStorageError, SentinelMissingError, StorageError

PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class StorageState:
    """What a look at a storage found. `status` is a badge's, `word` what it says; `free` and `total` are bytes."""

    status: str
    word: str
    problem: str = ""
    free: int | None = None
    total: int | None = None
    sentinel_missing: bool = False

    @property
    def is_usable(self) -> bool:
        return not self.problem

    @property
    def used(self) -> int:
        return (self.total or 0) - (self.free or 0)

    @property
    def used_percent(self) -> int:
        return round(100 * self.used / self.total) if self.total else 0


@dataclass(kw_only=True)
class _Look:
    thread: threading.Thread
    state: StorageState | None = None


# A look that hangs on a dead mount cannot be ended. It is kept here, so that each storage has at most one.
_pending: dict[tuple[int, str], _Look] = {}
_lock = threading.Lock()


def storage_state(storage: Storage) -> StorageState:
    """What opening the storage finds; waits as long as its disk does."""
    try:
        with storage_backend(storage).open() as handle:
            free, total = handle.free_space()
    except SentinelMissingError as error:
        return StorageState(status="failed", word="No sentinel", problem=str(error), sentinel_missing=True)
    except ForeignStorageError as error:
        return StorageState(status="failed", word="Another storage", problem=str(error))
    except StorageError as error:
        return StorageState(status="failed", word="Away", problem=str(error))
    except ValueError as error:
        return StorageState(status="failed", word="Unusable", problem=f"{storage.name}: {error}.")
    return StorageState(status="ok", word="Ready", free=free, total=total)


def storages_probe(
    storages: Iterable[Storage],
    *,
    patience: float = PATIENCE_SECONDS,
    look: Callable[[Storage], StorageState] = storage_state,
) -> dict[int, StorageState]:
    """The state of each storage by its pk, all looked at together for at most `patience` seconds."""
    listed = list(storages)
    looks = {storage.pk: _begin(storage, look) for storage in listed}
    deadline = time.monotonic() + patience
    states = {}
    for storage in listed:
        begun = looks[storage.pk]
        begun.thread.join(max(0.0, deadline - time.monotonic()))
        states[storage.pk] = begun.state or _silent(storage, patience)
    return states


def _begin(storage: Storage, look: Callable[[Storage], StorageState]) -> _Look:
    key = (storage.pk, storage.path)
    with _lock:
        pending = _pending.get(key)
        if pending is not None and pending.thread.is_alive():
            return pending

        def work() -> None:
            begun.state = look(storage)
            with _lock:
                if _pending.get(key) is begun:
                    del _pending[key]

        begun = _Look(thread=threading.Thread(target=work, name=f"probe-{storage.pk}", daemon=True))
        _pending[key] = begun
        begun.thread.start()
    return begun


def _silent(storage: Storage, patience: float) -> StorageState:
    return StorageState(
        status="lost",
        word="No answer",
        problem=(
            f"{storage.name}: {storage.path} did not answer within {patience:.0f} seconds. "
            "Check the disk or the network mount, then look again."
        ),
    )
