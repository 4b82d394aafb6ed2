"""The promises of retention, held against an independent model while anything happens in any order."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.proof.machine import KeepwellMachine
from tests.proof.wire import Wire
from tests.proof.world import World

STEPS = "steps of the proof"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    if connection.vendor != "sqlite":
        pytest.skip("copies of the database are made as SQLite makes them")
    made = World(tmp_path)
    monkeypatch.setattr(timezone, "now", made.clock)
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    monkeypatch.setattr(secrets, "token_hex", lambda size=16: made.chance.randbytes(size).hex())
    return made


def run(world: World, monkeypatch: pytest.MonkeyPatch, *, runs: int, steps: int, derandomize: bool) -> None:
    machines: list[KeepwellMachine] = []
    wire = Wire(lambda path: machines[-1].unmount_at(path))
    wire.install(monkeypatch)

    class Machine(KeepwellMachine):
        def __init__(self) -> None:
            super().__init__()
            machines[:] = [self]

    Machine.world, Machine.wire = world, wire
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            derandomize=derandomize,
            deadline=None,
            database=None,
            # Shrinking takes minutes here, and a failing history of some dozens of steps is read in one.
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_whatever_happens_no_good_copy_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    runs, steps = (200, 50) if os.environ.get("CI") else (40, 30)
    run(world, monkeypatch, runs=runs, steps=steps, derandomize=True)
    record_property(STEPS, world.steps)


@pytest.mark.slow
def test_whatever_happens_for_longer_no_good_copy_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    run(world, monkeypatch, runs=200, steps=50, derandomize=False)
    record_property(STEPS, world.steps)
