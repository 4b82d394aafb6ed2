"""The one clock that all hosts share: the database's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import Value
from django.db.models.functions import Now
from django.utils import timezone


def database_now(*, ahead: float = 0.0) -> Any:
    """An expression for the present by the database's clock, `ahead` seconds from now.

    On SQLite it is this machine's: no other has a part in it.
    """
    if connection.vendor == "sqlite":
        return Value(timezone.now() + timedelta(seconds=ahead))
    return Now() + timedelta(seconds=ahead) if ahead else Now()
