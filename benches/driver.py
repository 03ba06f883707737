"""A client of bare sockets that replays prepared requests: what it costs is the kernel's, so what
is measured is the broker. And the peer of the same kind: a server that reads the same frames, does
nothing with them and answers as many bytes, which no broker can be faster than.

`python driver.py REPLY_BYTES` is that server; it prints its port.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

BUFFER_BYTES = 4 << 20
TIMEOUT_S = 20.0

PRODUCE, FETCH = 0, 1
PRODUCE_VERSION, FETCH_VERSION, SESSIONS_VERSION = 7, 4, 11


def request(key: int, version: int, body: bytes) -> bytes:
    header = struct.pack(">hhih5s", key, version, 7, 5, b"bench")
    return struct.pack(">i", len(header) + len(body)) + header + body


def _text(name: str) -> bytes:
    return struct.pack(">h", len(name)) + name.encode()


def produce_request(topic: str, batch: bytes, *, index: int = 0, acks: int = 1) -> bytes:
    body = struct.pack(">hhi", -1, acks, 30_000) + struct.pack(">i", 1) + _text(topic)
    body += struct.pack(">iii", 1, index, len(batch)) + batch
    return request(PRODUCE, PRODUCE_VERSION, body)


def fetch_request(
    topic: str, offset: int, max_bytes: int, *, index: int = 0, max_wait_ms: int = 0
) -> bytes:
    body = struct.pack(">iiiib", -1, max_wait_ms, 1, 100 << 20, 0) + struct.pack(">i", 1)
    body += _text(topic) + struct.pack(">iiqi", 1, index, offset, max_bytes)
    return request(FETCH, FETCH_VERSION, body)


def fetch_many_request(
    topic: str,
    offsets: Mapping[int, int],
    *,
    session: tuple[int, int] = (0, -1),
    max_wait_ms: int = 0,
    partition_bytes: int = 1 << 20,
) -> bytes:
    """`offsets`: by partition; in a session (its id and epoch) only those that have changed."""
    body = struct.pack(">iiiibii", -1, max_wait_ms, 1, 50 << 20, 0, *session)
    body += struct.pack(">i", 1 if offsets else 0)
    if offsets:
        body += _text(topic) + struct.pack(">i", len(offsets))
        for index, offset in offsets.items():
            body += struct.pack(">iiqqi", index, -1, offset, -1, partition_bytes)
    return request(FETCH, SESSIONS_VERSION, body + struct.pack(">i", 0) + _text(""))


def session_id(answer: memoryview) -> int:
    """Of the answer to a `fetch_many_request`; RuntimeError on an error code."""
    error_code, found = struct.unpack_from(">hi", answer, 4 + 4)
    if error_code:
        raise RuntimeError(f"fetch failed with error {error_code}")
    return int(found)


def produced_offset(answer: memoryview, topic: str) -> int:
    """Base offset of a one-partition Produce v7 answer; RuntimeError on any error code."""
    error_code, base_offset = struct.unpack_from(">hq", answer, 4 + 4 + 2 + len(topic) + 4 + 4)
    if error_code:
        raise RuntimeError(f"produce failed with error {error_code}")
    return int(base_offset)


def fetched_bytes(answer: memoryview, topic: str) -> int:
    """Bytes of records of a one-partition Fetch v4 answer; RuntimeError on any error code."""
    pos = 4 + 4 + 4 + 2 + len(topic) + 4
    _, error_code, _, _, aborted = struct.unpack_from(">ihqqi", answer, pos)
    if error_code:
        raise RuntimeError(f"fetch failed with error {error_code}")
    (size,) = struct.unpack_from(">i", answer, pos + 26 + max(0, aborted) * 16)
    return int(size)


class Connection:
    """One blocking socket. `receive` returns an answer without its length; it is valid until the
    next one."""

    def __init__(self, port: int, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(buffer_bytes)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    def send(self, frame: bytes) -> None:
        self.socket.sendall(frame)

    def receive(self) -> memoryview:
        self._fill(4)
        (size,) = struct.unpack_from(">i", self._buffer, self._start)
        self._fill(4 + size)
        answer = self._view[self._start + 4 : self._start + 4 + size]
        self._start += 4 + size
        return answer

    def _fill(self, count: int) -> None:
        if self._end - self._start >= count:
            return
        if self._start + count > len(self._buffer):
            kept = self._end - self._start
            old = self._view
            if count > len(self._buffer):
                self._buffer = bytearray(2 * count)
                self._view = memoryview(self._buffer)
            self._view[:kept] = old[self._start : self._end]
            self._start, self._end = 0, kept
        while self._end - self._start < count:
            got = self.socket.recv_into(self._view[self._end :])
            if got == 0:
                raise RuntimeError("the server closed the connection")
            self._end += got

    def close(self) -> None:
        self.socket.close()


def call(connection: Connection, frame: bytes) -> memoryview:
    connection.send(frame)
    return connection.receive()


def pipeline(connection: Connection, frame: bytes, count: int, in_flight: int) -> None:
    """`count` times the same request, at most `in_flight` of them unanswered."""
    ahead = min(in_flight, count)
    for _ in range(ahead):
        connection.send(frame)
    for done in range(count):
        connection.receive()
        if done + ahead < count:
            connection.send(frame)


def one_each(connections: Sequence[Connection], frame: bytes, count: int) -> None:
    """`count` requests in all, one in flight on each connection."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(frame)
        left = count - len(connections)
        waiting = len(connections)
        while waiting:
            for key, _ in selector.select(TIMEOUT_S):
                connection = key.data
                connection.receive()
                if left > 0:
                    left -= 1
                    connection.send(frame)
                else:
                    waiting -= 1
                    selector.unregister(connection.socket)


@contextlib.contextmanager
def connections(
    port: int, count: int, buffer_bytes: int = BUFFER_BYTES
) -> Iterator[list[Connection]]:
    opened = [Connection(port, buffer_bytes) for _ in range(count)]
    try:
        yield opened
    finally:
        for connection in opened:
            connection.close()


@contextlib.contextmanager
def loopback_peer(reply_bytes: int) -> Iterator[int]:
    """The do-nothing server in a process of its own; its port."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), str(reply_bytes)], stdout=subprocess.PIPE
    )
    try:
        if process.stdout is None:
            raise RuntimeError("no pipe to the peer")
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(timeout=TIMEOUT_S)
        if process.stdout is not None:
            process.stdout.close()


def serve(reply_bytes: int) -> None:
    """Answers every frame with `reply_bytes` zeros behind a length. One thread, blocking writes."""
    reply = struct.pack(">i", reply_bytes) + bytes(reply_bytes)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    scratch = memoryview(bytearray(1 << 20))
    missing: dict[socket.socket, int] = {}  # bytes of the current frame still to come
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    accepted, _ = listener.accept()
                    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(accepted, selectors.EVENT_READ)
                    missing[accepted] = 0
                    continue
                peer = key.fileobj
                if not isinstance(peer, socket.socket):
                    continue
                if not _serve_one(peer, scratch, missing, reply):
                    selector.unregister(peer)
                    del missing[peer]
                    peer.close()


def _serve_one(
    peer: socket.socket, scratch: memoryview, missing: dict[socket.socket, int], reply: bytes
) -> bool:
    try:
        got = peer.recv_into(scratch)
        if got == 0:
            return False
        pos = 0
        answers = 0
        left = missing[peer]
        while pos < got:
            if left == 0:
                if got - pos < 4:  # a length cut in two: take the rest of it now
                    scratch[: got - pos] = bytes(scratch[pos:got])
                    got -= pos
                    pos = 0
                    got += peer.recv_into(scratch[got:], 4 - got, socket.MSG_WAITALL)
                (left,) = struct.unpack_from(">i", scratch, pos)
                pos += 4
            step = min(left, got - pos)
            pos += step
            left -= step
            answers += left == 0
        missing[peer] = left
        for _ in range(answers):
            peer.sendall(reply)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    serve(int(sys.argv[1]))
