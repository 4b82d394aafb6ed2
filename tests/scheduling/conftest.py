from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from scheduling.context import RunContext, RunResult
from scheduling.registry import get_kind, register_kind

Perform = Callable[[Any, RunContext], RunResult]


@pytest.fixture
def kind_changed() -> Iterator[Callable[..., None]]:
    """Let one kind of run differ in some respect for one test: `kind_changed("backup", perform=...)`."""
    before = {name: get_kind(name) for name in ("backup", "maintenance")}
    yield lambda name, **differences: register_kind(replace(before[name], **differences))
    for kind in before.values():
        register_kind(kind)
