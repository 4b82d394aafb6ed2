"""A Keepwell of a benchmark's own: a temporary data folder, an empty database in it, and Django set up for both."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def scratch_project(work: Path | None = None, *, database: str = "") -> Iterator[Path]:
    """Yield the data folder, made below `work` and removed at the end; once in a process, since settings stay read.

    `database` is the address of an empty database to use instead of SQLite's.

    What the environment says about another installation (its database above all) is not looked at.
    """
    for name in [name for name in os.environ if name.startswith(("KEEPWELL_", "DATABASE_URL"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="keepwell-bench-", dir=work) as data:
        os.environ |= {"KEEPWELL_DATA": data, "DJANGO_SETTINGS_MODULE": "config.settings"}
        if database:
            os.environ["DATABASE_URL"] = database
        sys.path.insert(0, str(ROOT))
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        call_command("migrate", verbosity=0)
        try:
            yield Path(data)
        finally:
            connections.close_all()


def load() -> str:
    """What else the machine does: the load of the last minute and the number of processors."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
