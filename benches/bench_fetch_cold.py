"""A reader that catches up from the disk, and the producer beside it: neither may hold the other.

Pages are dropped by asking the kernel to forget those of the topic's own files; what the machine
below keeps in its own memory it keeps, so the first of several runs is the disk's.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import driver
import pytest
from bench_produce_e2e import BATCHES, create_topic
from broker_process import BrokerProcess, running_broker

BATCH = BATCHES["900 KiB"]
RECORDS_PER_BATCH = 880
BATCHES_WRITTEN = 1100  # 1 GiB
FETCH_BYTES = 1 << 20
INTERVAL_S = 0.001


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with running_broker() as running:
        for topic in ("cold", "hot"):
            create_topic(running, topic)
        with driver.connections(running.port, 1) as (connection,):
            driver.pipeline(connection, driver.produce_request("cold", BATCH), BATCHES_WRITTEN, 5)
        yield running


def forget(directory: Path) -> None:
    for file in directory.glob("cold-0/*.log"):
        fd = os.open(file, os.O_RDWR)
        os.fdatasync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def catch_up(broker: BrokerProcess) -> int:
    """Bytes of records from the first offset to the last."""
    size = offset = 0
    with driver.connections(broker.port, 1, 4 * FETCH_BYTES) as (connection,):
        while offset < BATCHES_WRITTEN * RECORDS_PER_BATCH:
            answer = driver.call(connection, driver.fetch_request("cold", offset, FETCH_BYTES))
            got = driver.fetched_bytes(answer, "cold")
            size += got
            offset += got // len(BATCH) * RECORDS_PER_BATCH
    return size


def test_cold_catch_up(benchmark: Any, row: Any, broker: BrokerProcess) -> None:
    row("catch-up read of 1 GiB from the disk", "ours", work=BATCHES_WRITTEN * len(BATCH),
        unit="bytes")  # fmt: skip
    benchmark.pedantic(catch_up, args=(broker,), setup=lambda: forget(broker.data_dir), rounds=3)


def test_produce_beside_it(
    benchmark: Any, row: Any, record_value: Callable[[float, str], None], broker: BrokerProcess
) -> None:
    """A request each millisecond, from a process of its own."""
    row("produce p99 beside a catch-up read from the disk", "ours", target="<= 5 ms")
    forget(broker.data_dir)
    here = Path(__file__).resolve()
    # Under PYTHONSAFEPATH, which `make bench` sets, a script's folder is not on its path.
    path = os.pathsep.join(filter(None, [str(here.parent), os.environ.get("PYTHONPATH")]))
    producer = subprocess.Popen(
        [sys.executable, str(here), str(broker.port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    time.sleep(0.5)
    catch_up(broker)
    said, _ = producer.communicate("stop\n", timeout=30)
    assert producer.returncode == 0
    waits = [float(wait) for wait in said.split()]
    benchmark.extra_info["p50_us"] = statistics.median(waits) * 1e6
    benchmark.extra_info["max_us"] = max(waits) * 1e6
    record_value(statistics.quantiles(waits, n=100)[98], "seconds")


def produce(port: int) -> list[float]:
    """Round trips, one begun each INTERVAL_S or as soon as the one before has ended, until
    standard input has a line."""
    import select

    waits = []
    frame = driver.produce_request("hot", BATCHES["100 B"])
    due = time.perf_counter()
    with driver.connections(port, 1) as (connection,):
        while not select.select([sys.stdin], [], [], max(0.0, due - time.perf_counter()))[0]:
            begin = time.perf_counter()
            driver.produced_offset(driver.call(connection, frame), "hot")
            waits.append(time.perf_counter() - begin)
            due = max(due + INTERVAL_S, begin)
    return waits


if __name__ == "__main__":
    sys.stdout.write(" ".join(map(str, produce(int(sys.argv[1])))))
