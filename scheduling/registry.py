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
class Taken:
    """Something that a queued run needs and another run is at, such as “target etc”."""

    what: str
    run: Run


def _nothing_taken(_run: Any) -> list[Taken]:
    return []


@dataclass(frozen=True, kw_only=True)
class SharedSchedule:
    """A schedule in force that `count` jobs of a kind have: `first` is one of them, called `name`.

    `storage` is the storage that all of them work on, None for every storage; `copies` says that they make copies,
    `deletes` that they decide which copies go.
    """

    kind: str
    schedule: str
    zone: str
    count: int
    first: int
    name: str
    storage: int | None
    copies: bool = False
    deletes: bool = False


def _no_schedules(_besides: int | None, _storage: int | None, _limit: int) -> list[SharedSchedule]:
    return []


def _never(_job_type: str) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class RunKind:
    """What one app brings for its kind of run.

    `execute` records a run (see `scheduling.dispatch`); `perform` does the work of a claimed run; `claim` and
    `release` run inside the transactions that start and end it, `claim` raising IntegrityError when something it
    needs is taken; `recover` mends what dead processes left half done, and may be called at any time; `ready`
    narrows a queryset of queued runs to those for which nothing they need is taken; `items` yields every job's
    schedule; `revision` changes whenever a job row does; `may_retry` says whether a failed run of
    this sort may be tried again by itself. `figures_template` renders the kind's own part of a run's page;
    `view_permission` lets a user see these runs, `run_permission` start, repeat and cancel them; `taken` says what a
    queued run needs that runs of other jobs are at; `shared_schedules` gives up to so many schedules in force, without
    the job and those of the storage first that it is called with; `is_cleanup` says whether a type of job decides which
    copies go.
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
    taken: Callable[[Any], Iterable[Taken]] = _nothing_taken
    shared_schedules: Callable[[int | None, int | None, int], Iterable[SharedSchedule]] = _no_schedules
    is_cleanup: Callable[[str], bool] = _never

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
