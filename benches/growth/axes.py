"""The four axes. Each yields (point, figures) with the broker alive only in between."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence

import kcore
from benches.broker_process import BrokerProcess, running_broker
from benches.driver import (
    Connection,
    call,
    fetch_request,
    fetched_bytes,
    pipeline,
    produce_request,
    produced_offset,
)  # fmt: skip
from benches.growth.probe import (
    Cost,
    anonymous_mib,
    connected,
    cpu_us,
    create_topics,
    descriptors,
    idle_cpu_percent,
    list_offsets_request,
    maps,
    measure,
    metadata_request,
)  # fmt: skip

Figures = dict[str, float]
Axis = Callable[[Sequence[int], bool], Iterator[tuple[int, Figures]]]

SETTLE_S = 2.5
IDLE_S = 5.0
COUNT = 3_000
COUNT_SLOW = 20
FETCH_BYTES = 16 << 10
BIG_VALUES = 900
TOPIC_PARTITIONS = 100
GIB = 1 << 30


def now_ms() -> int:
    return int(time.time() * 1000)


def small_batch() -> bytes:
    return kcore.encode([b"x" * 100], timestamps=[now_ms()])


def put(figures: Figures, name: str, cost: Cost) -> None:
    figures[f"{name}_cpu_us"] = cost.cpu_us
    figures[f"{name}_p50_us"] = cost.p50_us
    figures[f"{name}_p99_us"] = cost.p99_us


def put_size(figures: Figures, broker: BrokerProcess) -> None:
    figures["rss_mib"] = broker.rss_bytes() / (1 << 20)
    figures["anonymous_mib"] = anonymous_mib(broker.pid)
    figures["descriptors"] = descriptors(broker.pid)
    figures["maps"] = maps(broker.pid)


def partitions(points: Sequence[int], quick: bool) -> Iterator[tuple[int, Figures]]:
    """Round robin over all of them: each request is for another partition."""
    for count in points:
        figures: Figures = {}
        with running_broker(quiet=True) as broker:
            per_topic = min(count, TOPIC_PARTITIONS)
            names = [f"topic-{i}" for i in range(count // per_topic)]
            figures["create_s"] = create_topics(broker, names, per_topic)
            figures["descriptors_fresh"] = descriptors(broker.pid)
            figures["maps_fresh"] = maps(broker.pid)
            batch = small_batch()
            tps = [(name, index) for name in names for index in range(per_topic)]
            appends = [produce_request(name, batch, index=index) for name, index in tps]
            reads = [fetch_request(name, 0, FETCH_BYTES, index=index) for name, index in tps]
            with connected(broker) as conns:
                for frame, (name, _) in zip(appends, tps, strict=True):
                    produced_offset(call(conns[0], frame), name)
                put(figures, "append", measure(broker, conns, appends, COUNT))
                put(figures, "append_one", measure(broker, conns, appends[:1], COUNT))
                for frame, (name, _) in zip(reads, tps, strict=True):
                    if not fetched_bytes(call(conns[0], frame), name):
                        raise RuntimeError("nothing was read back")
                put(figures, "fetch", measure(broker, conns, reads, COUNT))
                time.sleep(SETTLE_S)
                figures["idle_cpu_percent"] = idle_cpu_percent(broker.pid, IDLE_S)
                put_size(figures, broker)
            ask_each(broker, appends)  # each has something to write when the broker stops
            figures["stop_written_s"] = broker.stop()
            figures["start_s"] = broker.start()
            figures["start_cpu_ms"] = cpu_us(broker.pid) / 1000
            figures["stop_idle_s"] = broker.stop()
            broker.start()
            kill(broker)
            figures["start_killed_s"] = broker.start()
        yield count, figures


def ask_each(broker: BrokerProcess, frames: Sequence[bytes]) -> None:
    with connected(broker) as conns:
        for frame in frames:
            call(conns[0], frame)


def kill(broker: BrokerProcess) -> None:
    if broker.process is not None:
        broker.process.kill()
        broker.process.wait(timeout=20)
        broker.process = None


def log_gib(points: Sequence[int], quick: bool) -> Iterator[tuple[int, Figures]]:
    """One partition that grows to `points` GiB (of 100 MiB each when quick)."""
    unit = 100 << 20 if quick else GIB
    values = [os.urandom(512) + bytes(512) for _ in range(BIG_VALUES)]
    batch = kcore.encode(values, timestamps=[now_ms()] * BIG_VALUES)
    big = produce_request("log", batch)
    written = next_offset = 0
    with running_broker(quiet=True) as broker:
        create_topics(broker, ["log"])
        for point in points:
            figures: Figures = {}
            count = (point * unit - written) // len(batch)
            with connected(broker) as conns:
                before, begin = cpu_us(broker.pid), time.perf_counter()
                pipeline(conns[0], big, count, 5)
                seconds = time.perf_counter() - begin
                spent = (cpu_us(broker.pid) - before) / 1e6
                written += count * len(batch)
                figures["write_cpu_s_per_gb"] = spent * 1e9 / (count * len(batch))
                figures["write_mb_s"] = count * len(batch) / 1e6 / seconds
                put(figures, "append", measure(broker, conns, [small_request()], COUNT))
                next_offset = produced_offset(call(conns[0], big), "log")
            settle(broker)
            with connected(broker) as conns:
                put(
                    figures,
                    "fetch_end",
                    measure(
                        broker, conns, [fetch_request("log", next_offset, 1 << 20)], COUNT // 3
                    ),
                )
                rng = random.Random(point)
                spread = [fetch_request("log", rng.randrange(next_offset), 1 << 20)
                          for _ in range(200)]  # fmt: skip
                for frame in spread:
                    call(conns[0], frame)  # once cold, then from the page cache
                put(figures, "fetch_anywhere", measure(broker, conns, spread, COUNT // 3))
                at = [list_offsets_request("log", now_ms() - 1 - i) for i in range(8)]
                put(figures, "by_time", measure(broker, conns, at, COUNT // 3))
            put_size(figures, broker)
            figures["stop_s"] = broker.stop()
            figures["start_s"] = broker.start()
            broker.metadata()
            with connected(broker) as conns:
                call(conns[0], small_request())
            kill(broker)
            figures["start_killed_s"] = broker.start()
            yield point, figures


def small_request() -> bytes:
    return produce_request("log", small_batch())


def settle(broker: BrokerProcess, quiet_percent: float = 20.0, seconds: float = 20.0) -> None:
    """Until the background flush of what was written is done."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and idle_cpu_percent(broker.pid, 0.5) > quiet_percent:
        pass


def connections(points: Sequence[int], quick: bool) -> Iterator[tuple[int, Figures]]:
    for count in points:
        figures: Figures = {}
        with running_broker(quiet=True) as broker:
            create_topics(broker, ["t"])
            idle_mib = anonymous_mib(broker.pid)
            before = cpu_us(broker.pid)
            begin = time.perf_counter()
            with connected(broker, count) as conns:
                ask = metadata_request(["t"])
                for connection in conns:
                    connection.send(ask)
                for connection in conns:
                    connection.receive()
                figures["accept_s"] = time.perf_counter() - begin
                figures["accept_cpu_us"] = (cpu_us(broker.pid) - before) / count
                append = [produce_request("t", small_batch())]
                fetch = [fetch_request("t", 0, 1 << 10)]
                put(figures, "append", measure(broker, conns, append, max(COUNT, count)))
                put(figures, "fetch", measure(broker, conns, fetch, max(COUNT, count)))
                figures["all_at_once_cpu_us"] = all_at_once(broker, conns, append[0])
                time.sleep(SETTLE_S)
                figures["idle_cpu_percent"] = idle_cpu_percent(broker.pid, IDLE_S)
                put_size(figures, broker)
                grown_kib = (figures["anonymous_mib"] - idle_mib) * 1024
                figures["kib_a_connection"] = max(0.0, grown_kib) / count
            figures["stop_s"] = broker.stop()
        yield count, figures


def all_at_once(broker: BrokerProcess, conns: Sequence[Connection], frame: bytes) -> float:
    """CPU of a request when all connections have one in flight."""
    rounds = max(1, COUNT // len(conns))
    before = cpu_us(broker.pid)
    for _ in range(rounds):
        for connection in conns:
            connection.send(frame)
        for connection in conns:
            connection.receive()
    return (cpu_us(broker.pid) - before) / (rounds * len(conns))


def topics(points: Sequence[int], quick: bool) -> Iterator[tuple[int, Figures]]:
    """Topics of one partition; above 10,000 of a broker in memory (one file and more each)."""
    for count in points:
        figures: Figures = {}
        memory = ("-o", "kcore.storage=memory") if count > 10_000 else ()
        with running_broker(*memory, quiet=True) as broker:
            names = [f"topic-{i:06d}" for i in range(count)]
            begin = time.perf_counter()
            for first in range(0, count, 1_000):
                create_topics(broker, names[first : first + 1_000])
            figures["create_us"] = (time.perf_counter() - begin) * 1e6 / count
            some = [metadata_request([name]) for name in names[:: max(1, count // 500)]]
            with connected(broker) as conns:
                conns[0]._buffer = bytearray(64 << 20)
                conns[0]._view = memoryview(conns[0]._buffer)
                ask_all = [metadata_request(None)]
                put(figures, "one", measure(broker, conns, some[:1], COUNT))
                put(figures, "one_of_many", measure(broker, conns, some, COUNT))
                put(figures, "all", measure(broker, conns, ask_all, COUNT_SLOW))
                after_change(broker, conns[0], ask_all[0], figures)
            put_size(figures, broker)
            figures["idle_cpu_percent"] = idle_cpu_percent(broker.pid, IDLE_S)
            figures["stop_s"] = broker.stop()
            if not memory:
                figures["start_s"] = broker.start()
                figures["start_cpu_ms"] = cpu_us(broker.pid) / 1000
        yield count, figures


def after_change(
    broker: BrokerProcess, connection: Connection, ask_all: bytes, figures: Figures
) -> None:
    """A topic more, and what is asked then: no answer from before may be used."""
    create, one, everything = [], [], []
    for i in range(COUNT_SLOW):
        before = cpu_us(broker.pid)
        create_topics(broker, [f"more-{i}"])
        create.append(cpu_us(broker.pid) - before)
        before = cpu_us(broker.pid)
        call(connection, metadata_request([f"more-{i}"]))
        one.append(cpu_us(broker.pid) - before)
        before = cpu_us(broker.pid)
        call(connection, ask_all)
        everything.append(cpu_us(broker.pid) - before)
    for name, found in (("create_one", create), ("one_changed", one), ("all_changed", everything)):
        figures[f"{name}_cpu_us"] = sorted(found)[len(found) // 2]


AXES: dict[str, tuple[Axis, Sequence[int], Sequence[int]]] = {
    "partitions": (partitions, (1, 100, 1_000, 10_000), (1, 100, 1_000)),
    "connections": (connections, (1, 100, 1_000, 5_000), (1, 100, 1_000)),
    "topics": (topics, (1, 100, 1_000, 10_000, 100_000), (1, 100, 1_000)),
    "log_gib": (log_gib, (1, 5, 20), (1, 5, 20)),
}
