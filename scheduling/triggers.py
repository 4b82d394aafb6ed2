"""The state machine of runs as the database enforces it: an UPDATE of `status` that is no transition fails."""

from __future__ import annotations

from typing import Any

from scheduling.choices import TRANSITIONS

REFUSE = "SELECT RAISE(ABORT, 'a run cannot go there from its state')"


def install(schema_editor: Any, table: str) -> None:
    """Refuse illegal transitions in `table`; for use in a migration."""
    remove(schema_editor, table)
    legal = " OR ".join(
        f"(OLD.status = '{before.value}' AND NEW.status IN ({', '.join(repr(str(after.value)) for after in afters)}))"
        for before, afters in TRANSITIONS.items()
    )
    illegal = f"NEW.status <> OLD.status AND NOT ({legal})"
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            f"""
            CREATE FUNCTION {table}_transition() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE EXCEPTION 'a run cannot go from % to %', OLD.status, NEW.status
                    USING ERRCODE = 'integrity_constraint_violation';
            END $$
            """,
            params=None,
        )
        schema_editor.execute(
            f"CREATE TRIGGER {table}_transition BEFORE UPDATE OF status ON {table} "
            f"FOR EACH ROW WHEN ({illegal}) EXECUTE FUNCTION {table}_transition()"
        )
    else:
        schema_editor.execute(
            f"CREATE TRIGGER {table}_transition BEFORE UPDATE OF status ON {table} WHEN {illegal} BEGIN {REFUSE}; END"
        )


def remove(schema_editor: Any, table: str) -> None:
    """Undo `install`."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_transition ON {table}")
        schema_editor.execute(f"DROP FUNCTION IF EXISTS {table}_transition()")
    else:
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_transition")
