from __future__ import annotations

import errno
import fcntl
import http.client
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, override

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from accounts.setup import ensure_setup_link
from backups.services.options import options_adopt_machine_zone
from backups.services.storages import storage_ensure_default
from config.supervisor import Command as ChildCommand
from config.supervisor import Supervisor
from scheduling.hosts import SecondHostError, hosts_refuse_second

READY_SECONDS = 60.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared, not bound)


class Command(BaseCommand):
    help = "Run Keepwell: the web pages and the scheduler, until Ctrl-C or SIGTERM."
    # The checks run in the children as well; here they would only delay the start.
    requires_system_checks = []

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        bind, port = settings.KEEPWELL_BIND, settings.KEEPWELL_PORT
        refuse_busy_port(bind, port)
        with preparation_lock(settings.KEEPWELL_DATA / "prepare.lock"):
            call_command("migrate", interactive=False, verbosity=0)
            call_command("collectstatic", interactive=False, verbosity=0)
            if storage_ensure_default() is not None:
                options_adopt_machine_zone()
            link = ensure_setup_link()
        try:
            hosts_refuse_second()
        except SecondHostError as error:
            raise CommandError(str(error), returncode=3) from error
        # An open SQLite handle must not be held by a process that does not use it.
        connections.close_all()
        supervisor = Supervisor(child_commands(bind, port), self._say)
        status = supervisor.run(
            is_ready=lambda: answers(bind, port),
            when_ready=lambda: self._say(welcome(link)),
            ready_seconds=READY_SECONDS,
        )
        if status:
            sys.exit(status)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def child_commands(bind: str, port: int) -> tuple[ChildCommand, ChildCommand]:
    """The web process and the scheduler process."""
    python = sys.executable
    host = f"[{bind}]" if ":" in bind else bind
    web = ("-m", "gunicorn", "config.wsgi", "--bind", f"{host}:{port}", "--workers", "2", "--worker-class", "gthread")
    limits = ("--threads", "8", "--graceful-timeout", "20", "--log-level", "warning")
    manage = str(settings.BASE_DIR / "manage.py")
    return (
        ChildCommand(name="The web process", argv=(python, *web, *limits)),
        ChildCommand(name="The scheduler", argv=(python, manage, "run_scheduler")),
    )


def refuse_busy_port(bind: str, port: int) -> None:
    """Raise CommandError when the address cannot be listened on."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, proto)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandError(
                f"Port {port} on {bind} is in use by another program. Stop that program, "
                f"or choose another port: KEEPWELL_PORT={port + 1 if port < 65535 else port - 1} make run"
            ) from None
        raise CommandError(
            f"Keepwell cannot listen on {bind} port {port}: {error.strerror}. Check KEEPWELL_BIND and KEEPWELL_PORT."
        ) from None


@contextmanager
def preparation_lock(path: Path) -> Iterator[None]:
    """Hold the lock file, so that of two starts one migrates and the other waits until that is done."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def answers(bind: str, port: int) -> bool:
    """Whether the web process reports itself healthy."""
    connection = http.client.HTTPConnection(ANY_ADDRESS.get(bind, bind), port, timeout=5)
    with closing(connection):
        try:
            connection.request("GET", "/health/", headers={"Host": "localhost"})
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def welcome(link: str | None) -> str:
    """What a person needs to know once it runs."""
    lines = ["", "Keepwell is running.", "", f"  Address   {settings.KEEPWELL_URL}/"]
    if link:
        lines += [f"  First     {link}", "            Open this once to create the administrator."]
    lines += [f"  Data      {settings.KEEPWELL_DATA}", "  Stop      Ctrl-C", ""]
    return "\n".join(lines)
