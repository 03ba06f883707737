"""What is read of a broker from outside: CPU of its threads, memory, maps, descriptors, latency."""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benches.broker_process import BrokerProcess
from benches.driver import Connection, call, request

CREATE_TOPICS, LIST_OFFSETS, METADATA = 19, 2, 3
CREATE_ANSWER_S = 120.0
ROUNDS = 20


class Cost(NamedTuple):
    """Of one request: CPU of all the broker's threads, and round trips as the driver sees them."""

    cpu_us: float
    p50_us: float
    p99_us: float


def cpu_us(pid: int) -> float:
    """As exact as the scheduler keeps it; of threads that are gone nothing."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def maps(pid: int) -> int:
    return Path(f"/proc/{pid}/maps").read_text().count("\n")


def anonymous_mib(pid: int) -> float:
    """Memory of its own: what is mapped of files belongs to the page cache."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no RssAnon in /proc: this figure needs Linux")


def idle_cpu_percent(pid: int, seconds: float) -> float:
    before, begin = cpu_us(pid), time.perf_counter()
    time.sleep(seconds)
    return (cpu_us(pid) - before) / 1e4 / (time.perf_counter() - begin)


def measure(
    broker: BrokerProcess, connections: Sequence[Connection], frames: Sequence[bytes], count: int
) -> Cost:
    """`count` requests one after the other, going round the connections and the frames.

    CPU is the first quartile of rounds: what a neighbour on the machine takes is not the broker's.
    """
    times, rounds = [], []
    call(connections[0], frames[0])
    size = max(1, count // ROUNDS)
    for first in range(0, count, size):
        begin = cpu_us(broker.pid)
        for i in range(first, first + size):
            start = time.perf_counter_ns()
            call(connections[i % len(connections)], frames[i % len(frames)])
            times.append(time.perf_counter_ns() - start)
        rounds.append((cpu_us(broker.pid) - begin) / size)
    times.sort()
    rounds.sort()
    p99_us = times[len(times) * 99 // 100] / 1e3
    return Cost(rounds[len(rounds) // 4], statistics.median(times) / 1e3, p99_us)


@contextmanager
def connected(broker: BrokerProcess, count: int = 1) -> Iterator[list[Connection]]:
    opened: list[Connection] = []
    try:
        for _ in range(count):
            opened.append(Connection(broker.port, 1 << 20 if count == 1 else 1 << 12))
        yield opened
    finally:
        for connection in opened:
            connection.close()


def text(name: str) -> bytes:
    return struct.pack(">h", len(name)) + name.encode()


def create_topics(broker: BrokerProcess, names: Sequence[str], partitions: int = 1) -> float:
    """One CreateTopics request; seconds to its answer. RuntimeError when one was refused."""
    body = struct.pack(">i", len(names))
    for name in names:
        body += text(name) + struct.pack(">ihii", partitions, 1, 0, 0)
    connection = Connection(broker.port)
    try:
        connection.socket.settimeout(CREATE_ANSWER_S)
        begin = time.perf_counter()
        frame = request(CREATE_TOPICS, 4, body + struct.pack(">ib", 60_000, 0))
        answer = bytes(call(connection, frame))
        seconds = time.perf_counter() - begin
    finally:
        connection.close()
    pos = 12
    for _ in range(struct.unpack_from(">i", answer, 8)[0]):
        pos += 2 + struct.unpack_from(">h", answer, pos)[0]
        code, size = struct.unpack_from(">hh", answer, pos)
        if code:
            why = answer[pos + 4 : pos + 4 + max(0, size)].decode()
            raise RuntimeError(f"a topic was not made: error {code}: {why}")
        pos += 4 + max(0, size)
    return seconds


def metadata_request(names: Sequence[str] | None) -> bytes:
    """Version 4, which creates nothing; None asks for all topics."""
    body = struct.pack(">i", -1 if names is None else len(names))
    return request(METADATA, 4, body + b"".join(text(name) for name in names or ()) + b"\0")


def list_offsets_request(topic: str, timestamp: int) -> bytes:
    body = struct.pack(">ii", -1, 1) + text(topic) + struct.pack(">iiq", 1, 0, timestamp)
    return request(LIST_OFFSETS, 1, body)
