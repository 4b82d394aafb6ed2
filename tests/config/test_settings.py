from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as loaded

WANTED = [
    "ALLOWED_HOSTS",
    "CSRF_TRUSTED_ORIGINS",
    "SESSION_COOKIE_SECURE",
    "CSRF_COOKIE_SECURE",
    "DEBUG",
    "KEEPWELL_URL",
]


def settings_with(data: Path, **environ: str) -> dict[str, Any]:
    """The settings as a new process reads them from these variables."""
    program = (
        f"import json\nfrom config import settings\nprint(json.dumps({{n: getattr(settings, n) for n in {WANTED}}}))"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("KEEPWELL_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**plain, "KEEPWELL_DATA": str(data), **environ},
        cwd=loaded.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_defaults_are_for_this_machine_only(tmp_path: Path) -> None:
    found = settings_with(tmp_path / "data")
    assert found["ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]"]
    assert found["DEBUG"] is False
    assert found["KEEPWELL_URL"] == "http://localhost:8000"


def test_a_public_https_address_sets_hosts_origins_and_secure_cookies(tmp_path: Path) -> None:
    found = settings_with(tmp_path / "data", KEEPWELL_URL="https://backup.example.org:8443/")
    assert "backup.example.org" in found["ALLOWED_HOSTS"]
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://backup.example.org:8443"]
    assert found["SESSION_COOKIE_SECURE"] is True
    assert found["CSRF_COOKIE_SECURE"] is True


def test_a_public_http_address_keeps_cookies_that_http_can_send(tmp_path: Path) -> None:
    assert settings_with(tmp_path / "data", KEEPWELL_URL="http://nas:8000")["SESSION_COOKIE_SECURE"] is False


def test_an_address_to_bind_to_is_a_host_that_may_be_asked_for(tmp_path: Path) -> None:
    found = settings_with(tmp_path / "data", KEEPWELL_BIND="192.0.2.7", KEEPWELL_ALLOWED_HOSTS="nas, nas.lan")
    assert {"192.0.2.7", "nas", "nas.lan"} <= set(found["ALLOWED_HOSTS"])


@pytest.mark.django_db
def test_every_page_carries_the_content_policy_and_the_other_headers(client: Any) -> None:
    headers = client.get("/account/login/").headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.django_db
def test_cookies_are_kept_from_scripts_and_other_sites(client: Any, django_user_model: Any) -> None:
    django_user_model.objects.create_user("ann", password="a long enough one")
    answer = client.post("/account/login/", {"username": "ann", "password": "a long enough one"})
    cookie = answer.cookies["keepwell_session"]
    assert cookie["httponly"] is True
    assert cookie["samesite"] == "Lax"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("KEEPWELL_WORKERS", "abc", "KEEPWELL_WORKERS is 'abc'. Use a whole number, for example 4."),
        ("KEEPWELL_PORT", "99999", "KEEPWELL_PORT is 99999. Use 65535 or less."),
        ("KEEPWELL_ENGINE", "procrastinate", "PostgreSQL"),
        ("DATABASE_URL", "foo://x", "DATABASE_URL"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_wrong_setting_ends_every_command_with_one_sentence(
    tmp_path: Path, command: str, name: str, value: str, says: str
) -> None:
    done = manage(tmp_path, command, **{name: value})
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_mistake_in_the_program_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    done = manage(tmp_path, "check", DJANGO_SETTINGS_MODULE="broken", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def manage(folder: Path, command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    left_out = ("KEEPWELL_", "DATABASE_URL", "DJANGO_SETTINGS_MODULE")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return subprocess.run(
        [sys.executable, "manage.py", command],
        env={**plain, "KEEPWELL_DATA": str(folder / "data"), **environ},
        cwd=loaded.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
