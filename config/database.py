"""Database settings for Django from one address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

# Measured with four writing processes: without any one of the first three "database is locked" comes sooner or later,
# with them never. FULL, because what a row says must be on disk before bytes move on its word: NORMAL loses the last
# commits in a power cut.
SQLITE_OPTIONS = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
}

# A network that swallows packets must not hold a process for the quarter of an hour that the kernel would wait.
POSTGRESQL_OPTIONS = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}

EMBEDDED = "embedded"
PROCRASTINATE = "procrastinate"
ENGINES = (EMBEDDED, PROCRASTINATE)


def database_settings(url: str, sqlite_path: Path) -> dict[str, Any]:
    """Settings for SQLite at `sqlite_path` when the address is empty, else for the SQLite or PostgreSQL it names.

    Raises ImproperlyConfigured for any other address, without repeating it: it holds a password.
    """
    if not url:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(sqlite_path), "OPTIONS": dict(SQLITE_OPTIONS)}
    scheme = url.partition("://")[0]
    if scheme not in ("sqlite", "postgres", "postgresql"):
        raise ImproperlyConfigured(
            f"DATABASE_URL starts with {scheme if '://' in url else 'no scheme'}. "
            "Use postgres://user:password@host:5432/name or sqlite:////absolute/path."
        )
    try:
        parsed: dict[str, Any] = dict(dj_database_url.parse(url))
    except ValueError:
        raise ImproperlyConfigured(
            "DATABASE_URL cannot be read. Use postgres://user:password@host:5432/name, "
            "with special characters of the password percent-encoded."
        ) from None
    if scheme == "sqlite":
        return {**parsed, "OPTIONS": {**SQLITE_OPTIONS, **parsed.get("OPTIONS", {})}}
    options = {**POSTGRESQL_OPTIONS, **parsed.get("OPTIONS", {})}
    return {**parsed, "CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True, "OPTIONS": options}


def is_postgresql(database: dict[str, Any]) -> bool:
    return str(database["ENGINE"]).endswith("postgresql")


def engine(name: str, database: dict[str, Any]) -> str:
    """The engine, once it is sure that the database can carry it; raises ImproperlyConfigured else."""
    if name == PROCRASTINATE and not is_postgresql(database):
        raise ImproperlyConfigured(
            "KEEPWELL_ENGINE is procrastinate, which keeps its messages in PostgreSQL, and the database is SQLite. "
            "Set DATABASE_URL to a PostgreSQL database, or leave KEEPWELL_ENGINE out: “embedded” needs nothing more."
        )
    return name
