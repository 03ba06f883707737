"""Latencies over bare sockets: one request at a time, requests at a fixed rate, a parked fetch that
a produce wakes, and records on their way from producer to consumer.

At a fixed rate a latency begins when its request was due, not when it could be sent: a broker that
stalls pays for all that had to wait (no coordinated omission).
"""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benches import driver
from benches.compare import fetched, payload, protocol, streams
from benches.compare.model import Cell, Contender, Sample, Unmeasurable, WrongCount

PR_SET_TIMERSLACK = 29
PARK_S = 0.002  # a broker reads a fetch and parks it well within that
WAKES_MIN, WAKES_MAX = 2, 200
DRAIN_S = 20.0


def exact_timers() -> None:
    """The kernel may end this thread's waits 50 us late unless it is asked not to."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Of one round; the largest stands for a percentile that so few values do not have."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
    found = {key: ordered[min(last, int(len(ordered) * share))] for key, share in shares.items()}
    return {**found, "max": ordered[last]}


def round_trips(contender: Contender, cell: Cell) -> Sample:
    frames = payload.produce_frames(cell)
    with counted(contender, cell, frames) as found, sockets(contender.port, 1) as (sock,):
        begin, cpu = time.perf_counter(), contender.cpu_seconds()
        now, end = begin, begin + cell.seconds
        while now < end:
            before = now
            sock.sendall(frames.frames[0])
            receive_exactly(sock, frames.answer_bytes)
            now = time.perf_counter()
            found.append(now - before)
        cpu = contender.cpu_seconds() - cpu
    return sample_of(found, now - begin, frames, cpu)


@contextlib.contextmanager
def counted(contender: Contender, cell: Cell, frames: payload.Frames) -> Iterator[list[float]]:
    """The list of the block's latencies: the log must have grown by as many requests."""
    before = records_in(contender, cell)
    found: list[float] = []
    yield found
    grown = records_in(contender, cell) - before
    if contender.is_broker and grown != len(found) * frames.records:
        raise WrongCount(f"{len(found)} requests were answered, the log grew by {grown} records")


def records_in(contender: Contender, cell: Cell) -> int:
    if not contender.is_broker:
        return 0
    return sum(contender.end_offsets(cell.topic, cell.partitions))


def sample_of(found: Sequence[float], seconds: float, frames: payload.Frames, cpu: float) -> Sample:
    count = len(found)
    extra = {**percentiles(found), "requests": float(count)}
    return Sample(seconds, count * frames.payload, count * frames.records, cpu, extra)


def fixed_rate(contender: Contender, cell: Cell) -> Sample:
    """Produce requests at `cell.rate`, as many unanswered as the broker leaves so."""
    frames = payload.produce_frames(cell)
    exact_timers()
    with counted(contender, cell, frames) as found, sockets(contender.port, 1) as (sock,):
        pace = Pace(sock, frames, cell.rate, int(cell.rate * cell.seconds))
        got_bytes = 0
        scratch = bytearray(1 << 20)
        cpu = contender.cpu_seconds()
        pace.begin()
        while len(found) < pace.count:
            if not select.select([sock], [], [], pace.send_due())[0]:
                pace.check()
                continue
            got_bytes += recv_some(sock, scratch)
            now = time.perf_counter()
            while len(found) < got_bytes // frames.answer_bytes:
                found.append(now - pace.due_at(len(found)))
        cpu = contender.cpu_seconds() - cpu
        return sample_of(found, time.perf_counter() - pace.first, frames, cpu)


@dataclass(slots=True)
class Pace:
    """Sends request n when it is due, or as soon after that as it can."""

    sock: socket.socket
    frames: payload.Frames
    rate: float
    count: int
    first: float = 0.0
    sent: int = 0

    def begin(self) -> None:
        self.first = time.perf_counter() + 0.005

    def due_at(self, number: int) -> float:
        return self.first + number / self.rate

    def send_due(self) -> float:
        """Sends what is due by now; seconds until the next is, or some when all have been sent."""
        now = time.perf_counter()
        due = min(self.count, int((now - self.first) * self.rate) + 1) if now >= self.first else 0
        if due > self.sent:
            self.sock.sendall(self.frames.frames[0] * (due - self.sent))
            self.sent = due
        if self.sent == self.count:
            return 1.0
        return max(0.0, self.due_at(self.sent) - time.perf_counter())

    def check(self) -> None:
        if time.perf_counter() > self.due_at(self.count) + DRAIN_S:
            raise RuntimeError(f"answers are missing {DRAIN_S:.0f} s after the last request")


@dataclass(slots=True)
class Consumer:
    """Fetches from the end of a topic of one partition, one request always at the broker."""

    connection: driver.Connection
    request: payload.FetchFrame
    offsets: list[int] = field(default_factory=lambda: [0])

    def ask(self) -> None:
        self.connection.send(bytes(self.request.at(self.offsets)))

    def take(self) -> int:
        """How many records came."""
        return fetched.read_answer(self.connection.receive(), self.request.topic, self.offsets)


@contextlib.contextmanager
def consuming(contender: Contender, cell: Cell) -> Iterator[Consumer]:
    if not contender.is_broker:
        raise Unmeasurable("keeps no records")
    (end,) = contender.end_offsets(cell.topic, 1)
    request = payload.FetchFrame(cell.topic, 1, cell.fetch_bytes, protocol.FETCH_WAIT_MS)
    with driver.connections(contender.port, 1) as (connection,):
        yield Consumer(connection, request, [end])


def end_to_end(contender: Contender, cell: Cell) -> Sample:
    """From when a record was due to when the consumer that waits for it has it."""
    frames = payload.produce_frames(cell)
    exact_timers()
    with (
        consuming(contender, cell) as consumer,
        sockets(contender.port, 1) as (sock,),
    ):
        pace = Pace(sock, frames, cell.rate, int(cell.rate * cell.seconds))
        found: list[float] = []
        acked_bytes = 0
        scratch = bytearray(1 << 16)
        cpu = contender.cpu_seconds()
        consumer.ask()
        pace.begin()
        both = [sock, consumer.connection.socket]
        while len(found) < pace.count:
            ready, _, _ = select.select(both, [], [], pace.send_due())
            if not ready:
                pace.check()
            if consumer.connection.socket in ready:
                count = consumer.take()
                now = time.perf_counter()
                found += [now - pace.due_at(len(found) + number) for number in range(count)]
                consumer.ask()
            if sock in ready:
                acked_bytes += recv_some(sock, scratch)
        cpu = contender.cpu_seconds() - cpu
        if len(found) != pace.count or acked_bytes > pace.count * frames.answer_bytes:
            raise WrongCount(f"{len(found)} records fetched of {pace.count}")
        return sample_of(found, time.perf_counter() - pace.first, frames, cpu)


def wakes(contender: Contender, cell: Cell) -> Sample:
    """From sending a produce to having the answer of the fetch that waited for it."""
    frames = payload.produce_frames(cell)
    with (
        consuming(contender, cell) as consumer,
        sockets(contender.port, 1) as (sock,),
    ):
        found: list[float] = []
        begin, cpu = time.perf_counter(), contender.cpu_seconds()
        while len(found) < WAKES_MIN or (
            len(found) < WAKES_MAX and time.perf_counter() < begin + cell.seconds
        ):
            consumer.ask()
            time.sleep(PARK_S)
            before = time.perf_counter()
            sock.sendall(frames.frames[0])
            count = consumer.take()
            found.append(time.perf_counter() - before)
            if count != frames.records:
                raise WrongCount(f"woken with {count} records for {frames.records}")
            receive_exactly(sock, frames.answer_bytes)
        cpu = contender.cpu_seconds() - cpu
        return sample_of(found, time.perf_counter() - begin, frames, cpu)


@contextlib.contextmanager
def sockets(port: int, count: int) -> Iterator[list[socket.socket]]:
    opened = streams.connect(port, count)
    try:
        yield opened
    finally:
        for sock in opened:
            sock.close()


def receive_exactly(sock: socket.socket, size: int) -> None:
    while size:
        got = len(sock.recv(size))
        if not got:
            raise RuntimeError("the broker closed the connection")
        size -= got


def recv_some(sock: socket.socket, scratch: bytearray) -> int:
    got = sock.recv_into(scratch)
    if got == 0:
        raise RuntimeError("the broker closed the connection")
    return got


LATENCIES: dict[str, Callable[[Contender, Cell], Sample]] = {
    "round_trip": round_trips,
    "tail": fixed_rate,
    "end_to_end": end_to_end,
    "wake": wakes,
}
