"""Waiting for what may hang, without hanging along."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from backups.archive.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_SECONDS = 0.1


def heeding[T](stop: threading.Event, work: Callable[[], T]) -> T:
    """Do `work` in a thread of its own; raises what it raises, or `Stopped` soon after `stop` is set.

    The thread is then left to itself: nothing can end a look at a network disk that does not answer.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="keepwell-source", daemon=True)
    thread.start()
    while thread.is_alive():
        if stop.is_set():
            raise Stopped
        thread.join(LOOK_SECONDS)
    if errors:
        raise errors[0]
    return results[0]
