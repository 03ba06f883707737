"""The driver of bare sockets: replays prepared requests, so that a client costs next to nothing and
what is measured is the broker. `bare loopback` says how fast this driver is with no broker at all.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from benches import driver
from benches.compare import fetched, latency, lives, payload, proc, streams
from benches.compare.contenders import Loopback
from benches.compare.model import GIB, Cell, Contender, Sample, Unmeasurable, WrongCount
from benches.compare.protocol import FETCH_WAIT_MS

WARM_UP_S = 0.3
PASS_S = 10.0
WARMED_UP = ("produce", "fetch", "round_trip", "tail", "end_to_end", "wake")
# What the loopback can stand for: it answers the frames of these.
ANSWERED_PRODUCES, ANSWERED_FETCHES = ("produce", "round_trip", "tail"), ("fetch", "catch_up")


def missing() -> str:
    return ""


def prepare(contender: Contender, cell: Cell) -> None:
    """Fills the topic of a cell that reads, and runs an unmeasured round: connections, files and
    code that a JIT has not met yet are nobody's figure."""
    if isinstance(contender, Loopback):
        _teach(contender, cell)
    elif cell.fill_bytes:
        lives.fill(contender, cell)
    answered = contender.is_broker or cell.kind in ANSWERED_PRODUCES + ANSWERED_FETCHES
    if cell.kind in WARMED_UP and answered:
        measure(contender, replace(cell, seconds=WARM_UP_S))


def _teach(loopback: Loopback, cell: Cell) -> None:
    if cell.kind in ANSWERED_PRODUCES:
        frames = payload.produce_frames(cell)
        loopback.answer(frames.size, frames.answer_bytes)
    elif cell.kind in ANSWERED_FETCHES:
        frames = _loopback_fetch(cell)
        loopback.answer(frames.size, frames.answer_bytes)


def measure(contender: Contender, cell: Cell) -> Sample:
    pinned = proc.same_core((contender.pid,)) if cell.same_core else contextlib.nullcontext()
    with pinned:
        return KINDS[cell.kind](contender, cell)


def produce(contender: Contender, cell: Cell) -> Sample:
    """`cell.connections` producers with `cell.in_flight` requests each."""
    frames = payload.produce_frames(cell)
    most = max(cell.connections, cell.bytes_max // frames.payload)
    before = latency.records_in(contender, cell)
    with latency.sockets(contender.port, cell.connections) as opened:
        windows = [streams.Window(sock, frames, cell.in_flight) for sock in opened]
        cpu = contender.cpu_seconds()
        took = streams.replay(windows, streams.Limits(cell.seconds, most))
        cpu = contender.cpu_seconds() - cpu
    requests = sum(window.sent for window in windows)
    records = requests * frames.records
    if contender.is_broker and latency.records_in(contender, cell) - before != records:
        raise WrongCount(f"{records} records were acknowledged, the log grew by another count")
    return Sample(took, requests * frames.payload, records, cpu, {"requests": float(requests)})


def fetch(contender: Contender, cell: Cell) -> Sample:
    """`cell.connections` consumers, each through the whole log again and again."""
    if not contender.is_broker:
        return _fetch_loopback(contender, cell)
    batch = payload.batch_of(cell)
    ends = contender.end_offsets(cell.topic, cell.partitions)
    with _readers(contender, cell, ends) as readers:
        cpu = contender.cpu_seconds()
        begin = time.perf_counter()
        answers, records = _read_on(readers, cell, batch)
        took = time.perf_counter() - begin
        cpu = contender.cpu_seconds() - cpu
    if not records:
        raise WrongCount("nothing was fetched")
    payload_bytes = records * cell.value_bytes
    return Sample(took, payload_bytes, records, cpu, {"requests": float(answers)})


def _read_on(readers: list[Reader], cell: Cell, batch: payload.Batch) -> tuple[int, int]:
    """Until the cell's time or bytes are over: (answers, records)."""
    answers = records = 0
    end = time.perf_counter() + cell.seconds
    by_fd = {reader.connection.socket.fileno(): reader for reader in readers}
    with select.epoll() as poll:
        for fd, reader in by_fd.items():
            poll.register(fd, select.EPOLLIN)
            reader.ask()
        while by_fd:
            # The only one is waited for where its answer is read.
            for fd in list(by_fd) if len(by_fd) == 1 else _ready(poll):
                records += by_fd[fd].take(batch)
                answers += 1
                if records * cell.value_bytes < cell.bytes_max and time.perf_counter() < end:
                    by_fd[fd].ask()
                else:
                    poll.unregister(fd)
                    del by_fd[fd]
    return answers, records


def _ready(poll: select.epoll) -> list[int]:
    found = [fd for fd, _ in poll.poll(streams.TIMEOUT_S)]
    if not found:
        raise RuntimeError(f"no answer for {streams.TIMEOUT_S:.0f} s")
    return found


def request_of(cell: Cell) -> payload.FetchFrame:
    return payload.FetchFrame(cell.topic, cell.partitions, cell.fetch_bytes, FETCH_WAIT_MS)


class Reader:
    """One consumer: offsets go on where the answer ended, and back to 0 at the end."""

    def __init__(self, connection: driver.Connection, cell: Cell, ends: list[int]) -> None:
        self.connection = connection
        self.request = payload.FetchFrame(
            cell.topic, cell.partitions, cell.fetch_bytes, FETCH_WAIT_MS
        )
        self.ends = ends
        self.offsets = [0] * len(ends)
        self.passes = 0

    def ask(self) -> None:
        self.connection.socket.sendall(self.request.at(self.offsets))

    def take(self, batch: payload.Batch) -> int:
        answer = self.connection.receive()
        count = fetched.read_answer(answer, self.request.topic, self.offsets, batch)
        if self.offsets == self.ends:
            self.offsets = [0] * len(self.ends)
            self.passes += 1
        elif not count:
            raise WrongCount(f"nothing at {self.offsets}, the log ends at {self.ends}")
        return count


@contextlib.contextmanager
def _readers(contender: Contender, cell: Cell, ends: list[int]) -> Iterator[list[Reader]]:
    buffer = max(driver.BUFFER_BYTES, 2 * cell.partitions * cell.fetch_bytes)
    with driver.connections(contender.port, cell.connections, buffer) as opened:
        yield [Reader(connection, cell, list(ends)) for connection in opened]


def _loopback_fetch(cell: Cell) -> payload.Frames:
    batch = payload.batch_of(cell)
    count = max(1, cell.fetch_bytes // len(batch.data))
    request = request_of(cell)
    answer = request.answer_bytes(count * len(batch.data))
    records = count * batch.records * cell.partitions
    return payload.Frames((bytes(request.frame),), answer, records, records * cell.value_bytes)


def _fetch_loopback(contender: Contender, cell: Cell) -> Sample:
    frames = _loopback_fetch(cell)
    most = max(cell.connections, cell.bytes_max // frames.payload)
    with latency.sockets(contender.port, cell.connections) as opened:
        windows = [streams.Window(sock, frames, 1) for sock in opened]
        cpu = contender.cpu_seconds()
        took = streams.replay(windows, streams.Limits(cell.seconds, most))
        cpu = contender.cpu_seconds() - cpu
    requests = sum(window.sent for window in windows)
    return Sample(took, requests * frames.payload, requests * frames.records, cpu,
                  {"requests": float(requests)})  # fmt: skip


def catch_up(contender: Contender, cell: Cell) -> Sample:
    """Once through the whole log from the page cache, and once from the disk; as far as a slow one
    gets in PASS_S."""
    if not contender.is_broker:
        return _fetch_loopback(contender, cell)
    sample = _one_pass(contender, cell)
    with contextlib.suppress(Unmeasurable):
        contender.drop_page_cache()
        cold = _one_pass(contender, cell)
        sample.extra["cold_rate"] = cold.bytes / cold.seconds
        sample.extra["cold_cpu"] = cold.cpu_seconds * GIB / cold.bytes
    return sample


def _one_pass(contender: Contender, cell: Cell) -> Sample:
    batch = payload.batch_of(cell)
    ends = contender.end_offsets(cell.topic, cell.partitions)
    with _readers(contender, cell, ends) as (reader, *_):
        cpu = contender.cpu_seconds()
        begin = time.perf_counter()
        records = 0
        while not reader.passes and time.perf_counter() - begin < PASS_S:
            reader.ask()
            records += reader.take(batch)
        took = time.perf_counter() - begin
        cpu = contender.cpu_seconds() - cpu
    if reader.passes and records != sum(ends):
        raise WrongCount(f"{records} records fetched of {sum(ends)}")
    return Sample(took, records * cell.value_bytes, records, cpu)


KINDS: dict[str, Callable[[Contender, Cell], Sample]] = {
    "produce": produce,
    "fetch": fetch,
    "catch_up": catch_up,
    **latency.LATENCIES,
    **lives.LIVES,
}
