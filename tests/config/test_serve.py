from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management.base import CommandError

from config.management.commands.serve import refuse_busy_port


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server


def test_a_busy_port_is_refused_with_the_way_out(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with pytest.raises(CommandError, match=rf"Port {port} on 127\.0\.0\.1 is in use.*KEEPWELL_PORT="):
        refuse_busy_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused(listener: socket.socket) -> None:
    with pytest.raises(CommandError, match=r"cannot listen on 192\.0\.2\.1 port 8000.*KEEPWELL_BIND"):
        refuse_busy_port("192.0.2.1", 8000)


def test_serve_starts_from_nothing_shows_the_set_up_link_and_stops(data_folder: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "manage.py", "serve"],
        cwd=settings.BASE_DIR,
        env={**os.environ, "KEEPWELL_PORT": str(port)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "Stop" in line:
                break
        said = "".join(lines)
        assert "Keepwell is running." in said
        assert str(data_folder) in said
        token = (data_folder / "setup-token").read_text().strip()
        assert f"http://localhost:{port}/setup/{token}/" in said
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request("GET", f"/setup/{token}/")
            answer = connection.getresponse()
            page = answer.read().decode()
        assert answer.status == 200
        assert re.search(r"/static/css/keepwell\.[0-9a-f]{12}\.css", page), "collected files have hashed names"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=40)
    assert process.returncode == 0
