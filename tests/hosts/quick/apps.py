"""An app that replaces the work of every kind of run: what is claimed, held and given back stays real."""

from __future__ import annotations

import time
from dataclasses import replace

from django.apps import AppConfig


class QuickConfig(AppConfig):
    name = "tests.hosts.quick"
    label = "quick"

    def ready(self) -> None:
        from django.db import connection, transaction

        from scheduling.context import RunContext, RunResult
        from scheduling.ledger import run_confirm
        from scheduling.models import Run
        from scheduling.registry import all_kinds, get_kind, register_kind

        def leave_trace(run: Run, what: str) -> None:
            """Under the run's fence, as a copy is entered into the catalogue."""
            with transaction.atomic(), connection.cursor() as cursor:
                run_confirm(kind=get_kind(run.kind), run=run)
                cursor.execute(
                    "INSERT INTO proof_trace (kind, run_id, fence, holder, what) VALUES (%s, %s, %s, %s, %s)",
                    [run.kind, run.pk, run.fence, run.holder, what],
                )

        def perform(run: Run, context: RunContext) -> RunResult:
            leave_trace(run, "begin")
            context.info("at work")
            until = time.monotonic() + float(run.params.get("seconds", 0))
            while time.monotonic() < until:
                context.checkpoint()
                time.sleep(0.02)
            context.checkpoint()
            leave_trace(run, "end")
            return RunResult(message="Done.")

        for kind in all_kinds():
            register_kind(replace(kind, perform=perform))
