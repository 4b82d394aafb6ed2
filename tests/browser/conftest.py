from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from scheduling.models import SchedulerState

ROOT = Path(__file__).parents[2]
PASSWORD = "a long enough password"


@dataclass
class Visitor:
    """A signed-in person's page, with everything its console complained about: a refused script or style is in it."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{self.page.url}: {message.text}")

    def open(self, path: str) -> int:
        """Go to the path and return the answer's status."""
        response = self.page.goto(f"{self.url}{path}")
        assert response is not None
        return response.status

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return width


@pytest.fixture
def visit(browser: Browser, live_server: object, transactional_db: None) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(15_000)
    yield context
    context.close()


@pytest.fixture
def visitor(visit: BrowserContext, live_server: object) -> Visitor:
    """An administrator who has signed in through the form."""
    User.objects.create_superuser("marguerite", password=PASSWORD)
    page = visit.new_page()
    person = Visitor(page=page, url=str(live_server))
    page.on("console", person.note)
    page.on("pageerror", lambda error: person.complaints.append(f"{page.url}: {error}"))
    person.open("/options/")
    page.get_by_label("Username").fill("marguerite")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/options/")
    return person


@pytest.fixture
def scheduler(database_url: str, tmp_path: Path) -> Iterator[None]:
    """A real scheduler process on the test's database, alive before the test begins."""
    log = tmp_path / "scheduler.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "run_scheduler"], cwd=ROOT, env=os.environ, stdout=output, stderr=output
        )
    deadline = time.monotonic() + 30
    while not SchedulerState.objects.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the scheduler did not start: {log.read_text()}")
        time.sleep(0.1)
    yield
    process.terminate()
    process.wait(timeout=30)
