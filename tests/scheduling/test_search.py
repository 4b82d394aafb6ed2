from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st

from backups.models import BackupRun, BackupRunLogLine, BackupRunText
from maintenance.models import MaintenanceRun, MaintenanceRunText
from scheduling import search_index
from scheduling.choices import RunStatus
from scheduling.context import RunResult
from scheduling.cursor import Cursor
from scheduling.ledger import run_cancel_queued, run_finish
from scheduling.models import Run
from scheduling.paging import every_run, run_page
from scheduling.registry import all_kinds, get_kind
from scheduling.run_filter import RunFilter
from scheduling.search import excerpt, words_of
from tests.factories import BackupJobFactory, BackupRunFactory, BackupRunTargetFactory, MaintenanceRunFactory

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
TABLES = {BackupRun: BackupRunText, MaintenanceRun: MaintenanceRunText}


def found(**asked: Any) -> list[Run]:
    return run_page(RunFilter(**asked).listings(all_kinds())).runs


def ended(factory: Any = BackupRunFactory, lines: tuple[str, ...] = (), level: str = "info", **values: Any) -> Any:
    """A run that ended as runs do: it ran, it wrote, it was closed."""
    targets = values.pop("targets", ())
    end = {"status": RunStatus.SUCCEEDED, "outcome": "ok", "message": "", "finished_at": timezone.now()}
    end |= {name: values.pop(name) for name in list(values) if name in end}
    run = factory(running=True, **values)
    for target in targets:
        BackupRunTargetFactory(run=run, target=target, active=False)
    log = get_kind(run.kind).log_model
    log.objects.bulk_create(  # type: ignore[attr-defined]
        log(run=run, seq=seq, at=NOON, level=level, text=text) for seq, text in enumerate(lines, 1)
    )
    type(run).objects.filter(pk=run.pk).update(**end)
    return run


# --- Words --------------------------------------------------------------------------------------------------------


@given(st.text(max_size=300))
@example('"nightly" AND OR NOT NEAR(a b) body:x * ^ -y')
@example("\0\ud800 \ue000sfailed 'x' \\ % _")
@example("١٢٣ ñandú 日本語 ﬁ ß İ e\u0301")
def test_a_search_text_becomes_words_without_any_character_that_means_something(text: str) -> None:
    words = words_of(text)
    assert len(words) <= 20
    for word in words:
        assert word and len(word) <= 60
        assert re.search(r"[\s\"'*:^()\\\0\ue000-]", word) is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    "text",
    [
        '"',
        "*",
        'a"b',
        "NOT",
        "AND AND",
        "body : x",
        "x*",
        "^x",
        "NEAR(x y, 2)",
        "-",
        "'",
        "\\",
        "%",
        "日本語",
        "ﬁ",
        "a" * 5000,
        "e\u0301",
        "\u0e01\u0e33",
        "१२",
    ],
    ids=ascii,
)
def test_no_search_text_is_an_error(text: str) -> None:
    ended(message="a plain message")
    found(text=text)


# --- What is found ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("factory", [BackupRunFactory, MaintenanceRunFactory], ids=["backup", "maintenance"])
@pytest.mark.parametrize(
    "text",
    [
        "nightly",
        "NIGHTLY",
        "permission",
        "denied, permission!",
        "/mnt/data/etc",
        "etc",
        "spoke",
        "12",
        "größe",
        "gro\u0308ße",
        "anna",
    ],
)
def test_a_run_is_found_by_words_of_its_name_its_message_and_its_log(factory: Any, text: str) -> None:
    run = ended(
        factory,
        ("tar: /mnt/data/etc: Cannot open: Permission denied", "12 files; Größe 3"),
        job_name="nightly copies",
        message="The disk spoke.",
        requested_by="anna",
    )
    ended(factory, ("all well",), job_name="weekly", message="Nothing.")
    assert found(text=text) == [run]


@pytest.mark.django_db
def test_all_the_words_must_be_there_and_a_part_of_a_word_is_none() -> None:
    both = ended(message="disk full")
    ended(message="disk fine")
    assert found(text="full disk") == [both]
    assert found(text="dis") == []


@pytest.mark.django_db
def test_a_running_run_is_found_by_what_it_has_written_so_far() -> None:
    run = BackupRunFactory(running=True, job_name="nightly")
    BackupRunLogLine.objects.create(run=run, seq=1, at=NOON, level="info", text="Reading /srv/photos")
    waiting = BackupRunFactory(job_name="photos weekly")
    BackupRunFactory(job_name="mail")
    assert set(found(text="photos")) == {run, waiting}


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["finish", "cancel", "insert", "bulk", "lost"])
def test_however_a_run_ends_it_can_be_found(end: str) -> None:
    kind = get_kind("backup")
    job = BackupJobFactory()
    if end == "insert":
        run = BackupRunFactory(job=job, status=RunStatus.SKIPPED, finished_at=NOON, message="paused for thunder")
    elif end == "bulk":
        BackupRun.objects.bulk_create(
            [BackupRun(job=job, job_name="x", status=RunStatus.SKIPPED, finished_at=NOON, message="thunder")]
        )
        run = BackupRun.objects.get()
    elif end == "cancel":
        run = BackupRunFactory(job=job)
        assert run_cancel_queued(kind=kind, run_id=run.pk, message="thunder")
    elif end == "finish":
        run = BackupRunFactory(job=job, running=True)
        assert run_finish(kind=kind, run=run, status=RunStatus.FAILED, result=RunResult(message="thunder"))
    else:
        run = BackupRunFactory(job=job, running=True)
        BackupRun.objects.filter(pk=run.pk).update(status=RunStatus.LOST, finished_at=NOON, message="thunder")
    assert found(text="thunder") == [run]


@pytest.mark.django_db
def test_every_filter_alone_and_with_every_other_leaves_what_a_scan_would() -> None:
    one, other = BackupJobFactory(), BackupJobFactory()
    targets = [one.targets.get(), other.targets.get()]
    states = [("succeeded", "ok"), ("succeeded", "warning"), ("failed", ""), ("cancelled", "")]
    for number in range(48):
        job = (one, other)[number % 2]
        status, outcome = states[number // 2 % 4]
        ended(
            job=job,
            status=status,
            outcome=outcome,
            trigger=("schedule", "manual", "after")[number % 3],
            host=("aa", "bb")[number // 4 % 2],
            queued_at=NOON + timedelta(hours=number),
            message="even moon" if number % 5 else "odd sun",
            targets=[targets[number % 2]],
        )
    ended(MaintenanceRunFactory, job_name="moon cleanup", trigger="manual", queued_at=NOON)
    BackupRunFactory(job=one, running=True, host="aa", trigger="manual", job_name="moon now", queued_at=NOON)
    tried: list[tuple[dict[str, Any], Any]] = [
        ({"kind": "backup"}, lambda run: run.kind == "backup"),
        ({"kind": "backup", "job": one.pk}, lambda run: run.kind == "backup" and run.job_id == one.pk),
        ({"target": targets[1].pk}, lambda run: run.kind == "backup" and run.job_id == other.pk),
        ({"host": "bb"}, lambda run: run.host == "bb"),
        ({"status": "failed"}, lambda run: run.status == "failed"),
        ({"status": "active"}, lambda run: run.is_open),
        ({"outcome": "warning"}, lambda run: run.outcome == "warning"),
        ({"trigger": "manual"}, lambda run: run.trigger == "manual"),
        ({"trigger": "api"}, lambda run: run.trigger == "api"),
        ({"since": NOON + timedelta(hours=9)}, lambda run: run.queued_at >= NOON + timedelta(hours=9)),
        ({"until": NOON + timedelta(hours=30)}, lambda run: run.queued_at < NOON + timedelta(hours=30)),
        ({"text": "moon"}, lambda run: "moon" in run.message + run.job_name),
        ({"text": "sun odd"}, lambda run: "sun" in run.message),
    ]
    runs = [*BackupRun.objects.all(), *MaintenanceRun.objects.all()]
    for asked, fits in tried:
        for more, also in tried:
            if any(name in more and more[name] != value for name, value in asked.items()):
                continue
            both = {**asked, **more}
            expected = {(run.kind, run.pk) for run in runs if fits(run) and also(run)}
            listings = RunFilter(**both).listings(all_kinds())
            here = [(run.kind, run.pk) for run in every_run(listings, size=7)]
            assert len(here) == len(set(here)), both
            assert set(here) == expected, both


@pytest.mark.django_db
def test_found_runs_are_paged_in_both_directions_even_when_times_are_equal() -> None:
    for number in range(14):
        at = NOON + timedelta(minutes=number // 5, microseconds=7)
        ended(queued_at=at, message="paged")
        ended(MaintenanceRunFactory, queued_at=at, message="paged")
        ended(queued_at=at, message="another")
    BackupRunFactory(running=True, queued_at=NOON + timedelta(minutes=1, microseconds=7), job_name="paged too")
    listings = RunFilter(text="paged").listings(all_kinds())
    pages = [run_page(listings, size=5)]
    while pages[-1].older:
        pages.append(run_page(listings, size=5, before=pages[-1].older))
    seen = [(run.kind, run.pk) for page in pages for run in page.runs]
    assert len(seen) == len(set(seen)) == 29
    assert seen == [(run.kind, run.pk) for run in every_run(listings, size=3)]
    back = pages[-1]
    for expected in reversed(pages[:-1]):
        back = run_page(listings, size=5, after=back.newer)
        assert back.runs == expected.runs
    assert back.newer == ""


@pytest.mark.django_db
@pytest.mark.parametrize("pk", [4095, 4096, 8191])
def test_no_run_is_lost_where_the_ids_of_a_moment_wrap_around(pk: int) -> None:
    for factory in (BackupRunFactory, MaintenanceRunFactory):
        ended(factory, pk=pk, queued_at=NOON, message="thunder")
    listings = RunFilter(text="thunder").listings(all_kinds())
    assert [(run.kind, run.pk) for run in every_run(listings, size=1)] == [("backup", pk), ("maintenance", pk)]
    last = run_page(listings, size=1, before=run_page(listings, size=1).older)
    assert run_page({"maintenance": listings["maintenance"]}, before=str(Cursor(at=NOON, kind="backup", pk=pk))).runs
    assert run_page({"backup": listings["backup"]}, size=1, after=last.newer).runs


@pytest.mark.django_db
@pytest.mark.parametrize("year", [1971, 2019, 2020, 2090, 2199, 9990])
def test_a_clock_that_is_far_off_keeps_no_run_from_ending(year: int) -> None:
    run = ended(queued_at=datetime(year, 1, 1, tzinfo=UTC), message="far off")
    assert found(text="off") == [run]


@pytest.mark.django_db
def test_a_long_log_is_indexed_by_its_problems_first_and_within_bounds() -> None:
    run = BackupRunFactory(running=True)
    lines = [
        BackupRunLogLine(run=run, seq=n, at=NOON, level="info", text=f"file{n} " + "x" * 1900) for n in range(1, 700)
    ]
    lines.append(BackupRunLogLine(run=run, seq=700, at=NOON, level="error", text="calamity at the end"))
    BackupRunLogLine.objects.bulk_create(lines)
    BackupRun.objects.update(status=RunStatus.FAILED, finished_at=NOON)
    assert found(text="calamity") == [run]
    assert found(text="file1") == [run]
    assert len(BackupRunText.objects.get().body) <= search_index.BODY_LENGTH


@pytest.mark.django_db
def test_text_that_imitates_a_facet_finds_nothing_it_should_not() -> None:
    liar = ended(message="\ue000sfailed \ue000t1 sfailed")
    assert liar not in found(status="failed", trigger="manual")
    assert found(text="\ue000") == []


@pytest.mark.django_db
def test_a_deleted_run_is_gone_from_the_index() -> None:
    ended(message="thunder").delete()
    assert BackupRunText.objects.count() == 0
    assert found(text="thunder") == []
    assert ended(message="thunder") in found(text="thunder")


def test_the_excerpt_is_the_line_of_the_log_in_which_a_word_stands() -> None:
    body = "denied\n\ndenied in the message\netc\nall well\ntar: Permission denied here"
    assert excerpt(body, ("denied",)) == "tar: Permission denied here"
    assert excerpt(body, ("absent",)) == ""
    long = excerpt("a\nb\nc\n" + "word " * 100 + "needle" + " word" * 100, ("needle",))
    assert long.startswith("…") and "needle" in long and len(long) <= 165


# --- The index itself ---------------------------------------------------------------------------------------------


def triggers() -> set[str]:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")
        else:
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.django_db
@pytest.mark.parametrize("model", TABLES, ids=lambda model: model.KIND)
def test_after_all_migrations_the_triggers_are_there(model: type[Run]) -> None:
    table = model._meta.db_table
    assert {f"{table}_transition", f"{table}_text_insert", f"{table}_text_update"} <= triggers()
    if connection.vendor == "sqlite":
        assert {f"{table}text_insert", f"{table}text_delete"} <= triggers()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("app", "before", "after"),
    [("backups", "0004_runs_engine", "0005_run_search"), ("maintenance", "0005_runs_engine", "0006_run_search")],
)
def test_the_migration_finds_the_runs_that_there_are_and_can_be_undone(app: str, before: str, after: str) -> None:
    factory = BackupRunFactory if app == "backups" else MaintenanceRunFactory
    try:
        call_command("migrate", app, before, verbosity=0)
        assert not {name for name in triggers() if name.startswith(app) and "_text_" in name}
        run = factory(succeeded=True, message="an old thunder")
        waiting = factory(job_name="thunder to come")
    finally:
        call_command("migrate", verbosity=0)
    assert (
        import_module(f"{app}.migrations.{after}").TABLES.texts
        == apps.get_model(app, f"{run._meta.model_name}text")._meta.db_table
    )
    assert set(found(text="thunder")) == {run, waiting}
    assert found(status="succeeded", trigger="manual") == [run]


def test_a_cursor_of_any_list_survives_its_address() -> None:
    for kind in ("", "backup"):
        cursor = Cursor(at=NOON, kind=kind, pk=7)
        assert Cursor.parse(str(cursor)) == cursor
