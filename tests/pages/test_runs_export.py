from __future__ import annotations

import csv
import io
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from backups.models import BackupRun
from scheduling.exports import COLUMNS, csv_lines
from tests.factories import BackupJobFactory, BackupRunFactory, MaintenanceRunFactory

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def export(client: Client, query: str) -> Any:
    response = client.get(f"/runs/export/?{query}")
    assert response.status_code == 200
    text = b"".join(response.streaming_content).decode()  # type: ignore[attr-defined]
    if "format=json" in query:
        return json.loads(text)
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


@pytest.mark.parametrize("form", ["csv", "json"])
def test_an_export_has_every_run_that_fits_and_not_the_page_alone(form: str, admin_client: Client) -> None:
    job = BackupJobFactory()
    for number in range(70):
        BackupRunFactory(failed=True, job=job, queued_at=NOON + timedelta(minutes=number))
    BackupRunFactory(succeeded=True)
    MaintenanceRunFactory(failed=True, queued_at=NOON - timedelta(days=1))
    rows = export(admin_client, f"format={form}&status=failed")
    assert len(rows) == 71
    assert list(rows[0]) == list(COLUMNS)
    assert [row["kind"] for row in rows[-2:]] == ["backup", "maintenance"]
    times = [row["queued_at"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert times[-1] == "2026-11-23T12:00:00Z"


def test_the_file_is_named_by_the_day(admin_client: Client) -> None:
    response = admin_client.get("/runs/export/?format=json")
    assert response["Content-Disposition"] == f'attachment; filename="keepwell-runs-{timezone.localdate()}.json"'
    assert response["Content-Type"] == "application/json; charset=utf-8"


def test_no_run_is_an_empty_array_and_a_head_without_rows(admin_client: Client) -> None:
    assert export(admin_client, "format=json") == []
    assert export(admin_client, "format=csv") == []


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", " =1", "\n=1", "＝1"], ids=ascii)
def test_no_cell_is_a_formula(text: str, admin_client: Client) -> None:
    BackupRunFactory(failed=True, message=text)
    assert export(admin_client, "format=csv")[0]["message"] == f"'{text}"
    assert export(admin_client, "format=json")[0]["message"] == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
def test_any_text_comes_back_from_a_csv_whole(text: str) -> None:
    run = BackupRun(pk=1, job_name="x", message=text, queued_at=NOON)
    lines = "".join(csv_lines([run])).removeprefix("\ufeff")
    back = next(csv.DictReader(io.StringIO(lines, newline="")))["message"]
    assert back in (text, f"'{text}")
    assert not back.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))


def test_an_export_has_no_runs_of_a_kind_that_one_may_not_look_at(client: Client) -> None:
    BackupRunFactory(succeeded=True)
    cleanup = MaintenanceRunFactory(succeeded=True)
    user = User.objects.create_user("ann")
    codenames = ("view_schedulerstate", "view_maintenancerun")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    assert [row["id"] for row in export(client, "format=json")] == [cleanup.pk]


def test_memory_does_not_grow_with_the_number_of_runs(admin_client: Client) -> None:
    job = BackupJobFactory()
    message = "m" * 2000
    BackupRun.objects.bulk_create(
        [
            BackupRun(
                job=job,
                job_name="x",
                status="skipped",
                message=message,
                queued_at=NOON + timedelta(seconds=n),
                finished_at=NOON,
            )
            for n in range(12_000)
        ],
        batch_size=500,
    )
    response = admin_client.get("/runs/export/?format=csv")
    size = peak = 0
    tracemalloc.start()
    for part in response.streaming_content:  # type: ignore[attr-defined]
        size += len(part)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 24_000_000
    assert peak < 12_000_000


def test_a_filter_that_makes_no_sense_gives_no_file_but_the_words_of_the_page(admin_client: Client) -> None:
    BackupRunFactory(failed=True)
    answer = admin_client.get("/runs/export/?status=faild&from=2027-13-01&job=nobody&format=json")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    said = answer.content.decode()
    assert "There is no status “faild”" in said
    assert "“2027-13-01” is not a date" in said
    assert "No job has a name with “nobody” in it." in said


def test_a_name_that_fits_several_jobs_gives_no_file_but_their_names(admin_client: Client) -> None:
    for name in ("photos-a", "photos-b"):
        BackupJobFactory(name=name)
    answer = admin_client.get("/runs/export/?job=photos")
    assert answer.status_code == 400
    assert "- photos-a\n- photos-b\n" in answer.content.decode()
