from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from backups.storage import ArtifactName, LocalStorage, OpenStorage, Sidecar

CREATED = datetime(2026, 11, 24, 2, 30, tzinfo=UTC)
UID = "0123456789abcdef"
STORAGE_UID = "storage-1"


@pytest.fixture
def name() -> ArtifactName:
    return ArtifactName(folder="etc", created=CREATED, uid=UID, suffix=".tar.zst")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def storage(place: Path) -> LocalStorage:
    return LocalStorage.initialise(place, STORAGE_UID, created=CREATED, name="nas")


@pytest.fixture
def opened(storage: LocalStorage) -> Iterator[OpenStorage]:
    with storage.open() as handle:
        yield handle


@pytest.fixture
def describe() -> Callable[[ArtifactName, bytes], Sidecar]:
    def make(name: ArtifactName, content: bytes) -> Sidecar:
        return Sidecar(
            name=name,
            target="etc",
            kind="files",
            job="nightly",
            run="7",
            size=len(content),
            sha256=sha256(content).hexdigest(),
            summary={"files": 3},
        )

    return make


@pytest.fixture
def publish(describe: Callable[[ArtifactName, bytes], Sidecar]) -> Callable[..., None]:
    def run(opened: OpenStorage, name: ArtifactName, content: bytes = b"content") -> None:
        with opened.stage(name, 7, 1) as staged:
            staged.file.write(content)
            staged.publish(describe(name, content).to_mapping())

    return run
