from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router, Schema

from accounts.permissions import requires_api
from scheduling.api import PROBLEMS
from scheduling.host_overview import HostOverview, HostState, host_overview
from scheduling.registry import all_kinds

hosts_router = Router(tags=["Hosts"])


class HostRun(Schema):
    """A run that a host is at."""

    kind: str
    id: int
    job: str
    started_at: datetime | None


class HostOut(Schema):
    """A host: a data folder whose processes work on this database. `role` is scheduler, standby, worker or command."""

    id: str
    name: str
    alive: bool
    seen_at: datetime
    started_at: datetime
    role: str
    versions: list[str]
    queues: list[str]
    running: list[HostRun]
    waiting: int


class QueueOut(Schema):
    """A queue whose runs wait although they could start: no live worker works it. `command` starts one."""

    name: str
    waiting: int
    since: datetime
    command: str


class HostsOut(Schema):
    hosts: list[HostOut]
    unserved_queues: list[QueueOut]


@hosts_router.get("/hosts", response={200: HostsOut, **PROBLEMS}, summary="The hosts at work, and queues without one")
@requires_api("scheduling.view_host")
def list_hosts(request: HttpRequest) -> Any:
    """Hosts seen in the last two days, live ones first, with what runs on each."""
    user: Any = request.user
    kinds = [kind for kind in all_kinds() if user.has_perm(kind.view_permission)]
    return _out(host_overview(kinds=kinds, now=timezone.now()))


def _out(overview: HostOverview) -> HostsOut:
    return HostsOut(
        hosts=[_host(host) for host in overview.hosts],
        unserved_queues=[
            QueueOut(name=queue.name, waiting=queue.waiting, since=queue.since, command=queue.command)
            for queue in overview.unserved
        ],
    )


def _host(host: HostState) -> HostOut:
    return HostOut(
        id=host.id,
        name=host.name,
        alive=host.is_alive,
        seen_at=host.seen_at,
        started_at=host.started_at,
        role=str(host.role),
        versions=list(host.versions),
        queues=list(host.queues),
        running=[
            HostRun(kind=run.kind, id=run.pk, job=run.job_name, started_at=run.started_at) for run in host.running
        ],
        waiting=host.waiting,
    )
