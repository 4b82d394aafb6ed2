"""What can be wrong with a storage; every text names the storage and says what to do next."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class StorageError(Exception):
    """Base of them all: the bytes were not stored, moved or read."""


class StorageOfflineError(StorageError):
    """The folder is not there or does not answer."""


class SentinelMissingError(StorageError):
    """The folder is there but does not say that it is a storage: most likely a mount point without its disk."""


class ForeignStorageError(StorageError):
    """The folder is another storage's."""


class StorageNotEmptyError(StorageError):
    """A folder that was to become a storage holds other things."""


class StorageFullError(StorageError):
    """No space, or the user's quota is used up."""


class ArtifactMissingError(StorageError):
    """The artifact is not where the catalogue says: a fault to show, never a deletion."""


class ArtifactExistsError(StorageError):
    """Something of that name is there already, and is never overwritten."""


class SidecarError(StorageError):
    """A sidecar that is missing, too large, not JSON, or not about its artifact."""


def missing(label: str, relative: str) -> ArtifactMissingError:
    """The error for an artifact of this name that is not in its place."""
    return ArtifactMissingError(
        f"{label}: {relative} is not there. Someone else moved or removed it; look for it before the next cleanup."
    )


_SENTENCES = {
    errno.ENOSPC: "is full. Free some space or lower the retention, then run again",
    errno.EDQUOT: "has no quota left for this user. Raise it or free some space, then run again",
    errno.EROFS: "is mounted read-only. Check the disk and mount it writable, then run again",
    errno.EACCES: "refused access. Give the user Keepwell runs as read and write permission, then run again",
    errno.EPERM: "does not permit this. Check the folder's owner and mount options, then run again",
    errno.EIO: "has a failing disk or connection (input/output error). Check the disk before anything else",
    errno.ESTALE: "lost its network connection. Mount it again, then run again",
}


@contextmanager
def plain_errors(label: str, doing: str) -> Iterator[None]:
    """Turn an OSError into a `StorageError` with a sentence: `label` ("Storage nas"), `doing` ("writing x")."""
    try:
        yield
    except OSError as error:
        sentence = _SENTENCES.get(error.errno or 0)
        kind = StorageFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        if sentence is None:
            raise StorageError(f"{label}: {doing} failed: {error.strerror or error}.") from error
        raise kind(f"{label} {sentence} ({doing}).") from error
