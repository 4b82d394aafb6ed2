"""A run's page while a real scheduler process is at the run: it follows, stops, repeats, and then is quiet."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Page, Request

from backups.models import BackupJob, BackupRun, BackupRunLogLine
from scheduling.choices import LogLevel, RunStatus, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from tests.browser.conftest import Visitor
from tests.factories import BackupRunFactory
from tests.support import files_in, make_job

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# Stands before the real one: it waits at a gate, and passes on what it is told to complain about.
GATED_TAR = """#!/bin/sh
case "$*" in *--version*) exec {tar} --version;; esac
while [ ! -e {gate} ]; do
  if [ -e {say} ]; then cat {say} >&2; rm {say}; fi
  sleep 0.05
done
exec {tar} "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Gate:
    folder: Path

    def say(self, *lines: str) -> None:
        """Let the program behind the run write these to its log."""
        draft = self.folder / "draft"
        draft.write_text("".join(f"tar: {line}\n" for line in lines))
        draft.rename(self.folder / "say")

    def open(self) -> None:
        (self.folder / "open").touch()


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Ask for it before the scheduler: backups then wait in the middle of their work until the gate is opened."""
    folder = tmp_path / "gate"
    folder.mkdir()
    real = shutil.which("tar")
    program = folder / "tar"
    program.write_text(GATED_TAR.format(tar=real, gate=folder / "open", say=folder / "say"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return Gate(folder=folder)


@pytest.fixture
def job(transactional_db: None, tmp_path: Path) -> BackupJob:
    return make_job(tmp_path)


def start(visitor: Visitor, job: BackupJob) -> Page:
    """Run the job now; the page of its run, when it is running."""
    page = visitor.page
    run = scheduled_dispatch("backup", job.pk, inline=False, trigger=RunTrigger.MANUAL)
    visitor.open(f"/runs/backup/{run.pk}/")
    page.get_by_role("heading", name="nightly is running").wait_for()
    return page


def from_end(page: Page) -> int:
    """How many pixels of the log are below what is seen of it."""
    distance: int = page.evaluate(
        "(() => { const log = document.querySelector('.log');"
        " return Math.round(log.scrollHeight - log.scrollTop - log.clientHeight) })()"
    )
    return distance


def asked(page: Page, seconds: float) -> list[Request]:
    """What the page asks for by itself in this time."""
    seen: list[Request] = []

    def note(request: Request) -> None:
        seen.append(request)

    page.on("request", note)
    page.wait_for_timeout(seconds * 1000)
    page.remove_listener("request", note)
    return seen


def test_the_log_is_followed_until_the_reader_scrolls_up_and_again_on_request(
    job: BackupJob, gate: Gate, scheduler: None, visitor: Visitor
) -> None:
    page = start(visitor, job)
    assert page.get_by_role("progressbar").count() == 1
    gate.say(*[f"first {number}" for number in range(60)])
    page.get_by_text("first 59").wait_for()
    assert from_end(page) < 4

    page.locator(".log").hover()
    page.mouse.wheel(0, -400)
    page.get_by_role("button", name="Follow", exact=True).wait_for()
    before = page.evaluate("document.querySelector('.log').scrollTop")
    top = page.evaluate("scrollY")
    gate.say(*[f"second {number}" for number in range(40)])
    page.get_by_text("second 39").wait_for(state="attached")
    assert page.evaluate("document.querySelector('.log').scrollTop") == before
    assert page.evaluate("scrollY") == top

    page.get_by_role("button", name="Follow", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Following").wait_for()
    assert from_end(page) < 4
    gate.open()
    page.get_by_role("heading", name="nightly succeeded").wait_for()
    # The last answer brought everything that an ended run shows, without a reload, and nothing is asked any more.
    page.get_by_role("button", name="Run again").wait_for()
    page.get_by_text("stored as").wait_for()
    assert page.get_by_role("progressbar").count() == 0
    assert not page.locator("#follow").is_visible()
    assert page.title().startswith("nightly, warning")
    assert asked(page, 3) == []
    assert visitor.complaints == []


def test_a_running_run_is_stopped_from_its_page_and_leaves_nothing(
    job: BackupJob, gate: Gate, scheduler: None, visitor: Visitor
) -> None:
    page = start(visitor, job)
    page.get_by_text("Cancel this run").click()
    page.get_by_text("nothing half-made is kept").wait_for()
    # What is open stays open while the page is brought up to date around it.
    page.wait_for_timeout(2500)
    page.get_by_role("button", name="Stop run").click()
    page.get_by_text("is being stopped. This page says when it has ended.").wait_for()
    page.get_by_role("heading", name="nightly was cancelled").wait_for()
    assert BackupRun.objects.get().cancelled_by == "marguerite"
    assert files_in(job.storage) == set()
    assert visitor.complaints == []

    gate.open()
    page.get_by_role("button", name="Run again").click()
    page.get_by_text("is queued again").wait_for()
    page.get_by_role("heading", name="nightly succeeded").wait_for()
    page.get_by_role("heading", name="Attempts").wait_for()
    assert BackupRun.objects.count() == 2
    assert visitor.complaints == []


def lines(run: BackupRun, first: int, last: int) -> None:
    levels = {0: LogLevel.ERROR, 1: LogLevel.WARNING}
    BackupRunLogLine.objects.bulk_create(
        BackupRunLogLine(
            run=run, seq=seq, at=timezone.now(), level=levels.get(seq % 10, LogLevel.INFO), text=f"line {seq}."
        )
        for seq in range(first, last + 1)
    )


def test_the_level_is_in_the_address_and_counts_for_what_comes_later(job: BackupJob, visitor: Visitor) -> None:
    run = BackupRunFactory(running=True, job=job)
    lines(run, 1, 40)
    page = visitor.page
    visitor.open(run.get_absolute_url())
    page.get_by_role("link", name="Warnings and errors").click()
    page.wait_for_url("**?level=warning")
    page.get_by_text("line 40.").wait_for()
    assert page.locator("#log-lines li").count() == 8
    page.get_by_role("link", name="Errors 4", exact=True).focus()
    lines(run, 41, 60)
    page.get_by_role("link", name="Errors 6", exact=True).wait_for()
    assert page.locator("#log-lines li").count() == 12
    # Counts change below the keyboard's place, which stays.
    assert page.evaluate("document.activeElement.id") == "level-error"
    page.keyboard.press("Enter")
    page.wait_for_url("**?level=error")
    page.locator("#level-error[aria-current]").wait_for()
    page.go_back()
    page.locator("#level-warning[aria-current]").wait_for()
    assert page.url.endswith("?level=warning")
    assert page.locator("#log-lines li").count() == 12
    lines(run, 61, 70)
    page.get_by_text("line 70.").wait_for()
    assert visitor.complaints == []


def test_the_address_of_a_line_leads_to_it_also_when_the_page_begins_later(job: BackupJob, visitor: Visitor) -> None:
    run = BackupRunFactory(succeeded=True, job=job)
    lines(run, 1, 5000)
    page = visitor.page
    for address in ("#L12", "?all#L12", "?level=error#L12"):
        visitor.page.goto("about:blank")
        visitor.open(f"{run.get_absolute_url()}{address}")
        page.locator("#L12:target").wait_for()
        assert page.locator("#L12").is_visible()
    assert visitor.complaints == []


def test_a_tab_that_nobody_sees_asks_for_nothing(job: BackupJob, visitor: Visitor) -> None:
    run = BackupRunFactory(running=True, job=job)
    page = visitor.page
    visitor.open(run.get_absolute_url())
    assert asked(page, 5) != []
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })")
    page.wait_for_timeout(500)
    assert asked(page, 5) == []
    page.evaluate("delete document.hidden")
    BackupRun.objects.filter(pk=run.pk).update(status=RunStatus.FAILED, finished_at=timezone.now())
    page.get_by_role("heading", name="nightly failed").wait_for()
    assert visitor.complaints == []


def test_without_javascript_a_run_is_looked_at_and_cancelled_all_the_same(
    job: BackupJob, visitor: Visitor, browser: Browser
) -> None:
    run = BackupRunFactory(job=job)
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies(visitor.page.context.cookies())
    page = context.new_page()
    page.goto(f"{visitor.url}{run.get_absolute_url()}")
    page.get_by_role("link", name="Refresh").click()
    page.get_by_role("heading", name="nightly is waiting to start").wait_for()
    assert not page.locator("#follow").is_visible()
    page.get_by_text("Cancel this run").click()
    page.get_by_role("button", name=f"Cancel run {run.pk}").click()
    page.get_by_text("was cancelled before it started. Nothing was done.").wait_for()
    context.close()
