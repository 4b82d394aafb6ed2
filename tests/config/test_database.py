from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from config.database import database_settings


def test_without_an_address_the_database_is_a_file_in_the_data_folder() -> None:
    found = database_settings("", Path("/data/keepwell.sqlite3"))
    assert found["NAME"] == "/data/keepwell.sqlite3"
    assert found["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_a_sqlite_address_gets_the_same_options() -> None:
    found = database_settings("sqlite:////elsewhere/k.sqlite3", Path("/unused"))
    assert found["NAME"] == "/elsewhere/k.sqlite3"
    assert found["OPTIONS"]["timeout"] == 20


def test_a_postgresql_address_gets_lasting_and_checked_connections() -> None:
    found = database_settings("postgres://keep:p%40ss@db:5433/well", Path("/unused"))
    assert (found["HOST"], found["PORT"], found["PASSWORD"], found["NAME"]) == ("db", 5433, "p@ss", "well")
    assert found["CONN_MAX_AGE"] > 0
    assert found["CONN_HEALTH_CHECKS"] is True


@pytest.mark.parametrize("url", ["mysql://keep:s3cret@db/well", "keep:s3cret@db", "postgres://keep:s3cret@db:port/x"])
def test_another_address_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL") as refusal:
        database_settings(url, Path("/unused"))
    assert "s3cret" not in str(refusal.value)


@pytest.mark.django_db
def test_sqlite_runs_with_a_write_ahead_log_and_foreign_keys() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("about SQLite")
    with connection.cursor() as cursor:
        values = [
            cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert values == ["wal", 2, 1]
