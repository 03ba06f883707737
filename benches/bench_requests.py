"""Requests per second and broker CPU per request: ApiVersions and a 100-byte produce, at 1 and 16
connections, one request in flight on each, against a bare uvloop echo server in the same run.

The client is the same for all: blocking sockets behind one epoll, so that its share is equal. CPU
per request is the steadier figure on a busy machine; the echo server's is the floor of the loop.
"""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from broker_process import running_broker

import kcore

REQUESTS = 2_000
CONNECTIONS = (1, 16)
CPU_SECONDS = 1.0

# Answers every frame with as many bytes as the broker's answer has.
ECHO = """
import asyncio, sys, uvloop
answer = bytes(int(sys.argv[1]))
class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(answer)
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
uvloop.run(main())
"""


def frame(key: int, version: int, body: bytes = b"") -> bytes:
    header = struct.pack(">hhih", key, version, 1, 5) + b"bench"
    return struct.pack(">i", len(header) + len(body)) + header + body


def produce_request() -> bytes:
    batch = bytes(kcore.encode([b"x" * 100]))
    body = struct.pack(">hhi", -1, 1, 1_000) + struct.pack(">ih", 1, 1) + b"t"
    return frame(0, 8, body + struct.pack(">iii", 1, 0, len(batch)) + batch)


REQUEST_KINDS = {"ApiVersions": frame(18, 0), "produce 100 B": produce_request()}


class Load:
    """Connections that each keep one request in flight; `run` does REQUESTS in all."""

    def __init__(self, port: int, request: bytes, connections: int) -> None:
        self.request = request
        self.socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        self.by_fd = {sock.fileno(): sock for sock in self.socks}
        self.poll = select.epoll()
        for sock in self.socks:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.poll.register(sock.fileno(), select.EPOLLIN)

    def run(self, requests: int = REQUESTS) -> None:
        started = finished = 0
        for sock in self.socks:
            sock.sendall(self.request)
            started += 1
        while finished < requests:
            for fd, _ in self.poll.poll():
                sock = self.by_fd[fd]
                sock.recv(65536)
                finished += 1
                if started < requests:
                    sock.sendall(self.request)
                    started += 1

    def close(self) -> None:
        self.poll.close()
        for sock in self.socks:
            sock.close()


def answer_size(port: int, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(request)
        (size,) = struct.unpack(">i", sock.recv(4, socket.MSG_WAITALL))
        sock.recv(size, socket.MSG_WAITALL)
    return 4 + int(size)


def cpu_us(pid: int) -> float:
    """CPU time of all threads of a process, as exact as the scheduler keeps it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000


@pytest.fixture(scope="module")
def broker() -> Iterator[Any]:
    with running_broker() as broker:
        topic = struct.pack(">ih", 1, 1) + b"t\x01"
        answer_size(broker.port, frame(3, 4, topic))  # makes the topic
        yield broker


@pytest.fixture(scope="module")
def echo_ports(broker: Any) -> Iterator[dict[str, tuple[int, int]]]:
    """(port, pid) of an echo server for each kind of request."""
    with ExitStack() as stack:
        found = {}
        for kind, request in REQUEST_KINDS.items():
            size = answer_size(broker.port, request)
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", ECHO, str(size)], stdout=subprocess.PIPE, text=True
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            found[kind] = (int(process.stdout.readline()), process.pid)
        yield found


def target_of(side: str, kind: str, broker: Any, echo_ports: Any) -> tuple[int, int]:
    return (broker.port, broker.pid) if side == "ours" else echo_ports[kind]


@pytest.mark.parametrize("side", ["ours", "uvloop echo"])
@pytest.mark.parametrize("connections", CONNECTIONS)
@pytest.mark.parametrize("kind", REQUEST_KINDS)
def test_requests(
    benchmark: Any, row: Any, broker: Any, echo_ports: Any, kind: str, connections: int, side: str
) -> None:
    name = f"{kind}, {connections} connection{'s' * (connections > 1)}"
    row(name, side, work=REQUESTS, unit="requests")
    port, _ = target_of(side, kind, broker, echo_ports)
    load = Load(port, REQUEST_KINDS[kind], connections)
    benchmark.pedantic(load.run, rounds=5, warmup_rounds=1)
    load.close()


@pytest.mark.parametrize("side", ["ours", "uvloop echo"])
@pytest.mark.parametrize("connections", CONNECTIONS)
@pytest.mark.parametrize("kind", REQUEST_KINDS)
def test_cpu_per_request(
    row: Any, record_value: Any, broker: Any, echo_ports: Any, kind: str, connections: int,
    side: str,
) -> None:  # fmt: skip
    row(f"CPU per {kind}, {connections} connection{'s' * (connections > 1)}", side)
    port, pid = target_of(side, kind, broker, echo_ports)
    load = Load(port, REQUEST_KINDS[kind], connections)
    load.run()
    best = float("inf")
    end = time.monotonic() + CPU_SECONDS
    while time.monotonic() < end:
        before = cpu_us(pid)
        load.run()
        best = min(best, (cpu_us(pid) - before) / REQUESTS)
    load.close()
    record_value(best / 1e6, "seconds")
