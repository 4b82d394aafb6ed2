"""The run ledger, held against an independent model while anything happens in any order."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from scheduling import holders
from tests.proof.ledger_machine import LedgerMachine

pytestmark = pytest.mark.django_db(transaction=True)


def run(monkeypatch: pytest.MonkeyPatch, *, runs: int, steps: int, derandomize: bool) -> Counter[str]:
    if connection.vendor != "sqlite":
        pytest.skip("the clock is the test's own, and PostgreSQL has another")

    class Machine(LedgerMachine):
        clock, steps = list(LedgerMachine.clock), Counter[str]()

    monkeypatch.setattr(timezone, "now", lambda: Machine.clock[0])
    monkeypatch.setattr(holders, "other_hosts_possible", lambda: True)
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            derandomize=derandomize,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return Machine.steps


def test_whatever_happens_the_ledger_is_true(
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    runs, steps = (300, 60) if os.environ.get("CI") else (40, 40)
    taken = run(monkeypatch, runs=runs, steps=steps, derandomize=True)
    record_property("steps of the ledger", taken["steps"])
    assert taken["schedule"] > runs


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(transactional_db: None) -> Iterator[None]:
    """Nobody pulls the plug here, and most of a step's time would be spent waiting."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous=OFF")
    yield
    connection.close()


@pytest.mark.slow
def test_whatever_happens_for_longer_the_ledger_is_true(
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    taken = run(monkeypatch, runs=1500, steps=80, derandomize=False)
    record_property("steps of the ledger", taken["steps"])
