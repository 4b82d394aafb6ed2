"""The page of one run."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from backups.choices import AttemptStatus
from backups.models import BackupJob, BackupRun, BackupRunLogLine
from maintenance.models import MaintenanceRunLogLine
from scheduling.choices import LogLevel, RunStatus, RunTrigger
from scheduling.models import SchedulerState
from scheduling.run_lines import BATCH, TAIL
from tests.factories import (
    BackupJobFactory,
    BackupRunFactory,
    BackupRunTargetFactory,
    HostFactory,
    MaintenanceRunFactory,
    TargetFactory,
)
from tests.pages.people import sign_in

pytestmark = pytest.mark.django_db

HX = {"HX-Request": "true"}
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
POLLS = 'hx-trigger="every'


def shown(client: Client, run: Any, query: str = "", **headers: Any) -> str:
    response = client.get(f"{run.get_absolute_url()}{query}", **headers)
    assert response.status_code == 200
    return response.content.decode()


def poll_of(html: str) -> str:
    """The address that a page or an answer asks next; "" when it asks no more."""
    found = re.search(r'id="run-now"[^>]*hx-get="([^"]+)" hx-trigger="every', html)
    return unescape(found[1]) if found else ""


def words(html: str) -> str:
    """What is to be read, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).replace("\u00a0", " ").split())


@pytest.mark.parametrize(
    "path",
    ["backup/4711/", "maintenance/4711/", "rocket/1/", f"backup/{2**63}/", f"maintenance/{10**40}/"],
)
def test_a_run_that_does_not_exist_is_not_found(path: str, admin_client: Client) -> None:
    assert admin_client.get(f"/runs/{path}").status_code == 404


@pytest.mark.parametrize("path", ["/runs/", "/runs/backup/1/", "/runs/backup/1/log/"])
def test_run_pages_are_only_read(path: str, admin_client: Client) -> None:
    assert admin_client.post(path).status_code == 405


def test_a_backup_run_says_what_happened_to_each_target(admin_client: Client) -> None:
    run = BackupRunFactory(failed=True)
    done = BackupRunTargetFactory(run=run, status=AttemptStatus.SUCCEEDED, uid="a" * 16, message="etc: 3 files.")
    gone = BackupRunTargetFactory(run=run, status=AttemptStatus.FAILED, uid="b" * 16, message="wiki is not there.")
    html = admin_client.get(run.get_absolute_url()).content.decode()
    for part in (done.target_name, "etc: 3 files.", gone.target_name, "wiki is not there.", f"/backups/{'a' * 16}/"):
        assert part in html
    assert f"/backups/{'b' * 16}/" not in html


def test_a_maintenance_run_shows_its_figures_paths_and_problems(admin_client: Client) -> None:
    figures = {
        "targets_processed": 3,
        "deleted_count": 250,
        "kept_count": 41,
        "failed_count": 1,
        "deleted_paths": [f"etc/{number:03d}.tar.zst" for number in range(250)],
        "failed_paths": ["nightly / <wiki>"],
        "freed_bytes": 3 * 1024**3,
        "deleted_bytes": 2048,
        "purged_count": 2,
        "unknown_files": ["nas: stray.txt"],
        "unknown_count": 1,
        "pairs": [{"job": "nightly", "target": "etc", "kept": 41, "deleted": 250}],
        "problems": ["nightly / <wiki>: nas is not mounted."],
    }
    run = MaintenanceRunFactory(failed=True, result_json=figures)
    html = admin_client.get(run.get_absolute_url()).content.decode()
    for part in ("3.0\u00a0GiB", "etc/199.tar.zst", "nightly / &lt;wiki&gt;: nas is not mounted.", "nas: stray.txt"):
        assert part in html
    assert "etc/200.tar.zst" not in html
    assert "The first 200 of 250" in html


@pytest.mark.parametrize("stored", [{}, {"targets_processed": 1}, {"error": "x"}], ids=["none", "half", "other"])
def test_figures_of_another_version_do_not_break_the_page(stored: dict[str, Any], admin_client: Client) -> None:
    run = MaintenanceRunFactory(succeeded=True, result_json=stored)
    assert admin_client.get(run.get_absolute_url()).status_code == 200
    assert admin_client.get("/maintenance-jobs/").status_code == 200


def add_lines(run: Any, count: int, start: int = 1) -> None:
    model = {"backup": BackupRunLogLine, "maintenance": MaintenanceRunLogLine}[run.kind]
    model.objects.bulk_create(
        model(run=run, seq=seq, at=NOON, level=LogLevel.WARNING, text=f"<line {seq}>")
        for seq in range(start, start + count)
    )


def test_the_log_is_escaped_cut_to_its_end_and_whole_on_request(admin_client: Client) -> None:
    run = BackupRunFactory(succeeded=True)
    add_lines(run, TAIL + 5)
    html = shown(admin_client, run)
    assert f"&lt;line {TAIL + 5}&gt;" in html
    assert 'data-level="warning"' in html
    assert "&lt;line 5&gt;" not in html
    assert "Show the 5 lines before these" in html
    # A line's own address leads to it also when the page does not begin with it.
    assert f'href="{run.get_absolute_url()}?all#L{TAIL}"' in html
    whole = shown(admin_client, run, "?all")
    assert "&lt;line 5&gt;" in whole
    assert 'href="#L5"' in whole


@pytest.mark.parametrize("factory", [BackupRunFactory, MaintenanceRunFactory], ids=["backup", "maintenance"])
def test_a_running_run_is_asked_for_its_new_lines_only_until_it_ends(factory: Any, admin_client: Client) -> None:
    run = factory(running=True)
    add_lines(run, 3)
    poll = poll_of(shown(admin_client, run))
    assert poll == f"{run.get_absolute_url()}?after=3&state=running"
    add_lines(run, 2, start=4)
    between = admin_client.get(poll, headers=HX).content.decode()
    assert re.findall(r'id="L(\d+)"', between) == ["4", "5"]
    assert 'id="run-head"' not in between
    type(run).objects.filter(pk=run.pk).update(status=RunStatus.SUCCEEDED, finished_at=timezone.now())
    add_lines(run, 1, start=6)
    last = admin_client.get(poll_of(between), headers=HX).content.decode()
    assert re.findall(r'id="L(\d+)"', last) == ["6"]
    assert 'hx-swap-oob="beforeend"' in last
    assert POLLS not in last
    for part in ('id="run-head"', 'id="run-rest"', "Run again", "succeeded</h1>", "<title>"):
        assert part in last


@pytest.mark.parametrize("after", ["x", "-1", "9" * 30, ""])
def test_a_strange_place_in_the_log_is_no_error(after: str, admin_client: Client) -> None:
    run = BackupRunFactory(running=True)
    assert admin_client.get(f"{run.get_absolute_url()}?after={after}", headers=HX).status_code == 200


def test_a_run_whose_job_was_deleted_keeps_its_page(admin_client: Client) -> None:
    run = BackupRunFactory(succeeded=True, job=None, job_name="an old job")
    html = admin_client.get(run.get_absolute_url()).content.decode()
    assert "an old job succeeded" in html


def test_a_lost_run_without_a_log_does_not_say_that_it_never_worked(admin_client: Client) -> None:
    lost = BackupRunFactory(status=RunStatus.LOST, started_at=NOON, finished_at=NOON)
    html = admin_client.get(lost.get_absolute_url()).content.decode()
    assert "Its process ended before any line of its log was written down." in html
    assert "before it started to work" not in html
    cancelled = BackupRunFactory(status=RunStatus.CANCELLED, finished_at=NOON)
    assert "before it started to work" in admin_client.get(cancelled.get_absolute_url()).content.decode()


@pytest.mark.parametrize("status", RunStatus.values)
def test_every_status_has_its_sentence(status: str, admin_client: Client) -> None:
    run = BackupRunFactory(status=status, started_at=NOON, finished_at=NOON)
    html = admin_client.get(run.get_absolute_url()).content.decode()
    heading = re.search(r"<h1>(.*?)</h1>", html)
    assert heading is not None
    words = {"queued": "waiting", "running": "running", "cancelling": "stopped"}
    assert words.get(status, status) in heading[1]


def test_a_run_with_many_targets_and_lines_needs_few_queries(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    run = BackupRunFactory(succeeded=True)
    for _ in range(25):
        BackupRunTargetFactory(run=run, active=False, status=AttemptStatus.SUCCEEDED, uid="c" * 16)
    add_lines(run, 100)
    with django_assert_max_num_queries(14):
        admin_client.get(run.get_absolute_url())


# --- What it says of where it is ----------------------------------------------------------------------------------


def test_the_last_answer_comes_only_when_every_line_has(admin_client: Client) -> None:
    run = BackupRunFactory(running=True)
    poll = poll_of(shown(admin_client, run))
    add_lines(run, BATCH + 7)
    type(run).objects.filter(pk=run.pk).update(status=RunStatus.FAILED, finished_at=timezone.now())
    first = admin_client.get(poll, headers=HX).content.decode()
    assert len(re.findall(r'id="L\d+"', first)) == BATCH
    assert 'hx-trigger="every 200ms"' in first
    last = admin_client.get(poll_of(first), headers=HX).content.decode()
    assert len(re.findall(r'id="L\d+"', last)) == 7
    assert poll_of(last) == ""


def test_the_level_is_in_the_address_with_counts_and_kept_by_what_is_polled(admin_client: Client) -> None:
    run = BackupRunFactory(running=True)
    levels = [LogLevel.INFO, LogLevel.WARNING, LogLevel.ERROR, LogLevel.INFO]
    BackupRunLogLine.objects.bulk_create(
        BackupRunLogLine(run=run, seq=seq, at=NOON, level=level, text=f"line {seq}")
        for seq, level in enumerate(levels, start=1)
    )
    for level, seen, chip in (
        ("", "1234", "All 4"),
        ("warning", "23", "Warnings and errors 2"),
        ("error", "3", "Errors 1"),
    ):
        html = shown(admin_client, run, f"?level={level}")
        assert "".join(re.findall(r'id="L(\d+)"', html)) == seen
        assert chip in words(html)
    BackupRunLogLine.objects.create(run=run, seq=5, at=NOON, level=LogLevel.INFO, text="not this")
    BackupRunLogLine.objects.create(run=run, seq=6, at=NOON, level=LogLevel.ERROR, text="this")
    poll = poll_of(shown(admin_client, run, "?level=error"))
    assert "level=error" in poll
    assert "not this" not in admin_client.get(poll, headers=HX).content.decode()
    # A click on another level swaps the log and what is polled, and nothing else.
    other = shown(admin_client, run, "?level=warning", headers=HX)
    assert 'id="log"' in other
    assert "level=warning" in poll_of(other)
    assert "<h1>" not in other


@pytest.mark.parametrize("query", ["?level=%00", "?level=all&all=%00", "?after=&state=x", "?level=error&after=-9"])
def test_an_address_that_makes_no_sense_is_still_the_page(query: str, admin_client: Client) -> None:
    run = BackupRunFactory(running=True)
    for headers in ({}, HX):
        shown(admin_client, run, query, headers=headers)


def test_progress_is_a_bar_with_its_figures_and_says_what_is_an_estimate(admin_client: Client) -> None:
    figures = {
        "step": "etc: reading",
        "bytes": 2**30,
        "bytes_total": 2**31,
        "files": 7,
        "rate": 2**20,
        "seconds_left": 90,
    }
    run = BackupRunFactory(running=True, progress={**figures, "estimated": True, "at": timezone.now().isoformat()})
    html = shown(admin_client, run)
    assert 'value="50" max="100"' in html
    assert "about 50 % 1.0 GiB of about 2.0 GiB 7 files 1.0 MiB/s about 1 min 30 s left" in words(html)
    assert "estimate" in html
    BackupRun.objects.filter(pk=run.pk).update(progress={"step": "etc: reading", "bytes": 5})
    html = shown(admin_client, run)
    assert "<progress" in html
    assert "value=" not in html.partition("<progress")[2].partition(">")[0].replace("aria-valuetext", "")


@pytest.mark.parametrize(
    "progress",
    [[], "x", 7, {"bytes": "many", "bytes_total": None, "at": 3}, {"bytes": -1, "bytes_total": 0, "rate": 1e300}],
    ids=str,
)
def test_progress_that_cannot_be_read_is_left_out(progress: Any, admin_client: Client) -> None:
    assert "<progress" in shown(admin_client, BackupRunFactory(running=True, progress=progress))


def test_a_waiting_run_says_that_its_window_opens_and_is_asked_about_rarely(admin_client: Client) -> None:
    now = timezone.now()
    opens = (now + timedelta(hours=3)).replace(second=0, microsecond=0)
    job = BackupJobFactory(timezone="UTC", window_start=opens.time(), window_end=time(23, 59))
    run = BackupRunFactory(job=job, trigger=RunTrigger.SCHEDULE, not_before=opens)
    html = shown(admin_client, run)
    assert re.search(rf"Waits until (\w+ \d+ \w+, )?{opens:%H:%M}, its run window opens then", words(html))
    assert 'hx-trigger="every 30s"' in html


def test_a_waiting_run_names_the_runs_that_it_waits_for(admin_client: Client) -> None:
    etc = TargetFactory(name="etc")
    job, other = BackupJobFactory(targets=[etc]), BackupJobFactory(name="weekly", targets=[etc])
    same, at_etc = BackupRunFactory(running=True, job=job), BackupRunFactory(running=True, job=other)
    BackupRunTargetFactory(run=at_etc, target=etc, status=AttemptStatus.RUNNING)
    text = words(shown(admin_client, BackupRunFactory(job=job)))
    assert f"Waits for run {same.pk} of the same job to end." in text
    assert f"Waits for target etc, which run {at_etc.pk} of weekly is at." in text


def test_the_host_is_named_and_a_folder_without_a_name_is_shown_by_its_id(admin_client: Client) -> None:
    run = BackupRunFactory(succeeded=True, host="0123456789abcdef")
    assert "data folder 0123456789abcdef" in words(shown(admin_client, run))
    HostFactory(host="0123456789abcdef", hostname="nas7")
    assert "on nas7" in words(shown(admin_client, run))


def test_the_lineage_shows_every_attempt_and_what_followed(admin_client: Client) -> None:
    job = BackupJobFactory(retry_count=2)
    first = BackupRunFactory(failed=True, job=job)
    second = BackupRunFactory(failed=True, job=job, parent=first, trigger=RunTrigger.RETRY, attempt=2)
    third = BackupRunFactory(succeeded=True, job=job, parent=second, trigger=RunTrigger.RETRY, attempt=3)
    after = BackupJobFactory(name="off site", run_after=f"backup:{job.pk}")
    follower = BackupRunFactory(job=after, trigger=RunTrigger.AFTER, cause=f"backup:{third.pk}")
    html = shown(admin_client, second)
    assert re.findall(r'id="attempt-(\d+)"', html) == [str(first.pk), str(third.pk)]
    assert f"Run {second.pk} this one" in words(html)
    assert "off site" not in html
    assert f'id="follower-backup-{follower.pk}"' in shown(admin_client, third)
    assert f"run {third.pk} of {job.name}" in words(shown(admin_client, follower))


def test_a_run_is_compared_with_the_last_one_that_had_succeeded(admin_client: Client) -> None:
    job = BackupJobFactory()
    sizes = {"stored_bytes": 2048, "files": 10, "warning_count": 0}
    before = BackupRunFactory(succeeded=True, job=job, queued_at=NOON, result_json=sizes)
    BackupRunFactory(failed=True, job=job, queued_at=NOON + timedelta(hours=1))
    run = BackupRunFactory(succeeded=True, job=job, result_json={"stored_bytes": 3072, "files": 10, "warning_count": 0})
    html = shown(admin_client, run)
    assert f'href="{before.get_absolute_url()}"' in html
    assert "Stored 3.0 KiB 2.0 KiB +1.0 KiB +50 %" in words(html)
    assert "Files 10 10 the same" in words(html)


def test_without_javascript_an_open_run_has_a_link_that_refreshes(admin_client: Client) -> None:
    run = BackupRunFactory(running=True)
    assert (
        f'<noscript><p class="muted">This page shows how it was when it was loaded. <a href="{run.get_absolute_url()}">'
        in (shown(admin_client, run))
    )
    assert "<noscript>" not in shown(admin_client, BackupRunFactory(succeeded=True))


# --- What can be done ---------------------------------------------------------------------------------------------


def post(client: Client, run: Any, action: str) -> str:
    """The text of the page that the action leads to."""
    response = client.post(f"{run.get_absolute_url()}{action}/", follow=True)
    assert response.status_code == 200
    return words(response.content.decode())


def test_a_queued_run_is_cancelled_at_once_and_a_running_one_is_asked_to_stop() -> None:
    ann = sign_in("operator")
    queued, running = BackupRunFactory(), BackupRunFactory(running=True)
    assert "was cancelled before it started. Nothing was done." in post(ann, queued, "cancel")
    text = post(ann, running, "cancel")
    assert "is being stopped…" in text
    assert "the operator asked it to stop." in text
    queued.refresh_from_db(), running.refresh_from_db()
    assert (queued.status, running.status) == (RunStatus.CANCELLED, RunStatus.CANCELLING)
    assert "is being stopped already" in post(ann, running, "cancel")


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.LOST, RunStatus.SKIPPED])
def test_cancelling_what_has_ended_says_so_and_changes_nothing(status: RunStatus) -> None:
    run = BackupRunFactory(status=status, started_at=NOON, finished_at=NOON, message="as it was")
    assert "had ended before it could be cancelled" in post(sign_in("operator"), run, "cancel")
    run.refresh_from_db()
    assert (run.status, run.message) == (status, "as it was")


def test_running_again_leads_to_the_new_run_which_names_the_old_one() -> None:
    run = BackupRunFactory(failed=True)
    text = post(sign_in("operator"), run, "again")
    new = BackupRun.objects.get(parent=run)
    assert f"is queued again: this is run {new.pk}, which repeats {run.pk}." in text
    assert (new.trigger, new.requested_by) == (RunTrigger.MANUAL, "the operator")


def test_running_again_takes_the_run_that_waits_already() -> None:
    run = BackupRunFactory(failed=True)
    BackupRunFactory(job=run.job)
    assert "was waiting to start already: this one. No other was added." in post(sign_in("operator"), run, "again")
    assert BackupRun.objects.count() == 2


def test_running_again_what_waits_with_something_else_to_do_is_refused_in_words() -> None:
    run = BackupRunFactory(failed=True)
    BackupRunFactory(job=run.job, params={"target_id": 7})
    assert "is waiting to start already" in post(sign_in("operator"), run, "again")
    assert BackupRun.objects.count() == 2


def test_what_cannot_be_run_again_says_why() -> None:
    ann, gone = sign_in("operator"), BackupRunFactory(failed=True, job=None)
    assert "was deleted, so it cannot be run again" in post(ann, gone, "again")
    assert "Run again" not in words(ann.get(gone.get_absolute_url()).content.decode())
    assert "has not ended" in post(ann, BackupRunFactory(running=True), "again")


@pytest.mark.parametrize("action", ["cancel", "again"])
def test_an_action_needs_the_permission_of_the_kind_and_a_run(action: str, client: Client) -> None:
    run = BackupRunFactory(running=True)
    user = User.objects.create_user("ann")
    codenames = ("view_schedulerstate", "view_backuprun", "run_maintenancejob", "view_maintenancerun")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    assert client.post(f"/runs/backup/{run.pk}/{action}/").status_code == 403
    assert client.get(f"/runs/backup/{run.pk}/{action}/").status_code == 405
    assert client.post(f"/runs/maintenance/{2**63}/{action}/").status_code == 404
    assert client.post(f"/runs/rocket/1/{action}/").status_code == 404
    html = client.get(run.get_absolute_url()).content.decode()
    assert "Cancel this run" not in html
    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING


def test_the_log_is_a_text_file_of_all_its_lines_or_of_one_level(admin_client: Client) -> None:
    run = BackupRunFactory(succeeded=True)
    add_lines(run, 3)
    BackupRunLogLine.objects.create(run=run, seq=4, at=NOON, level=LogLevel.ERROR, text="<b>ü</b>")
    answer = admin_client.get(f"{run.get_absolute_url()}log/")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["Content-Disposition"] == f'attachment; filename="backup-run-{run.pk}.log"'
    assert answer.content.decode().splitlines()[3] == "2026-11-24T12:00:00.000+00:00 error   <b>ü</b>"
    assert len(admin_client.get(f"{run.get_absolute_url()}log/?level=error").content.splitlines()) == 1


# --- What it costs ------------------------------------------------------------------------------------------------


def busy_run() -> Any:
    """A run with everything that its page can show, many times over."""
    now = timezone.now()
    SchedulerState.objects.create(pk=1, host="h", hostname="here", pid=1, started_at=now, seen_at=now)
    job = BackupJobFactory(retry_count=10, targets=[TargetFactory() for _ in range(20)])
    run = None
    for attempt in range(1, 12):
        run = BackupRunFactory(failed=True, job=job, parent=run, attempt=attempt, host="h")
    BackupJob.objects.filter(pk=job.pk).update(run_after="")
    for _ in range(10):
        after = BackupJobFactory(run_after=f"backup:{job.pk}")
        BackupRunFactory(job=after, trigger=RunTrigger.AFTER, queued_at=run.finished_at)
    for _ in range(20):
        BackupRunTargetFactory(run=run, active=False, status=AttemptStatus.SUCCEEDED, uid="c" * 16)
    add_lines(run, 300)
    return run


def test_the_page_needs_the_same_few_queries_for_a_long_story(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    run = busy_run()
    with django_assert_max_num_queries(16):
        shown(admin_client, run)


def test_a_poll_needs_few_queries(admin_client: Client, django_assert_max_num_queries: Any) -> None:
    run = BackupRunFactory(running=True)
    add_lines(run, 50)
    poll = poll_of(shown(admin_client, run))
    with django_assert_max_num_queries(6):
        admin_client.get(poll, headers=HX)
    add_lines(run, 50, start=51)
    with django_assert_max_num_queries(7):
        admin_client.get(poll, headers=HX)


def test_a_run_whose_queue_no_worker_serves_is_not_said_to_be_next(admin_client: Client) -> None:
    text = admin_client.get(BackupRunFactory(queue="far").get_absolute_url()).content.decode()
    assert "when a worker serves the queue" in text
