"""Goal: whatever the socket takes, the peer gets all bytes once and in order.

Method: a socket pair with small buffers, a stand-in transport that records what it is left with,
real spans of a real log for the sendfile path.
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
    def __init__(self, queued: int = 0) -> None:
        self.queued = queued
        self.left: list[Any] = []
        self.may_pause = False  # writelines() of some Pythons leaves the protocol running

    def get_write_buffer_size(self) -> int:
        return self.queued

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


def send(near: socket.socket, far: socket.socket, parts: list[Any], queued: int = 0) -> bytes:
    """What the peer gets from the socket, then from the transport."""
    transport: Any = FakeTransport(queued)
    output.write(transport, near, parts, sum(map(len, parts)))
    return received(far) + b"".join(transport.left)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[kcore.Log]:
    with kcore.Log.open(str(tmp_path / "log")) as log:
        for fill in range(6):
            log.append(kcore.encode([bytes([65 + fill]) * (30 * KIB)]))
        yield log


def test_everything_goes_straight_out_when_there_is_room(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    transport: Any = FakeTransport()
    output.write(transport, pair[0], [b"abc", memoryview(b"def")], 6)
    assert received(pair[1]) == b"abcdef" and transport.left == []


def test_nothing_overtakes_what_is_queued(pair: tuple[socket.socket, socket.socket]) -> None:
    transport: Any = FakeTransport(queued=1)
    output.write(transport, pair[0], [b"ab", b"c"], 3)
    assert received(pair[1]) == b"" and transport.left == [b"ab", b"c"]
    assert transport.may_pause


@pytest.mark.parametrize("sizes", [[3], [200 * KIB] * 5, [1, 900 * KIB, 1], [10] * 3000])
def test_what_does_not_fit_is_left_to_the_transport(
    pair: tuple[socket.socket, socket.socket], sizes: list[int]
) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)
    parts = [bytes([n % 251]) * size for n, size in enumerate(sizes)]
    assert send(*pair, parts) == b"".join(parts)


def test_more_buffers_than_the_system_gathers(pair: tuple[socket.socket, socket.socket]) -> None:
    parts = [bytes([n % 251]) * 20 for n in range(1500)]
    assert send(*pair, parts) == b"".join(parts)


@pytest.mark.parametrize("room", [None, 4 * KIB, 40 * KIB])
@pytest.mark.parametrize("sendfile_bytes_max", [0, 512 * KIB])
def test_spans_between_their_headers(
    pair: tuple[socket.socket, socket.socket],
    log: kcore.Log,
    room: int | None,
    sendfile_bytes_max: int,
) -> None:
    """Sent from the file, or gathered from the mapping: what was taken is what was counted."""
    if room is not None:
        pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
    log.append(kcore.encode([b"small"]))
    spans = [log.read(offset, 31 * KIB) for offset in range(7)]
    parts: list[Any] = [b"head"]
    for span in spans:
        parts += [span, b"between"]
    expected = b"".join(bytes(part) for part in parts)
    sent = send_parts(pair[0].fileno(), parts, sendfile_bytes_max)
    assert received(pair[1]) == expected[:sent]
    assert (sent == len(expected)) == (room is None)
    left = output._after(parts, sent)
    assert b"".join(bytes(part) for part in left) == expected[sent:]


def test_memory_has_no_file_to_send_from(pair: tuple[socket.socket, socket.socket]) -> None:
    with kcore.Log.open("/log", ops=kcore.MemoryOps()) as log:
        log.append(kcore.encode([b"x" * (30 * KIB)]))
        span = log.read(0, 1)
        assert send(*pair, [b"a" * (20 * KIB), span]) == b"a" * (20 * KIB) + bytes(span or b"")


def test_a_lost_peer_is_left_to_the_transport(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].close()
    transport: Any = FakeTransport()
    output.write(transport, pair[0], [b"abc"], 3)
    assert transport.left == [b"abc"] and transport.may_pause


def test_a_tail_is_cut_without_copying() -> None:
    data = bytearray(b"0123456789")
    left = output._after([b"ab", data, b"cd"], 5)
    data[9:] = b"X"
    assert b"".join(left) == b"345678Xcd"
    assert output._after([b"ab"], 2) == []
    assert output._after([b"ab"], 0) == [b"ab"]
