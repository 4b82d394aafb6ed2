"""What every test has: a data folder of its own, a database in a file, and a say about missing services."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from playwright.sync_api import Browser, sync_playwright

# Set before the settings are read, so that no test run touches
# the data of a Keepwell that runs from this checkout. Workers of pytest-xdist inherit it.
if "KEEPWELL_TEST_DATA" not in os.environ:
    os.environ["KEEPWELL_TEST_DATA"] = tempfile.mkdtemp(prefix="keepwell-tests-")
    os.environ["KEEPWELL_TEST_DATA_OWNER"] = str(os.getpid())
SESSION_DATA = Path(os.environ["KEEPWELL_TEST_DATA"])
for _name in [name for name in os.environ if name == "DATABASE_URL" or name.startswith("KEEPWELL_")]:
    if not _name.startswith("KEEPWELL_TEST_"):
        del os.environ[_name]
os.environ["KEEPWELL_DATA"] = str(SESSION_DATA)
if _database := os.environ.get("KEEPWELL_TEST_DATABASE_URL"):  # the whole suite on another database
    os.environ["DATABASE_URL"] = _database
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
# Playwright keeps an event loop in the test's thread, in which Django would refuse to use the database.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
# Now rather than by pytest-django, which does it after it has loaded the folders' own conftest files.
django.setup()
# A hash that takes a quarter of a second, as it should, would be most of the time of the sign-in tests.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

POSTGRES = os.environ.get("KEEPWELL_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres")
IN_CI = os.environ.get("CI", "").lower() == "true"
# Tests with these marks may be skipped on a developer's machine, never in continuous integration.
BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SERVICE_MARKS = ("services", "browser")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # What was logged may hold lone surrogates (names that are not UTF-8), which a parallel worker cannot send on.
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    if IN_CI and report.skipped and any(item.get_closest_marker(mark) for mark in SERVICE_MARKS):
        report.outcome = "failed"
        report.longrepr = f"Skipped, which is a failure when CI is true: {skip_reason(report)}"
    return report


def skip_reason(report: pytest.TestReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        if any(mark in report.keywords for mark in SERVICE_MARKS):
            reason = skip_reason(report).removeprefix("Skipped: ")
            reasons[reason] = reasons.get(reason, 0) + 1
    if reasons:
        terminalreporter.section("not tested here, for lack of a service")
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count} tests: {reason}")


def pytest_unconfigure() -> None:
    if os.environ.get("KEEPWELL_TEST_DATA_OWNER") == str(os.getpid()):
        shutil.rmtree(SESSION_DATA, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """A database in a file: in memory, threads would share one connection, and child processes see nothing."""
    from django.db import connections

    if connections["default"].vendor != "sqlite":
        return
    name = str(SESSION_DATA / f"test-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}.sqlite3")
    for database in (settings.DATABASES["default"], connections["default"].settings_dict):
        database["TEST"]["NAME"] = name


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """KEEPWELL_DATA of this test alone, for this process and for those that it starts."""
    folder = tmp_path / "keepwell-data"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(settings, "KEEPWELL_DATA", folder)
    monkeypatch.setenv("KEEPWELL_DATA", str(folder))
    return folder


@pytest.fixture
def database_url(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the test database, also put into the environment, so that child processes use the same rows."""
    from django.db import connection

    name = connection.settings_dict["NAME"]
    url = f"{POSTGRES.rpartition('/')[0]}/{name}" if connection.vendor == "postgresql" else f"sqlite:///{name}"
    monkeypatch.setenv("DATABASE_URL", url)
    return url


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an empty PostgreSQL database of this test's own. Mark such tests with `services`."""
    import uuid

    import psycopg
    from psycopg import sql

    if request.node.get_closest_marker("services") is None:
        pytest.fail("A test that uses postgres_url must be marked with pytest.mark.services.")
    try:
        server = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        pytest.skip("PostgreSQL does not answer on loopback (KEEPWELL_TEST_POSTGRES names another address)")
    name = f"keepwell_test_{uuid.uuid4().hex[:12]}"
    with server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield f"{POSTGRES.rpartition('/')[0]}/{name}"
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser's program; tests that use it are marked with `browser` and skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium here (apt install chromium)")


@pytest.fixture(scope="session")
def browser(chromium_path: str) -> Iterator[Browser]:
    """One headless browser for the session: Playwright bears no second one beside it."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium_path, args=BROWSER_FLAGS)
        yield running
        running.close()


@pytest.fixture
def no_blast_radius(db: None) -> None:
    """Let cleanups delete as much as their policy says, for tests that are about something else."""
    from tests.support import no_blast_radius as lift

    lift()
