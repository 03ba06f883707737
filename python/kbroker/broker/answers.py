"""Answers encoded once: bodies by request, valid for one image of the cluster.

Clients repeat the same few metadata requests, so the request's own bytes are the key: a hit costs
neither decoding nor encoding. Requests are chosen by strangers, hence the bound on bytes.
"""

from __future__ import annotations

from typing import Any

REQUEST_BYTES_MAX = 1 << 10
CACHED_BYTES_MAX = 16 << 20

Key = tuple[int, str, bytes]  # API version, listener, request body


class AnswerCache:
    __slots__ = ("_bodies", "_size", "entries")

    def __init__(self) -> None:
        self._bodies: dict[Key, bytes] = {}
        self._size = 0
        self.entries: dict[tuple[int, int], dict[bytes, Any]] = {}  # topic_entries.py

    def get(self, key: Key) -> bytes | None:
        return self._bodies.get(key)

    def put(self, key: Key, body: bytes) -> None:
        """Keeps `body` if it is worth it; makes room by forgetting everything, which is simple and
        good enough where the hot set is far smaller than the bound."""
        size = len(key[2]) + len(body)
        if len(key[2]) > REQUEST_BYTES_MAX or size > CACHED_BYTES_MAX // 2:
            return
        if self._size + size > CACHED_BYTES_MAX:
            self.clear()
        if key not in self._bodies:
            self._bodies[key] = body
            self._size += size

    def clear(self) -> None:
        self._bodies.clear()
        self._size = 0
