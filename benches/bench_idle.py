"""What partitions cost that nobody uses: memory, start-up and CPU of a broker with 1,000 of them.

Peers: the same broker with none, and Apache Kafka with as many, where its jars are. A start is a
clean one, from fork to the first Metadata answer.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bench_requests import cpu_us
from broker_process import running_broker
from kafka_peer import kafka_available, running_kafka

WATCH_S = 8.0
SETTLE_S = 2.0
KAFKA = "Apache Kafka"
SIDES = {"ours": 1_000, "none": 0}
if kafka_available():
    SIDES[KAFKA] = 1_000


class Figures(NamedTuple):
    start_s: float
    rss_bytes: int
    cpu_share: float


def create(bootstrap: str, partitions: int) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    topics = [NewTopic(f"idle{i}", 100, 1) for i in range(partitions // 100)]
    if topics:
        for done in admin.create_topics(topics, request_timeout=60).values():
            done.result(60)


def rss_of(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_share(pid: int) -> float:
    time.sleep(SETTLE_S)
    before, begin = cpu_us(pid), time.perf_counter()
    time.sleep(WATCH_S)
    return 100 * (cpu_us(pid) - before) / 1e6 / (time.perf_counter() - begin)


def measure_ours(partitions: int) -> Figures:
    with running_broker(quiet=True) as broker:
        create(broker.bootstrap, partitions)
        starts = []
        for _ in range(5):
            broker.stop()
            starts.append(broker.start())
        return Figures(sorted(starts)[2], rss_of(broker.pid), cpu_share(broker.pid))


def measure_kafka(partitions: int) -> Figures:
    with running_kafka() as kafka:
        create(kafka.bootstrap, partitions)
        kafka.stop()
        begin = time.perf_counter()
        kafka.start()
        start_s = time.perf_counter() - begin
        return Figures(start_s, rss_of(kafka.pid), cpu_share(kafka.pid))


@pytest.fixture(scope="module", params=SIDES)
def measured(request: Any) -> tuple[str, Figures]:
    side = request.param
    measure = measure_kafka if side == KAFKA else measure_ours
    return side, measure(SIDES[side])


def test_idle_start(row: Any, record_value: Any, measured: tuple[str, Figures]) -> None:
    side, figures = measured
    row("start-up with 1,000 idle partitions", side)
    record_value(figures.start_s, "seconds")


def test_idle_memory(row: Any, record_value: Any, measured: tuple[str, Figures]) -> None:
    side, figures = measured
    row("resident memory with 1,000 idle partitions", side)
    record_value(figures.rss_bytes, "bytes")


def test_idle_cpu(row: Any, record_value: Any, measured: tuple[str, Figures]) -> None:
    side, figures = measured
    row("idle CPU with 1,000 partitions, share of a core", side,
        target="<= 0.2 %" if side == "ours" else None)  # fmt: skip
    record_value(figures.cpu_share, "%")
