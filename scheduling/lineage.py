"""What a run comes from and what came of it: the attempts before and after it, and the jobs that run after its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduling.models import Run
    from scheduling.registry import RunKind

# More attempts than this are not listed: the newest of them are what somebody looks for.
MOST = 50
MOST_FOLLOWERS = 20


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """`attempts` are this run, those it repeats and those that repeat it, oldest first; none when it stands alone.

    `cause` is the run after which this one was started, `followers` are those started (or skipped) after this one.
    """

    attempts: list[Run]
    cause: Run | None
    followers: list[Run]

    def __bool__(self) -> bool:
        return bool(self.attempts or self.cause or self.followers)


def run_lineage(run: Run, kinds: Iterable[RunKind]) -> Lineage:
    """The lineage of a run, with runs of `kinds` only: those that the reader may look at."""
    visible = {kind.kind: kind for kind in kinds}
    return Lineage(attempts=_attempts(run), cause=_cause(run, visible), followers=_followers(run, visible.values()))


def _attempts(run: Run) -> list[Run]:
    """Every run that is tied to this one by parents: its oldest forebear, and all that came of that one."""
    model: Any = type(run)
    if run.parent_id is None and not model.objects.filter(parent=run.pk).exists():  # type: ignore[attr-defined]
        return []
    table = connection.ops.quote_name(model._meta.db_table)
    # The depth ends the walk, should rows ever point at each other in a ring.
    statement = f"""
        WITH RECURSIVE up(id, parent_id, depth) AS (
            SELECT id, parent_id, 0 FROM {table} WHERE id = %s
            UNION ALL
            SELECT run.id, run.parent_id, up.depth + 1 FROM {table} run JOIN up ON run.id = up.parent_id
            WHERE up.depth < {MOST}
        ), down(id, depth) AS (
            SELECT id, 0 FROM (SELECT id FROM up ORDER BY depth DESC LIMIT 1) oldest
            UNION ALL
            SELECT run.id, down.depth + 1 FROM {table} run JOIN down ON run.parent_id = down.id
            WHERE down.depth < {MOST}
        )
        SELECT id FROM down ORDER BY id DESC LIMIT {MOST}
    """  # noqa: S608 - the table's own name and numbers
    with connection.cursor() as cursor:
        cursor.execute(statement, [run.pk])
        ids = [pk for (pk,) in cursor.fetchall()]
    return list(model.objects.filter(pk__in=ids).defer("result_json", "params").order_by("pk"))


def _cause(run: Run, visible: dict[str, RunKind]) -> Run | None:
    kind_name, _, pk = run.cause.partition(":")
    if kind_name not in visible or not pk.isdecimal():
        return None
    model: Any = visible[kind_name].run_model
    cause: Run | None = model.objects.filter(pk=int(pk)).first()
    return cause


def _followers(run: Run, kinds: Iterable[RunKind]) -> list[Run]:
    found: list[Run] = []
    for kind in kinds:
        model: Any = kind.run_model
        followers = model.objects.filter(cause=f"{run.kind}:{run.pk}").exclude(cause="")
        found += followers.defer("result_json", "params").order_by("pk")[:MOST_FOLLOWERS]
    return sorted(found, key=lambda follower: (follower.queued_at, follower.kind, follower.pk))
