from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from scheduling import holders
from scheduling.choices import ProcessRole
from scheduling.hosts import (
    SecondHostError,
    host_beat,
    host_gone,
    host_leaving,
    host_seen,
    hosts_refuse_second,
    hosts_sweep,
)
from scheduling.models import Host
from tests.factories import HostFactory

pytestmark = pytest.mark.django_db


def beat(role: ProcessRole = ProcessRole.WORKER) -> None:
    host_beat(queues=["nas1"], started_at=timezone.now(), role=role)


def test_a_process_has_one_row_however_often_it_beats() -> None:
    beat()
    beat(ProcessRole.STANDBY)
    row = Host.objects.get()
    assert (row.host, row.role, row.queues) == (holders.host_id(), "standby", ["nas1"])


def test_processes_of_one_data_folder_leave_each_other_s_queues_alone() -> None:
    HostFactory(host=holders.host_id(), queues=["default"])
    beat()
    assert sorted(Host.objects.values_list("queues", flat=True)) == [["default"], ["nas1"]]


def test_a_sign_of_life_changes_nothing_else_that_the_process_said_of_itself() -> None:
    beat()
    Host.objects.update(seen_at=timezone.now() - timedelta(hours=1))
    host_seen()
    row = Host.objects.get()
    assert row.queues == ["nas1"]
    assert timezone.now() - row.seen_at < timedelta(minutes=1)


def test_a_process_that_only_runs_a_command_is_there_while_it_lasts() -> None:
    with host_leaving():
        host_seen()
        assert [(row.role, row.queues) for row in Host.objects.all()] == [("command", [])]
    assert not Host.objects.exists()


def test_leaving_takes_away_the_own_row_only() -> None:
    other = HostFactory(host=holders.host_id())
    beat()
    host_gone()
    assert list(Host.objects.all()) == [other]


def test_processes_are_forgotten_after_a_week_and_commands_after_an_hour() -> None:
    now = timezone.now()
    kept = [
        HostFactory(seen_at=now - timedelta(days=6)),
        HostFactory(role="command", seen_at=now - timedelta(minutes=50)),
    ]
    HostFactory(seen_at=now - timedelta(days=8))
    HostFactory(role="command", seen_at=now - timedelta(minutes=70))
    assert hosts_sweep() == 2
    assert set(Host.objects.all()) == set(kept)


def test_another_data_folder_on_the_same_sqlite_file_is_refused_with_the_way_out() -> None:
    beat()
    hosts_refuse_second()
    HostFactory(hostname="attic", host="b" * 16, seen_at=timezone.now() - timedelta(seconds=30))
    if connection.vendor != "sqlite":
        hosts_refuse_second()
        return
    with pytest.raises(SecondHostError, match=r"attic .*PostgreSQL.*docs/scaling\.md.*try again in 60 s"):
        hosts_refuse_second()


def test_a_data_folder_that_has_been_silent_for_long_keeps_nobody_out() -> None:
    HostFactory(host="b" * 16, seen_at=timezone.now() - timedelta(seconds=holders.SILENT_SECONDS + 1))
    hosts_refuse_second()
