"""What lies in a storage, beside what the catalogue says. Reports only: nothing is moved, removed or marked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from backups.choices import BackupState
from backups.models import Backup, Storage
from backups.services.storages import storage_backend
from backups.storage import ArtifactName, OpenStorage


@dataclass(frozen=True, kw_only=True)
class StorageContents:
    """`free` and `total` in bytes; `states` counts catalogue rows; the tuples hold relative names.

    `missing` are copies the catalogue counts on whose file is not there, `other_size` those whose file has another size
    than was stored, `unknown` what the catalogue does not list, `parts` what was never published (a running backup, or
    a crashed one).
    """

    free: int
    total: int
    states: dict[str, int]
    files: int
    file_bytes: int
    missing: tuple[str, ...]
    other_size: tuple[str, ...]
    unknown: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Every copy the catalogue counts on is there with its size; the bytes themselves were not read."""
        return not self.missing and not self.other_size


def storage_contents(storage: Storage) -> StorageContents:
    """Open the storage, sentinel checked, and compare it with the catalogue. Raises `StorageError`."""
    with storage_backend(storage).open() as handle:
        rows = list(Backup.objects.filter(storage=storage).on_storage())
        files = dict(handle.list_artifacts())
        missing, other_size = [], []
        for backup in rows:
            name = _name(backup)
            if name is None:
                # No file can be where such a row says, and the catalogue counts on one.
                missing.append(f"{backup.uid}: its row names no artifact")
            elif name.relative not in files:
                missing += [name.relative] if _is_missing(backup, name, handle) else []
            elif files[name.relative] != backup.size:
                other_size.append(name.relative)
        unknown = list(handle.unknown_files(known_names(storage)))
        # A backup that was published while the files were listed is known by now.
        known = known_names(storage) if unknown else set()
        free, total = handle.free_space()
        return StorageContents(
            free=free,
            total=total,
            states=dict(Counter(Backup.objects.filter(storage=storage).values_list("state", flat=True).iterator())),
            files=len(files),
            file_bytes=sum(files.values()),
            missing=tuple(sorted(missing)),
            other_size=tuple(sorted(other_size)),
            unknown=tuple(sorted(path for path in unknown if path.removesuffix(".meta.json") not in known)),
            parts=tuple(sorted(path for path, _ in handle.list_parts())),
        )


def _name(backup: Backup) -> ArtifactName | None:
    try:
        return backup.artifact
    except ValueError:
        return None


def _is_missing(backup: Backup, name: ArtifactName, handle: OpenStorage) -> bool:
    """Look again: a cleanup may have moved it, or a backup published it, after the row was read."""
    unchanged = Backup.objects.filter(pk=backup.pk).on_storage().exists()
    return unchanged and handle.stat(name) is None


def known_names(storage: Storage) -> set[str]:
    """The relative names of every artifact that the catalogue lists in the storage, in its place and in the trash.

    A row whose values make no name is left out: whatever it stood for is then unknown.
    """
    rows = Backup.objects.filter(storage=storage).exclude(state=BackupState.DELETED)
    names: set[str] = set()
    for backup in rows.only("folder", "suffix", "created_at", "uid").iterator():
        if (name := _name(backup)) is not None:
            names |= {name.relative, name.trash_relative}
    return names
