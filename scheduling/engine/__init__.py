"""How workers hear of a queued run, beside looking at the ledger: a notification, or a message of Procrastinate."""

from __future__ import annotations
