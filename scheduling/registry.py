"""The kinds of run: each app registers its own when it is ready, so that `scheduling` need not know them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from scheduling.context import RunContext, RunResult
    from scheduling.items import ScheduledItem
    from scheduling.models import LogLine, Run


class Execute(Protocol):
    """Records a run of a job and, when `inline`, runs it to its end in this process."""

    def __call__(self, job_id: int, **request: Any) -> Run | None: ...


@dataclass(frozen=True, kw_only=True)
class RunKind:
    """What one app brings for its kind of run.

    `execute` records a run (see `scheduling.dispatch`); `perform` does the work of a claimed run; `claim` and
    `release` run inside the transactions that start and end it, `claim` raising IntegrityError when something it
    needs is taken; `recover` mends what dead processes left half done, and may be called at any time; `ready`
    narrows a queryset of queued runs to those for which nothing they need is taken; `items` yields every job's
    schedule; `revision` changes whenever a job row does; `may_retry` says whether a failed run of
    this sort may be tried again by itself. `figures_template` renders the kind's own part of a run's page;
    `view_permission` lets a user see these runs, `run_permission` start, repeat and cancel them.
    """

    kind: str
    label: str
    run_model: type[Run]
    log_model: type[LogLine]
    execute: Execute
    perform: Callable[[Any, RunContext], RunResult]
    claim: Callable[[Any], None]
    release: Callable[[Any], None]
    recover: Callable[[], None]
    ready: Callable[[Any], Any]
    items: Callable[[], Iterable[ScheduledItem]]
    revision: Callable[[], Hashable]
    may_retry: Callable[[Any], bool]
    figures_template: str
    view_permission: str
    run_permission: str

    @property
    def job_model(self) -> Any:
        """The table of the jobs that these are runs of."""
        runs: Any = self.run_model
        return runs._meta.get_field("job").related_model


_KINDS: dict[str, RunKind] = {}


def register_kind(kind: RunKind) -> None:
    _KINDS[kind.kind] = kind


def get_kind(name: str) -> RunKind:
    """The kind called `name`. Raises LookupError, naming the kinds there are."""
    try:
        return _KINDS[name]
    except KeyError:
        raise LookupError(f"“{name}” is not a kind of job. There are: {', '.join(sorted(_KINDS)) or 'none'}.") from None


def all_kinds() -> list[RunKind]:
    return [_KINDS[name] for name in sorted(_KINDS)]
