"""The hosts at work, what each does, and which queues nobody works: for the page, the dashboard and the API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Min, Q

from scheduling.choices import ProcessRole
from scheduling.engine.delivery import DEFAULT_QUEUE
from scheduling.heartbeat import ALIVE_FOR
from scheduling.models import Host, Run, SchedulerState
from scheduling.registry import RunKind, all_kinds

# A host that has been silent for longer is not shown any more.
SHOWN = timedelta(days=2)
MOST_PROCESSES = 500
MOST_RUNS = 200
# A worker that is started again must not be missed meanwhile.
PATIENCE = timedelta(seconds=30)
_RANK = (ProcessRole.SCHEDULER, ProcessRole.STANDBY, ProcessRole.WORKER, ProcessRole.COMMAND)


@dataclass(frozen=True, kw_only=True)
class HostState:
    """A data folder and its processes: `role` is the highest of those alive, `queues` what they work together."""

    id: str
    name: str
    is_alive: bool
    seen_at: datetime
    started_at: datetime
    role: ProcessRole
    processes: int
    versions: tuple[str, ...]
    queues: tuple[str, ...]
    running: tuple[Run, ...] = ()
    waiting: int = 0

    @property
    def is_other_version(self) -> bool:
        return any(version != settings.KEEPWELL_VERSION for version in self.versions)

    @property
    def version_words(self) -> str:
        return ", ".join(self.versions)

    @property
    def role_words(self) -> str:
        return str(self.role.label)


@dataclass(frozen=True, kw_only=True)
class UnservedQueue:
    """A queue whose runs could start and that no live worker works."""

    name: str
    waiting: int
    since: datetime

    @property
    def command(self) -> str:
        """What to run on the host that should work it."""
        return f"python manage.py run_worker --queue {self.name}"


@dataclass(frozen=True, kw_only=True)
class HostOverview:
    hosts: tuple[HostState, ...]
    unserved: tuple[UnservedQueue, ...]

    @property
    def silent(self) -> int:
        return sum(not host.is_alive for host in self.hosts)

    @property
    def is_busy(self) -> bool:
        """Whether what is said of the hosts is about to change."""
        return any(host.running or host.waiting for host in self.hosts if host.is_alive)

    @property
    def has_active_scheduler(self) -> bool:
        return any(host.is_alive and host.role == ProcessRole.SCHEDULER for host in self.hosts)


def host_overview(*, kinds: Sequence[RunKind], now: datetime) -> HostOverview:
    """Every host seen lately, live ones first; of their runs those of `kinds`. A fixed number of queries."""
    rows = list(Host.objects.filter(seen_at__gt=now - SHOWN).order_by("-seen_at", "-pk")[:MOST_PROCESSES])
    state = SchedulerState.objects.first()
    running = _running(kinds)
    waiting = _waiting(now)
    by_host: dict[str, list[Host]] = {}
    for row in rows:
        by_host.setdefault(row.host, []).append(row)
    hosts = [_host_state(processes, state, running, waiting, now) for processes in by_host.values()]
    hosts.sort(key=lambda host: (not host.is_alive, _RANK.index(host.role), host.name, host.id))
    return HostOverview(hosts=tuple(hosts), unserved=_unserved(rows, waiting, now))


def queues_unserved(now: datetime) -> tuple[UnservedQueue, ...]:
    """The queues with runs that could start and no live worker; one query, and one more if any wait."""
    waiting = _waiting(now)
    if not waiting:
        return ()
    return _unserved(list(Host.objects.filter(seen_at__gt=now - ALIVE_FOR)), waiting, now)


def _host_state(
    processes: list[Host],
    state: SchedulerState | None,
    running: dict[str, list[Run]],
    waiting: dict[str, UnservedQueue],
    now: datetime,
) -> HostState:
    alive = [process for process in processes if _is_alive(process, now)]
    newest, speaking = processes[0], alive or processes[:1]
    queues = tuple(sorted({str(queue) for process in speaking for queue in _queues(process)}))
    return HostState(
        id=newest.host,
        name=newest.hostname,
        is_alive=bool(alive),
        seen_at=newest.seen_at,
        started_at=min(process.started_at for process in speaking),
        role=min((_role(process, state) for process in speaking), key=_RANK.index),
        processes=len(alive),
        versions=tuple(sorted({process.version for process in speaking if process.version})),
        queues=queues,
        running=tuple(running.get(newest.host, ())),
        waiting=sum(waiting[queue].waiting for queue in queues if queue in waiting),
    )


def _role(process: Host, state: SchedulerState | None) -> ProcessRole:
    """What the process says it is; of those that say they are the active scheduler only one is."""
    try:
        role = ProcessRole(process.role)
    except ValueError:  # written by another version
        return ProcessRole.WORKER
    is_active = state is not None and (state.host, state.pid) == (process.host, process.pid)
    return ProcessRole.STANDBY if role == ProcessRole.SCHEDULER and not is_active else role


def _is_alive(process: Host, now: datetime) -> bool:
    return now - process.seen_at < ALIVE_FOR


def _queues(process: Host) -> list[Any]:
    return process.queues if isinstance(process.queues, list) else []


def _running(kinds: Sequence[RunKind]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for kind in kinds:
        model: Any = kind.run_model
        active = model.objects.active().defer("result_json", "params", "message").order_by("started_at", "pk")
        for run in active[:MOST_RUNS]:
            found.setdefault(run.host, []).append(run)
    return found


def _waiting(now: datetime) -> dict[str, UnservedQueue]:
    """The queued runs that nothing but a worker is missing for, by queue: their number and the oldest."""
    counts: Counter[str] = Counter()
    oldest: dict[str, datetime] = {}
    queries = []
    for kind in all_kinds():
        model: Any = kind.run_model
        startable = model.objects.queued().filter(Q(not_before=None) | Q(not_before__lte=now))
        queries.append(startable.order_by().values("queue").annotate(count=Count("pk"), since=Min("queued_at")))
    for row in queries[0].union(*queries[1:], all=True).order_by():
        name = row["queue"] or DEFAULT_QUEUE
        counts[name] += row["count"]
        oldest[name] = min(oldest.get(name, row["since"]), row["since"])
    return {name: UnservedQueue(name=name, waiting=count, since=oldest[name]) for name, count in counts.items()}


def _unserved(rows: list[Host], waiting: dict[str, UnservedQueue], now: datetime) -> tuple[UnservedQueue, ...]:
    served = {str(queue) for process in rows if _is_alive(process, now) for queue in _queues(process)}
    lacking = [queue for name, queue in waiting.items() if name not in served and now - queue.since > PATIENCE]
    return tuple(sorted(lacking, key=lambda queue: queue.name))
