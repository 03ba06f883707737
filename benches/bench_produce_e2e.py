"""Produce through the socket of a broker started as a user starts it.

Each row stands beside the bare loopback: the same frames to a server that throws them away and
answers as many bytes. Bytes of the rows with a disk behind them include its page cache.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import driver
import pytest
from broker_process import BrokerProcess, running_broker

import kcore

REPLY_BYTES = 50
ROUND_TRIPS = 5_000
TOPIC = "bench"
SHAPES = {"100 B": (100, 1), "16 KiB": (1024, 15), "900 KiB": (1024, 880)}
# name of the batch -> requests in flight, requests a round
STREAMS = {"16 KiB": (5, 4000), "900 KiB": (5, 100)}


def batch(size: int, count: int) -> bytes:
    """Half random, half zero values: neither free to compress nor free to copy."""
    rng = random.Random(1)
    values = [rng.randbytes(size // 2) + bytes(size - size // 2) for _ in range(count)]
    return bytes(kcore.encode(values, timestamps=[time.time_ns() // 1_000_000] * count))


BATCHES = {name: batch(*shape) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with running_broker("-o", "log.retention.bytes=2000000000") as running:
        create_topic(running, TOPIC)
        yield running


def create_topic(broker: BrokerProcess, topic: str, partitions: int = 1) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)


@pytest.mark.parametrize("name", STREAMS)
def test_stream_ours(benchmark: Any, row: Any, broker: BrokerProcess, name: str) -> None:
    in_flight, count = STREAMS[name]
    frame = driver.produce_request(TOPIC, BATCHES[name])
    row(f"produce, {name} batches, 1 connection", "ours", work=count * len(BATCHES[name]),
        unit="bytes")  # fmt: skip
    with driver.connections(broker.port, 1) as (connection,):
        driver.produced_offset(driver.call(connection, frame), TOPIC)
        benchmark.pedantic(
            driver.pipeline, args=(connection, frame, count, in_flight), rounds=5, warmup_rounds=1
        )


@pytest.mark.parametrize("name", STREAMS)
def test_stream_loopback(benchmark: Any, row: Any, name: str) -> None:
    in_flight, count = STREAMS[name]
    frame = driver.produce_request(TOPIC, BATCHES[name])
    row(f"produce, {name} batches, 1 connection", "bare loopback",
        work=count * len(BATCHES[name]), unit="bytes")  # fmt: skip
    with (
        driver.loopback_peer(REPLY_BYTES) as port,
        driver.connections(port, 1) as (connection,),
    ):
        benchmark.pedantic(
            driver.pipeline, args=(connection, frame, count, in_flight), rounds=5, warmup_rounds=1
        )


def round_trips(connection: driver.Connection, frame: bytes) -> list[float]:
    """Seconds of each of ROUND_TRIPS requests, one in flight; sorted."""
    seconds = []
    for _ in range(ROUND_TRIPS):
        begin = time.perf_counter()
        driver.call(connection, frame)
        seconds.append(time.perf_counter() - begin)
    return sorted(seconds)


@pytest.mark.parametrize("percentile", [50, 99])
def test_round_trip_ours(
    row: Any, record_value: Any, broker: BrokerProcess, percentile: int
) -> None:
    frame = driver.produce_request(TOPIC, BATCHES["100 B"])
    row(f"produce 1 x 100 B, round trip, p{percentile}", "ours")
    with driver.connections(broker.port, 1) as (connection,):
        driver.produced_offset(driver.call(connection, frame), TOPIC)
        record_value(round_trips(connection, frame)[ROUND_TRIPS * percentile // 100], "seconds")


@pytest.mark.parametrize("percentile", [50, 99])
def test_round_trip_loopback(row: Any, record_value: Any, percentile: int) -> None:
    frame = driver.produce_request(TOPIC, BATCHES["100 B"])
    row(f"produce 1 x 100 B, round trip, p{percentile}", "bare loopback")
    with driver.loopback_peer(REPLY_BYTES) as port, driver.connections(port, 1) as (connection,):
        record_value(round_trips(connection, frame)[ROUND_TRIPS * percentile // 100], "seconds")


def test_durable_group_commit(benchmark: Any, row: Any) -> None:
    """`flush.policy=sync`: 64 producers, each acknowledgement behind a grouped fdatasync."""
    row("produce 1 x 100 B, flush.policy=sync, 64 connections", "ours", work=2000,
        unit="requests")  # fmt: skip
    frame = driver.produce_request(TOPIC, BATCHES["100 B"])
    with running_broker("-o", "flush.policy=sync") as durable:
        create_topic(durable, TOPIC)
        with driver.connections(durable.port, 64) as opened:
            driver.produced_offset(driver.call(opened[0], frame), TOPIC)
            benchmark.pedantic(
                driver.one_each, args=(opened, frame, 2000), rounds=5, warmup_rounds=1
            )


def test_durable_fdatasync(benchmark: Any, row: Any, tmp_path: Any) -> None:
    """The peer: 64 records of the same size, one write and one fdatasync for all of them."""
    import os

    row("produce 1 x 100 B, flush.policy=sync, 64 connections", "write + fdatasync", work=2000,
        unit="requests")  # fmt: skip
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    records = BATCHES["100 B"] * 64

    def commit() -> None:
        for _ in range(2000 // 64):
            os.write(fd, records)
            os.fdatasync(fd)

    try:
        benchmark.pedantic(commit, rounds=5, warmup_rounds=1)
    finally:
        os.close(fd)
