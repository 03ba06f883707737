"""Fetches of many partitions: what a request and a wake-up cost when little or much is new."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import driver
import pytest
from bench_produce_e2e import BATCHES, create_topic
from broker_process import BrokerProcess, running_broker

COUNTS = (100, 1000)
WAKES = 300


def topic_of(count: int) -> str:
    return f"many-{count}"


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    """One batch of 100 bytes in each partition."""
    with running_broker() as running:
        for count in COUNTS:
            create_topic(running, topic_of(count), count)
            with driver.connections(running.port, 1) as (connection,):
                for index in range(count):
                    frame = driver.produce_request(topic_of(count), BATCHES["100 B"], index=index)
                    driver.produced_offset(driver.call(connection, frame), topic_of(count))
        yield running


@pytest.mark.parametrize("count", COUNTS)
def test_all_have_something(benchmark: Any, row: Any, broker: BrokerProcess, count: int) -> None:
    row(f"fetch of {count} partitions with 100 B each", "ours")
    frame = driver.fetch_many_request(topic_of(count), dict.fromkeys(range(count), 0))
    with driver.connections(broker.port, 1) as (connection,):
        benchmark.pedantic(driver.call, args=(connection, frame), rounds=100, warmup_rounds=5)


@pytest.mark.parametrize("count", COUNTS)
def test_nothing_is_new(benchmark: Any, row: Any, broker: BrokerProcess, count: int) -> None:
    row(f"next fetch of a session of {count} partitions, nothing new", "ours")
    topic = topic_of(count)
    with driver.connections(broker.port, 1) as (connection,):
        opening = driver.fetch_many_request(topic, dict.fromkeys(range(count), 1), session=(0, 0))
        one = driver.session_id(driver.call(connection, opening))
        epoch = 0

        def poll() -> None:
            nonlocal epoch
            epoch += 1
            frame = driver.fetch_many_request(topic, {}, session=(one, epoch))
            driver.session_id(driver.call(connection, frame))

        benchmark.pedantic(poll, rounds=300, warmup_rounds=5)


@pytest.mark.parametrize("count", COUNTS)
def test_parked_wake(
    benchmark: Any, row: Any, record_value: Callable[[float, str], None], broker: BrokerProcess,
    count: int,
) -> None:  # fmt: skip
    """The last of the distribution: its p99."""
    row(f"parked session of {count} partitions, woken by a produce: p99", "ours", target="<= 1 ms")
    waits = wakes(broker, topic_of(count), count)
    benchmark.extra_info["p50_us"] = statistics.median(waits) * 1e6
    record_value(statistics.quantiles(waits, n=100)[98], "seconds")


def wakes(broker: BrokerProcess, topic: str, count: int) -> list[float]:
    """Seconds from sending a produce to the answer of the fetch that waited for it."""
    found = []
    with driver.connections(broker.port, 2) as (producer, consumer):
        ends = {index: offset_after(producer, topic, index) for index in range(count)}
        opening = driver.fetch_many_request(topic, ends, session=(0, 0))
        one = driver.session_id(driver.call(consumer, opening))
        moved: dict[int, int] = {}
        for number in range(1, WAKES + 1):
            consumer.send(
                driver.fetch_many_request(topic, moved, session=(one, number), max_wait_ms=10_000)
            )
            time.sleep(0.001)  # the broker reads it and parks; not part of what is measured
            index = number * 7 % count
            begin = time.perf_counter()
            producer.send(driver.produce_request(topic, BATCHES["100 B"], index=index))
            driver.session_id(consumer.receive())
            found.append(time.perf_counter() - begin)
            ends[index] = driver.produced_offset(producer.receive(), topic) + 1
            moved = {index: ends[index]}
    return found


def offset_after(connection: driver.Connection, topic: str, index: int) -> int:
    frame = driver.produce_request(topic, BATCHES["100 B"], index=index)
    return driver.produced_offset(driver.call(connection, frame), topic) + 1
