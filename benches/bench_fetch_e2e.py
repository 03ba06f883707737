"""Fetch through the socket of a broker started as a user starts it: warm reads and parked wakes.

Each row of reads stands beside the bare loopback: as many bytes, answered by a server that has
them ready in memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import driver
import pytest
from bench_produce_e2e import BATCHES, create_topic
from broker_process import BrokerProcess, running_broker

TOPIC = "bench"
BATCHES_WRITTEN = 12_000  # of 16 KiB: more than any cache of a processor holds
RECORDS_PER_BATCH = 15
# bytes a partition -> fetches a round
READS = {64 << 10: 1000, 1 << 20: 150}


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with running_broker() as running:
        create_topic(running, TOPIC)
        create_topic(running, "parked")
        frame = driver.produce_request(TOPIC, BATCHES["16 KiB"])
        with driver.connections(running.port, 1) as (connection,):
            driver.pipeline(connection, frame, BATCHES_WRITTEN, 5)
        yield running


def frames(size: int) -> list[bytes]:
    """Fetches from places all over the log."""
    last = BATCHES_WRITTEN * 9 // 10
    return [
        driver.fetch_request(TOPIC, number * RECORDS_PER_BATCH, size)
        for number in range(0, last, 37)
    ]


def read_all(connection: driver.Connection, asked: list[bytes], count: int) -> None:
    for number in range(count):
        connection.send(asked[number % len(asked)])
        connection.receive()


@pytest.mark.parametrize("size", READS)
def test_reads_ours(benchmark: Any, row: Any, broker: BrokerProcess, size: int) -> None:
    count = READS[size]
    asked = frames(size)
    with driver.connections(broker.port, 1) as (connection,):
        got = driver.fetched_bytes(driver.call(connection, asked[0]), TOPIC)
        row(f"fetch, {size >> 10} KiB a partition, warm", "ours", work=count * got,
            unit="bytes")  # fmt: skip
        benchmark.pedantic(read_all, args=(connection, asked, count), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("size", READS)
def test_reads_loopback(benchmark: Any, row: Any, size: int) -> None:
    count = READS[size]
    batch_bytes = len(BATCHES["16 KiB"])
    got = size // batch_bytes * batch_bytes
    row(f"fetch, {size >> 10} KiB a partition, warm", "bare loopback", work=count * got,
        unit="bytes")  # fmt: skip
    asked = frames(size)
    with driver.loopback_peer(got + 60) as port, driver.connections(port, 1) as (connection,):
        benchmark.pedantic(read_all, args=(connection, asked, count), rounds=5, warmup_rounds=1)


def test_parked_wake(benchmark: Any, row: Any, broker: BrokerProcess) -> None:
    """From sending a produce to the answer of a fetch that waited for it."""
    row("parked fetch woken by a produce", "ours", target="<= 300 us")
    produce = driver.produce_request("parked", BATCHES["100 B"])
    with driver.connections(broker.port, 2) as (producer, consumer):
        offset = 0

        def park() -> None:
            nonlocal offset
            if offset:
                producer.receive()  # the answer to the produce of the round before
            consumer.send(driver.fetch_request("parked", offset, 1 << 20, max_wait_ms=10_000))
            time.sleep(0.001)  # the broker reads it and parks; not part of what is measured
            offset += 1

        def wake() -> None:
            producer.send(produce)
            consumer.receive()

        benchmark.pedantic(wake, setup=park, rounds=300, warmup_rounds=5)
        producer.receive()
