"""Says at the end how many steps were taken: a proof that took none proves nothing."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.line(f"{value:,} {name}: {report.nodeid.rpartition('::')[2]}")
