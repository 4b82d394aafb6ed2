"""Back up three trees with Keepwell and with the shell's pipeline in turn, and print the ratios of the medians.

    python benchmarks/bench_backup.py [--small] [--rounds N] [--work FOLDER]

The baseline is `tar | zstd -3 -T0 -o out; sync out; sha256sum out`; it syncs its own file only, so that what else the
machine writes does not count against it. Both sides read warm files: the first round of each tree is not counted.
The ratio is the baseline's time over Keepwell's: 1.0 and more is as fast or faster.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MEMORY_LIMIT_MIB = 150

CHILD = """
import sys, threading, time
from datetime import UTC, datetime
from pathlib import Path
from backups.archive import write_archive
from backups.sources import SOURCES
from backups.storage import ArtifactName, LocalStorage, Sidecar, new_uid

begin = time.monotonic()
stop, log = threading.Event(), lambda level, text: None
files, place = SOURCES["files"], Path(sys.argv[2])
created = datetime.now(UTC).replace(microsecond=0)
storage = LocalStorage.initialise(place, "benchmark", created=created)
name = ArtifactName(folder="tree", created=created, uid=new_uid(), suffix=".tar.zst")
with storage.open() as opened, opened.stage(name, 1, 1) as staged:
    with files.open(files.clean({"paths": [sys.argv[1]]}), log=log, stop=stop, forbidden=[place]) as stream:
        written = write_archive(stream, staged.file, stop=stop)
    sidecar = Sidecar(
        name=name, target="tree", kind="files", job="bench", run="1", size=written.size, sha256=written.sha256,
        summary=stream.summary.to_mapping(),
    )
    staged.publish(sidecar.to_mapping())
taken = time.monotonic() - begin
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
print(taken, peak, written.stream_bytes)
"""


def make_small_files(folder: Path, count: int) -> None:
    words = (Path(os.__file__).read_bytes() * 2)[:60_000]
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        if number % 1000 == 0:
            place.mkdir(parents=True)
        start = number * 37 % 40_000
        (place / f"file-{number:06}.txt").write_bytes(b"%d\n" % number + words[start : start + number * 13 % 8000])


def make_large_file(folder: Path, mib: int) -> None:
    """Text of the standard library with a changing line in front of each piece, so that it compresses like text."""
    folder.mkdir()
    library = b"".join(path.read_bytes() for path in sorted(Path(os.__file__).parent.glob("*.py")))
    with (folder / "large.txt").open("wb") as file:
        while file.tell() < mib << 20:
            for start in range(0, len(library), 1 << 20):
                file.write(os.urandom(32_768) + library[start : start + (1 << 20)])
        file.truncate(mib << 20)


def baseline(tree: Path, out: Path) -> float:
    artifact = out / "baseline.tar.zst"
    begin = time.monotonic()
    tar = subprocess.Popen(
        ["tar", "-C", "/", "-cf", "-", str(tree).lstrip("/")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    subprocess.run(["zstd", "-q", "-f", "-3", "-T0", "-o", artifact], stdin=tar.stdout, check=True)
    assert tar.stdout is not None
    tar.stdout.close()
    tar.wait()
    subprocess.run(["sync", artifact], check=True)
    subprocess.run(["sha256sum", artifact], check=True, stdout=subprocess.DEVNULL)
    taken = time.monotonic() - begin
    artifact.unlink()
    return taken


def keepwell(tree: Path, out: Path) -> tuple[float, int, int]:
    """Give seconds (without the interpreter's start), peak memory in MiB, and bytes of the stream."""
    place = out / "storage"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tree), str(place)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    shutil.rmtree(place)
    seconds, memory, size = done.stdout.split()
    return float(seconds), int(memory), int(size)


def compare(label: str, tree: Path, out: Path, rounds: int) -> bool:
    ours, theirs, memory, size = [], [], 0, 0
    for number in range(rounds + 1):
        base = baseline(tree, out)
        seconds, peak, size = keepwell(tree, out)
        memory = max(memory, peak)
        if number:
            theirs.append(base)
            ours.append(seconds)
    mine, base = statistics.median(ours), statistics.median(theirs)
    speed = size / mine / 1e6
    print(
        f"{label:22} {size / 1e6:8.0f} MB  keepwell {mine:7.2f} s ({speed:4.0f} MB/s)  baseline {base:7.2f} s  "
        f"ratio {base / mine:5.2f}  peak {memory} MiB",
        flush=True,
    )
    return base >= mine and memory < MEMORY_LIMIT_MIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="10,000 files, 256 MiB and /usr/bin")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder for trees and artifacts (default: a temporary one)")
    options = parser.parse_args()
    if shutil.which("zstd") is None:
        print("The baseline needs zstd. Install the package zstd.")
        return 2
    files, mib, system = (10_000, 256, Path("/usr/bin")) if options.small else (100_000, 2048, Path("/usr"))
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        out = Path(work) / "out"
        out.mkdir()
        make_small_files(Path(work) / "small", files)
        make_large_file(Path(work) / "large", mib)
        results = [
            compare(f"{files:,} small files", Path(work) / "small", out, options.rounds),
            compare(f"one file of {mib} MiB", Path(work) / "large", out, options.rounds),
            compare(str(system), system, out, options.rounds),
        ]
    print("all within the promise" if all(results) else "NOT within the promise (ratio 1.0, peak under 150 MiB)")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
