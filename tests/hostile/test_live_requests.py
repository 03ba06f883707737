"""A running broker under malformed requests over raw sockets: it closes those, and serves others.

Every length, count and tag size of every API that the broker offers lies, in its oldest and newest
version; frames are cut, bombs of tags are thrown. None of these is a message, so none may change
anything. A canary on a connection of its own is answered throughout, nothing is left hanging, and
the broker's memory stays within 64 MiB of what it was.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from kbroker.base import errors
from kbroker.wire import apis, messages
from kbroker.wire.header import encode_request_header
from kbroker.wire.schema.api_versions import ApiVersionsRequest

from tests.wire import reference

DEADLINE_S = 60.0
RSS_GROWTH_BYTES_MAX = 64 << 20
MIB = 1 << 20


class Offer(NamedTuple):
    """What the broker says it serves of one API."""

    key: int
    name: str
    first: int
    last: int


class Target:
    """`kcore serve` in a process of its own, and raw connections to it."""

    def __init__(self, directory: Path) -> None:
        ready = directory / "ready"
        self.log_path = directory / "log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kbroker.cli.main", "serve", "--listen", "127.0.0.1:0",
                 "--data-dir", str(directory / "data"), "--ready-file", str(ready)],
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + DEADLINE_S
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the broker did not start: {self.log_path.read_text()[-500:]}")
            time.sleep(0.005)  # waits for a process, asserts nothing
        self.port = int(ready.read_text().strip().rpartition(":")[2])
        self.canary = self.connect()
        self.offered = self.versions()
        self.first_rss_bytes = self.rss_bytes()

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)

    def rss_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def versions(self) -> list[Offer]:
        """What the canary is told is on offer, within what has a schema."""
        head = encode_request_header(apis.API_VERSIONS, 3, 1, "canary")
        request = ApiVersionsRequest(client_software_name="canary", client_software_version="1")
        body = messages.encode_request(apis.API_VERSIONS, 3, request)
        self.canary.sendall(frame(head + body))
        answer = receive_frame(self.canary)
        response = messages.decode_response(apis.API_VERSIONS, 3, answer, 4)
        offered = []
        for each in response.api_keys:
            api = apis.APIS[each.api_key]
            first, last = max(each.min_version, api.first), min(each.max_version, api.last)
            offered.append(Offer(each.api_key, api.name, first, last))
        return offered

    def assert_closes(self, data: bytes, what: object) -> None:
        """The connection ends without an answer, soon."""
        with self.connect() as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(data)
            try:
                answer = sock.recv(4096)
            except ConnectionError:
                return
            except TimeoutError:
                pytest.fail(f"{what}: neither answered nor closed")
            assert answer == b"", (what, answer)

    def assert_unharmed(self) -> None:
        """The canary's old connection and a new one both work; memory is as it was."""
        assert self.process.poll() is None, self.log_path.read_text()[-2000:]
        assert self.versions() == self.offered
        with self.connect() as sock:
            sock.sendall(frame(encode_request_header(apis.API_VERSIONS, 0, 2, None)))
            assert receive_frame(sock)[:4] == b"\0\0\0\2"
        grown = self.rss_bytes() - self.first_rss_bytes
        assert grown < RSS_GROWTH_BYTES_MAX, f"{grown >> 20} MiB"


def frame(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def receive_frame(sock: socket.socket) -> bytes:
    (size,) = struct.unpack(">i", receive(sock, 4))
    return receive(sock, size)


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        assert more, "the broker closed the canary's connection"
        data += more
    return data


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    target = Target(tmp_path_factory.mktemp("live"))
    try:
        yield target
    finally:
        target.canary.close()
        target.stop()


def requests(target: Target) -> Iterator[tuple[Offer, int, bytes, reference.Encoder]]:
    """A well-formed request of each offered API in its oldest and newest version."""
    for api in target.offered:
        message = reference.filled(messages.request_class(api.key))
        for version in sorted({api.first, api.last}):
            head = encode_request_header(api.key, version, 7, "hostile")
            yield api, version, head, reference.encode(message, version)


def test_something_is_offered(target: Target) -> None:
    assert apis.API_VERSIONS in {api.key for api in target.offered}


def test_every_length_lies(target: Target) -> None:
    for api, version, head, encoder in requests(target):
        for length in encoder.lengths:
            remaining = len(encoder.data) - length.pos - length.width
            for claim in (2**31 - 1, -2, remaining + 1):
                bad = reference.lie(encoder, length, claim)
                target.assert_closes(frame(head + bad), (api.name, version, length, claim))
        target.assert_unharmed()


def test_cut_bodies(target: Target) -> None:
    """A whole frame whose body ends early, at eight places."""
    for api, version, head, encoder in requests(target):
        body = bytes(encoder.data)
        for size in sorted({len(body) * i // 8 for i in range(8)} - {len(body)}):
            target.assert_closes(frame(head + body[:size]), (api.name, version, size))
    target.assert_unharmed()


def test_bytes_after_the_body_are_ignored(target: Target) -> None:
    """As Kafka does: librdkafka 2.16 leaves three bytes behind a Metadata request."""
    request = ApiVersionsRequest(client_software_name="x", client_software_version="1")
    for version in range(5):
        body = messages.encode_request(apis.API_VERSIONS, version, request)
        with target.connect() as sock:
            head = encode_request_header(apis.API_VERSIONS, version, 6, "hostile")
            sock.sendall(frame(head + body + b"\0\1\2"))
            assert receive_frame(sock)[:6] == b"\0\0\0\6\0\0"
    target.assert_unharmed()


def test_peers_that_leave_in_the_middle_of_a_frame(target: Target) -> None:
    for _, _, head, encoder in requests(target):
        data = frame(head + bytes(encoder.data))
        for size in (1, 3, 4, 9, len(data) - 1):
            with target.connect() as sock:
                sock.sendall(data[:size])
    target.assert_unharmed()


def test_claimed_frames_cost_what_was_sent(target: Target) -> None:
    """A hundred peers claim 8 MiB each and send a kilobyte: memory follows the bytes."""
    head = struct.pack(">i", 8 * MIB) + encode_request_header(apis.API_VERSIONS, 0, 1, None)
    with contextlib.ExitStack() as peers:
        for _ in range(100):
            sock = peers.enter_context(target.connect())
            sock.sendall(head + bytes(1024))
        target.assert_unharmed()
    target.assert_unharmed()


def test_pipelined_requests_are_answered_in_order(target: Target) -> None:
    """Two thousand requests in one go, answers read afterwards."""
    with target.connect() as sock:
        ask = [frame(encode_request_header(apis.API_VERSIONS, 0, i, None)) for i in range(2000)]
        sock.sendall(b"".join(ask))
        for i in range(2000):
            assert receive_frame(sock)[:4] == struct.pack(">i", i)
    target.assert_unharmed()


@pytest.mark.parametrize("size", [2**31 - 1, -(2**31), -1, 0, 1, 9, 200 * MIB])
def test_impossible_frame_lengths(target: Target, size: int) -> None:
    target.assert_closes(struct.pack(">i", size) + bytes(64), size)
    target.assert_unharmed()


@pytest.mark.parametrize("key, version", [(4, 0), (-1, 0), (999, 3), (3, 99), (3, -1), (0, 14)])
def test_unknown_apis_and_versions(target: Target, key: int, version: int) -> None:
    head = struct.pack(">hhih", key, version, 1, -1)
    target.assert_closes(frame(head + bytes(100)), (key, version))
    target.assert_unharmed()


def test_tag_bombs(target: Target) -> None:
    """Headers and bodies with millions of tags, and with counts that claim millions."""
    head = encode_request_header(apis.API_VERSIONS, 3, 1, None)[:-1]
    empty_tags = b"\x01\x00" * (2 * MIB)
    bombs = [
        reference.varint(20_000_000) + empty_tags,
        reference.varint(65) + b"".join(reference.varint(i) + b"\0" for i in range(65)),
        reference.varint(2**32 - 1),
        b"\x01\x00" + reference.varint(2**31) + bytes(MIB),
        b"\xff" * 64,
    ]
    body = messages.encode_request(apis.API_VERSIONS, 3, ApiVersionsRequest())[:-1]
    for bomb in bombs:
        for _ in range(8):
            target.assert_closes(frame(head + bomb), "tags of the header")
            target.assert_closes(frame(head + b"\0" + body + bomb), "tags of the body")
    target.assert_unharmed()


def test_element_bomb(target: Target) -> None:
    """Millions of elements that are really there, one byte or two each."""
    for api in target.offered:
        if api.key == apis.METADATA:
            head = encode_request_header(api.key, api.first, 1, None)
            count = 3 * MIB
            for _ in range(4):
                data = head + struct.pack(">i", count) + bytes(2 * count)
                target.assert_closes(frame(data), "elements")
    target.assert_unharmed()


def test_client_ids_of_every_kind(target: Target) -> None:
    """Odd but legal names are answered; what is no string closes."""
    for name in (b"", b"x" * 32767, b"../../etc", b"a\0b", "\u2603".encode()):
        with target.connect() as sock:
            head = struct.pack(">hhih", apis.API_VERSIONS, 0, 5, len(name)) + name
            sock.sendall(frame(head))
            assert receive_frame(sock)[:4] == struct.pack(">i", 5)
    for size, name in ((-2, b""), (4, b"abc"), (2, b"\xff\xfe"), (32767, b"x")):
        head = struct.pack(">hhih", apis.API_VERSIONS, 0, 5, size) + name
        target.assert_closes(frame(head), (size, name))
    target.assert_unharmed()


def test_random_messages_are_answered(target: Target) -> None:
    """Well-formed requests with senseless values: each gets an answer of its API, none an
    internal error, and the connection stays open."""
    rng = random.Random(20)
    sent = 0
    with target.connect() as sock:
        while sent < 1500:
            api = rng.choice(target.offered)
            version = rng.randint(api.first, api.last)
            message = reference.random_message(messages.request_class(api.key), rng)
            if api.key == apis.PRODUCE:
                message.acks = rng.choice([-1, 1])  # 0 has no answer
            try:
                body = messages.encode_request(api.key, version, message)
            except ValueError:  # null in a version without it
                continue
            sent += 1
            what = (api.name, version, message)
            sock.sendall(frame(encode_request_header(api.key, version, sent, "random") + body))
            answer = receive_frame(sock)
            assert answer[:4] == struct.pack(">i", sent), what
            pos = 5 if messages.has_flexible_header(api.key, version) else 4
            response = messages.decode_response(api.key, version, answer, pos)
            text = repr(response).replace(")", ",")
            assert f"error_code={errors.UNKNOWN_SERVER_ERROR}," not in text, (what, response)
    target.assert_unharmed()
