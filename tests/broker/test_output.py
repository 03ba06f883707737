"""Goal: whatever the socket takes, the peer gets all bytes once and in order.

Method: a socket pair with small buffers, a stand-in transport that records what it is left with,
real spans of a real log. That nothing overtakes what is queued is test_session.py's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kbroker.broker import output

import kcore
from kcore._native.sending import send_parts

KIB = 1024


class FakeTransport:
    def __init__(self) -> None:
        self.left: list[Any] = []
        self.may_pause = False  # writelines() of some Pythons leaves the protocol running

    def writelines(self, parts: list[Any]) -> None:
        self.left += [bytes(part) for part in parts]
        self.may_pause = False

    def write(self, part: Any) -> None:
        self.left.append(bytes(part))
        self.may_pause = True


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    yield near, far
    near.close()
    far.close()


def received(far: socket.socket) -> bytes:
    data = b""
    while True:
        try:
            more = far.recv(1 << 20)
        except BlockingIOError:
            return data
        if not more:
            return data
        data += more


def send(near: socket.socket, far: socket.socket, parts: list[Any]) -> bytes:
    """What the peer gets from the socket, then from the transport."""
    transport: Any = FakeTransport()
    sent = send_parts(near.fileno(), parts)
    if sent < sum(map(len, parts)):
        output.queue(transport, parts, sent)
    return received(far) + b"".join(transport.left)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[kcore.Log]:
    with kcore.Log.open(str(tmp_path / "log")) as log:
        for fill in range(6):
            log.append(kcore.encode([bytes([65 + fill]) * (30 * KIB)]))
        yield log


@pytest.mark.parametrize("parts", [[b"abc"], [b"abc", memoryview(b"def")], [b"", b"x" * 40_000]])
def test_everything_goes_straight_out_when_there_is_room(
    pair: tuple[socket.socket, socket.socket], parts: list[Any]
) -> None:
    assert send_parts(pair[0].fileno(), parts) == sum(map(len, parts))
    assert received(pair[1]) == b"".join(parts)


def test_what_is_left_is_queued_so_that_the_protocol_may_be_paused() -> None:
    for parts in ([b"ab", b"c"], [b"abc"]):
        transport: Any = FakeTransport()
        output.queue(transport, parts, 1)
        assert b"".join(transport.left) == b"bc" and transport.may_pause


@pytest.mark.parametrize("sizes", [[3], [200 * KIB] * 5, [1, 900 * KIB, 1], [10] * 3000])
def test_what_does_not_fit_is_left_to_the_transport(
    pair: tuple[socket.socket, socket.socket], sizes: list[int]
) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)
    parts = [bytes([n % 251]) * size for n, size in enumerate(sizes)]
    assert send(*pair, parts) == b"".join(parts)


@pytest.mark.parametrize("count", [820, 1024, 1500])
def test_more_buffers_than_the_system_gathers(
    pair: tuple[socket.socket, socket.socket], count: int
) -> None:
    parts = [bytes([n % 251]) * 20 for n in range(count)]
    assert send(*pair, parts) == b"".join(parts)


@pytest.mark.parametrize("room", [None, 4 * KIB, 40 * KIB])
def test_spans_between_their_headers(
    pair: tuple[socket.socket, socket.socket],
    log: kcore.Log,
    room: int | None,
) -> None:
    """What was taken is what was counted."""
    if room is not None:
        pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
    log.append(kcore.encode([b"small"]))
    spans = [log.read(offset, 31 * KIB) for offset in range(7)]
    parts: list[Any] = [b"head"]
    for span in spans:
        parts += [span, b"between"]
    expected = b"".join(bytes(part) for part in parts)
    sent = send_parts(pair[0].fileno(), parts)
    assert received(pair[1]) == expected[:sent]
    assert (sent == len(expected)) == (room is None)
    left = output.after(parts, sent)
    assert b"".join(bytes(part) for part in left) == expected[sent:]


def test_a_log_in_memory_is_sent_too(pair: tuple[socket.socket, socket.socket]) -> None:
    with kcore.Log.open("/log", ops=kcore.MemoryOps()) as log:
        log.append(kcore.encode([b"x" * (30 * KIB)]))
        span = log.read(0, 1)
        assert send(*pair, [b"a" * (20 * KIB), span]) == b"a" * (20 * KIB) + bytes(span or b"")


def test_a_lost_peer_is_left_to_the_transport(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].close()
    for size in (3, 100_000):
        assert send_parts(pair[0].fileno(), [b"x" * size]) == 0


def test_a_tail_is_cut_without_copying() -> None:
    data = bytearray(b"0123456789")
    left = output.after([b"ab", data, b"cd"], 5)
    data[9:] = b"X"
    assert b"".join(left) == b"345678Xcd"
    assert output.after([b"ab"], 2) == []
    assert output.after([b"ab"], 0) == [b"ab"]
