"""What stands behind `make demo`: two months of real backups, cleanups and a few mishaps, in a minute."""

from __future__ import annotations
