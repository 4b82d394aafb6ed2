"""Where copies live: one module a kind. To add one, write the module, its tests and a line in the docs."""

from __future__ import annotations

from backups.storage.errors import (
    ArtifactExistsError,
    ArtifactMissingError,
    ForeignStorageError,
    SentinelMissingError,
    SidecarError,
    StorageError,
    StorageFullError,
    StorageNotEmptyError,
    StorageOfflineError,
)
from backups.storage.local import KIND, LocalStorage
from backups.storage.names import ArtifactName, folder_slug, new_uid
from backups.storage.opened import OpenStorage
from backups.storage.sidecar import Sidecar
from backups.storage.staged import Staged

STORAGES: dict[str, type[LocalStorage]] = {KIND: LocalStorage}

__all__ = [
    "STORAGES",
    "ArtifactExistsError",
    "ArtifactMissingError",
    "ArtifactName",
    "ForeignStorageError",
    "LocalStorage",
    "OpenStorage",
    "SentinelMissingError",
    "Sidecar",
    "SidecarError",
    "Staged",
    "StorageError",
    "StorageFullError",
    "StorageNotEmptyError",
    "StorageOfflineError",
    "folder_slug",
    "new_uid",
]
