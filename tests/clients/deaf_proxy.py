"""A TCP proxy in front of a broker that can lose answers: requests arrive, nothing comes back.

That is what a producer sees when a broker dies between an append and its answer. Connections that
are open when `mute` is called are muted for good; later ones work, until `cut` ends the muted ones.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


class DeafProxy:
    def __init__(self) -> None:
        self._upstream: tuple[str, int] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._muted: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_exc: object) -> None:
        # shutdown wakes a thread that waits in accept or recv; close alone would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            ends = [end for pair in self._pairs for end in pair]
        for end in ends:
            _shut(end)
        for thread in self._threads:
            thread.join(60)
        for end in ends:
            end.close()

    def lead_to(self, bootstrap: str) -> None:
        """Who is connected from now on talks to that broker. Nobody may come before."""
        host, _, port = bootstrap.rpartition(":")
        self._upstream = host, int(port)

    def mute(self) -> None:
        with self._lock:
            self._muted |= {client for client, _ in self._pairs}

    def cut(self) -> None:
        with self._lock:
            muted = list(self._muted)
        for client in muted:
            _shut(client)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            assert self._upstream is not None
            try:
                broker = socket.create_connection(self._upstream, timeout=60)
            except OSError:
                client.close()
                continue
            broker.settimeout(None)
            with self._lock:
                self._pairs.append((client, broker))
            self._start(self._pump, client, broker, None)
            self._start(self._pump, broker, client, client)

    def _pump(
        self, source: socket.socket, sink: socket.socket, client: socket.socket | None
    ) -> None:
        """Moves bytes until an end. `client`: these are answers, which may have to be lost."""
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if client is None or client not in self._muted:
                    sink.sendall(data)
        if client is None or client not in self._muted:
            _shut(sink)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
