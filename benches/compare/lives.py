"""What a broker's life costs: starting, memory, disk, and starting again after `kill -9`.

Each sample is of a broker of its own, with a fresh data directory, beside the one that idles.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

from benches.compare import payload, protocol, streams
from benches.compare.latency import sockets
from benches.compare.model import Cell, Contender, Sample, Unmeasurable, WrongCount

SETTLE_S = 1.0


@contextlib.contextmanager
def fresh(contender: Contender) -> Iterator[tuple[Contender, float]]:
    """Another one and the seconds that its start took."""
    if not contender.is_broker:
        raise Unmeasurable("is no broker")
    other = contender.sibling()
    try:
        yield other, other.start()
    finally:
        other.close()


def starts(contender: Contender, cell: Cell) -> Sample:
    with fresh(contender) as (other, seconds):
        cpu = other.cpu_seconds()
        time.sleep(SETTLE_S)
        extra = {"start": seconds, "start_cpu": cpu, "rss": float(other.rss_bytes()),
                 "anon": float(other.anon_bytes())}  # fmt: skip
        return Sample(seconds, extra=extra)


def long_haul(contender: Contender, cell: Cell) -> Sample:
    """Produces `cell.bytes_max`, looks at memory and disk, kills it and starts it again."""
    with fresh(contender) as (other, _):
        other.create_topic(cell.topic, cell.partitions)
        sample = fill(other, dataclasses.replace(cell, fill_bytes=cell.bytes_max))
        extra = {"rss": float(other.rss_bytes()), "anon": float(other.anon_bytes())}
        with contextlib.suppress(Unmeasurable):
            extra["disk"] = float(other.disk_bytes())
        if other.durable:
            other.kill()
            extra["restart"] = other.start() + wait_for_ends(other, cell, sample.records)
        return dataclasses.replace(sample, extra=extra)


def wait_for_ends(contender: Contender, cell: Cell, records: int) -> float:
    """Seconds until the topic answers. The page cache outlives a process: no record may be gone."""
    begin = time.perf_counter()
    while True:
        try:
            found = sum(contender.end_offsets(cell.topic, cell.partitions))
            break
        except RuntimeError:
            if time.perf_counter() - begin > protocol.TIMEOUT_MS / 1000:
                raise
            time.sleep(protocol.POLL_S)
    if found != records:
        raise WrongCount(f"{found} records after the kill, {records} were acknowledged")
    return time.perf_counter() - begin


def fill(contender: Contender, cell: Cell) -> Sample:
    """Writes `cell.fill_bytes` of payload into the cell's topic, which is empty."""
    frames = payload.produce_frames(cell)
    requests = max(1, -(-cell.fill_bytes // frames.payload))
    with sockets(contender.port, 1) as (sock,):
        window = streams.Window(sock, frames, cell.in_flight)
        cpu = contender.cpu_seconds()
        seconds = streams.replay([window], streams.Limits(3600.0, requests))
        cpu = contender.cpu_seconds() - cpu
    records = requests * frames.records
    found = sum(contender.end_offsets(cell.topic, cell.partitions))
    if found != records:
        raise WrongCount(f"{found} records in the topic, {records} were produced")
    return Sample(seconds, requests * frames.payload, records, cpu)


LIVES: dict[str, Callable[[Contender, Cell], Sample]] = {
    "start": starts,
    "long_haul": long_haul,
}
