"""What every module in this folder offers, so that the rest of Keepwell need not know which kinds there are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence
    from pathlib import Path

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
        forbidden: Sequence[Path] = (),
    ) -> AbstractContextManager[SourceStream]:
        """Start reading. `forbidden` are folders that must not be part of it (the storages). Raises `SourceError`."""
