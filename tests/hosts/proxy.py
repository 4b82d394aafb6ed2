"""A way to the database that can go silent: what is sent arrives nowhere, and nobody is told."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Proxy:
    """Forwards connections on loopback to the server of `url`. While `silent`, it reads and forwards nothing."""

    def __init__(self, url: str) -> None:
        self.target = urlsplit(url)
        self.silent = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return self.target._replace(
            netloc=f"{self.target.username}@127.0.0.1:{self.listening.getsockname()[1]}"
        ).geturl()

    def close(self) -> None:
        for one in (self.listening, *self.sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listening.accept()
                far = socket.create_connection((self.target.hostname, self.target.port or 5432))
                self.sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self.silent.is_set():
                    return  # the sockets stay open: neither end hears of it
                sink.sendall(data)
            for one in (source, sink):
                one.shutdown(socket.SHUT_RDWR)
