from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backups.storage import ArtifactName, LocalStorage, OpenStorage

CREATED = datetime(2026, 11, 24, 2, 30, tzinfo=UTC)

ROOT = Path(__file__).parents[2]
PROGRAM = """
import hashlib, sys
from datetime import UTC, datetime
from pathlib import Path
from backups.storage import ArtifactName, LocalStorage, Sidecar, moving
storage = LocalStorage(Path(sys.argv[1]), "storage-1")
ways = (getattr(moving, "move_by_" + sys.argv[2]),)
print("ready", flush=True)
with storage.open(publishing=ways) as opened:
    for number in range(100_000):
        name = ArtifactName.parse(f"etc/2026-11-24T023000Z-{number:016x}.tar.zst")
        content = b"%d" % number * 10_000
        with opened.stage(name, 7, 1) as staged:
            staged.file.write(content)
            staged.publish(
                Sidecar(
                    name=name, target="etc", kind="files", job="nightly", run="7", size=len(content),
                    sha256=hashlib.sha256(content).hexdigest(),
                ).to_mapping()
            )
"""


def half_states(opened: OpenStorage, place: Path) -> list[str]:
    """Everything that is neither an artifact equal to its sidecar, nor the hidden start of one."""
    wrong = []
    for path in (place / "etc").iterdir():
        if path.name.endswith((".part", ".meta.json")):
            continue
        name = ArtifactName.parse(f"etc/{path.name}")
        content = path.read_bytes()
        if not content:
            continue  # a reservation: cleared up below
        sidecar = opened.read_sidecar(name)
        if sidecar.size != len(content) or content != b"%d" % int(name.uid, 16) * 10_000:
            wrong.append(path.name)
    return wrong


@pytest.mark.parametrize("way", ["link", "rename", "reservation"])
def test_a_killed_publisher_never_leaves_an_artifact_without_its_sidecar(way: str, tmp_path: Path) -> None:
    chance = random.Random(20261124)
    for attempt in range(12):
        place = tmp_path / f"{way}-{attempt}"
        storage = LocalStorage.initialise(place, "storage-1", created=CREATED)
        child = subprocess.Popen([sys.executable, "-c", PROGRAM, place, way], cwd=ROOT, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(chance.uniform(0.005, 0.08))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if not (place / "etc").exists():
            continue
        with storage.open() as opened:
            assert half_states(opened, place) == []
            published = {relative for relative, size in opened.list_artifacts() if size}
            hidden = [path.name for path in (place / "etc").iterdir() if path.name.endswith(".part")]
            assert len(hidden) <= 2

            for number in range(len(published) + 2):
                opened.discard_unpublished(ArtifactName.parse(f"etc/2026-11-24T023000Z-{number:016x}.tar.zst"), 7)
            assert {relative for relative, _ in opened.list_artifacts()} == published
            left = {f"etc/{path.name}" for path in (place / "etc").iterdir()}
            assert left == published | {f"{relative}.meta.json" for relative in published}
