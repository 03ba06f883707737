"""Goal: connections that lie, dawdle, hoard or come in masses cost little; others do not notice.

Method: `kcore serve` as a process of its own, raw sockets against it, its resident memory and CPU
time read from /proc, and a canary connection that must be answered throughout. Deadlines that take
seconds are tested with a manual clock in tests/broker/test_session.py.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.memory import SANITIZED

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc"
)
MIB = 1 << 20
WAIT_S = 60.0


class Target:
    """A broker, how much memory it uses, and a canary."""

    def __init__(self, directory: Path, *, files_max: int | None = None) -> None:
        def limit_files() -> None:
            if files_max is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))

        self.process = subprocess.Popen(
            [sys.executable, "-m", "kbroker.cli.main", "serve", "--listen", "127.0.0.1:0",
             "--data-dir", str(directory / "data")],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            preexec_fn=limit_files,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(":")[2])
        self.canary = self.connect()
        self.check_canary()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)

    def check_canary(self) -> None:
        assert ask(self.canary, api_versions(1))[:4] == struct.pack(">i", 1)

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")
        )

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        self.canary.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=WAIT_S)
        finally:
            self.process.kill()
        return self.process.returncode


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    target = Target(tmp_path)
    yield target
    assert target.stop() == 0


def api_versions(correlation_id: int) -> bytes:
    return struct.pack(">ihhih", 10, 18, 0, correlation_id, -1)


def ask(sock: socket.socket, request: bytes) -> bytes:
    sock.sendall(request)
    (size,) = struct.unpack(">i", sock.recv(4, socket.MSG_WAITALL))
    return sock.recv(size, socket.MSG_WAITALL)


def until_closed(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(65536):
            pass


def test_claimed_lengths_cost_nothing(target: Target) -> None:
    """X03: many sockets each say 100 MiB and send next to nothing of it."""
    before = target.rss_bytes()
    with contextlib.ExitStack() as stack:
        claim = struct.pack(">i", 100 * MIB)
        for _ in range(200):
            sock = stack.enter_context(target.connect())
            ask(sock, api_versions(7))
            sock.sendall(claim + b"\0")
        for _ in range(20):
            target.check_canary()
        assert target.rss_bytes() - before < 16 * MIB
        with target.connect() as late:
            ask(late, api_versions(8))


def test_bytes_that_arrived_are_bounded_in_sum(target: Target) -> None:
    """Half-sent large requests: what is held is what came, and goes with its connection."""
    before = target.rss_bytes()
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(target.connect())
            sock.sendall(struct.pack(">i", 100 * MIB) + bytes(2 * MIB))
        target.check_canary()
        assert target.rss_bytes() - before < 20 * 4 * MIB + 16 * MIB
    deadline = time.monotonic() + WAIT_S
    while target.rss_bytes() - before > 32 * MIB and time.monotonic() < deadline:
        target.check_canary()
    assert target.rss_bytes() - before <= 32 * MIB


def test_bombs_of_tags_close(target: Target) -> None:
    """X01: millions of tagged fields in a header, before anybody was asked who he is."""
    before = target.rss_bytes()
    for count, body in (
        (20_000_000, b"\0\0" * 30_000),
        (30_000, b"\0\0" * 30_000),
        (65, b"\0" * 130),
    ):
        varint = b""
        left = count
        while left > 0x7F:
            varint += bytes([left & 0x7F | 0x80])
            left >>= 7
        frame = struct.pack(">hhih", 18, 3, 1, -1) + varint + bytes([left]) + body
        for _ in range(8):
            with target.connect() as sock:
                sock.sendall(struct.pack(">i", len(frame)) + frame)
                until_closed(sock)
        target.check_canary()
    assert target.rss_bytes() - before < 16 * MIB


def test_readers_of_nothing_cost_a_bounded_queue(target: Target) -> None:
    """X04: clients that ask and ask and never read."""
    before = target.rss_bytes()
    request = api_versions(3) * 2_000
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(target.connect())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(100):
                    sock.send(request)
        for _ in range(50):
            target.check_canary()
        assert target.rss_bytes() - before < (128 if SANITIZED else 64) * MIB


def test_deep_pipelining_is_served_in_full(target: Target) -> None:
    """A million in flight is librdkafka's limit; here as many as a socket takes, all answered."""
    count = 20_000
    with target.connect() as sock:
        sock.setblocking(False)
        out = memoryview(b"".join(api_versions(n) for n in range(count)))
        got = bytearray()
        size = 4 + len(ask_size(target))
        deadline = time.monotonic() + WAIT_S
        while len(got) < count * size and time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                out = out[sock.send(out[:65536]) :] if out else out
            with contextlib.suppress(BlockingIOError):
                got += sock.recv(1 << 20)
        assert len(got) == count * size
        order = [struct.unpack_from(">i", got, n * size + 4)[0] for n in range(count)]
        assert order == list(range(count))


def ask_size(target: Target) -> bytes:
    with target.connect() as sock:
        return ask(sock, api_versions(0))


def test_running_out_of_descriptors_pauses_and_spares_the_files(tmp_path: Path) -> None:
    """X07: more connections than the process may have descriptors."""
    target = Target(tmp_path, files_max=128)
    socks: list[socket.socket] = []
    try:
        for _ in range(150):
            socks.append(target.connect())
        target.check_canary()
        # A topic needs descriptors of its own: they were kept back.
        topic = struct.pack(">ih", 1, 1) + b"t\x01"
        header = struct.pack(">hhih", 3, 4, 9, -1)
        answer = ask(target.canary, struct.pack(">i", len(header + topic)) + header + topic)
        assert b"\0\0" + b"\0\x01t" in answer, "made without an error"
        cpu_before = target.cpu_s()
        target.canary.settimeout(1.0)
        with pytest.raises(TimeoutError):  # a second in which nothing happens
            target.canary.recv(1)
        assert target.cpu_s() - cpu_before < 0.5, "it spins instead of waiting"
        for sock in socks:
            sock.close()
        deadline = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(ConnectionResetError, struct.error), target.connect() as late:
                ask(late, api_versions(1))
                break
            assert time.monotonic() < deadline, "newcomers are never let in again"
    finally:
        for sock in socks:
            sock.close()
        assert target.stop() == 0


def test_a_storm_of_connections_that_vanish(target: Target) -> None:
    before = target.rss_bytes()
    for round_ in range(5):
        socks = [target.connect() for _ in range(100)]
        for n, sock in enumerate(socks):
            if (n + round_) % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                sock.sendall(api_versions(n)[: n % 14])
            sock.close()
        target.check_canary()
    assert target.rss_bytes() - before < 16 * MIB
