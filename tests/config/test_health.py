from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError, connection


@pytest.mark.django_db
def test_health_answers_anybody_while_the_database_does(client: Any) -> None:
    answer = client.get("/health/")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.django_db
def test_health_is_503_without_detail_when_the_database_does_not_answer(client: Any, caplog: Any) -> None:
    # A database that is away cannot be had within a test's connection, so the driver's error is put in its place.
    with patch.object(connection, "cursor", side_effect=OperationalError("no route to db.internal")):
        answer = client.get("/health/")
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
    assert "db.internal" in caplog.text


@pytest.mark.django_db
def test_health_can_only_be_read(client: Any) -> None:
    assert client.post("/health/").status_code == 405
