"""What every module in this folder offers, so that the rest of Keepwell need not know which kinds there are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Given the id of a child's process group, the context ends that group should it not heed a stop.
type Children = Callable[[int], AbstractContextManager[object]]
type Log = Callable[[Literal["info", "warning", "error"], str], None]


class Summary(Protocol):
    """What a source read, known after its stream's end."""

    def to_mapping(self) -> dict[str, int | str]: ...


class SourceStream(Protocol):
    """The raw, uncompressed bytes of one copy. Reading nothing is the end; errors are raised before it, never after."""

    def readinto(self, buffer: memoryview, /) -> int: ...

    def read(self, size: int, /) -> bytes: ...

    @property
    def summary(self) -> Summary: ...

    @property
    def bytes_read(self) -> int:
        """How much of the stream so far; may be asked at any time, from any thread."""

    @property
    def files_read(self) -> int:
        """How many entries so far; the same, and it may lag or run ahead a little."""


class SourceKind(Protocol):
    """A module of this folder. `SUFFIX` is the artifact's, before compression (".tar")."""

    @property
    def KIND(self) -> str: ...  # noqa: N802  (a module's constant)

    @property
    def SUFFIX(self) -> str: ...  # noqa: N802  (a module's constant)

    def clean(self, config: Mapping[str, Any], /) -> dict[str, Any]:
        """Give the configuration in its one stored form, or raise `SourceConfigError`."""

    def check(self, config: Mapping[str, Any], /) -> list[str]:
        """Name what would go wrong if a backup ran now; empty when nothing is known to."""

    def open(
        self,
        config: Mapping[str, Any],
        /,
        *,
        log: Log,
        stop: threading.Event,
        children: Children = ...,
        forbidden: Sequence[Path] = (),
    ) -> AbstractContextManager[SourceStream]:
        """Start reading. `forbidden` are folders that must not be part of it (the storages).

        Soon after `stop` is set it raises `Stopped`, whatever it waits for. Each child process is started within
        `children`. Raises `SourceError`.
        """
