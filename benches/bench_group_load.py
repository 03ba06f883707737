"""What a coordinator needs before it can answer: a million records of `__consumer_offsets`.

The load alone, in this process: from the log to the state of a shard; beside it LMDB, which reads
as many keys and values into a dict. Distinct offsets in batches of 100 are the most state; many
commits of few offsets, a batch each, are what a busy group leaves between two cleanings. Then the
whole of it: a broker started again on a million offsets until every group answers, and Apache Kafka
given the same commits.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import driver
import group_driver
import pytest
from broker_process import BrokerProcess
from kafka_peer import kafka_available, running_kafka
from kbroker.base.clock import ManualClock
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.loader import load
from kbroker.coord.timers import Timers

import kcore

RECORDS = 1_000_000
PARTITIONS = 100
READ_BYTES = 1 << 20
NOW_MS = 1_700_000_000_000
DISTINCT = "load 1 M offsets, all distinct"
REPEATED = "load 1 M commits of 10,000 offsets"
SHAPES = {DISTINCT: (1_000_000, 100), REPEATED: (10_000, 1)}  # distinct offsets, records a batch
TARGETS = {DISTINCT: "<= 2 s", REPEATED: "<= 1 s"}
TOPIC = "bench"


def record(number: int, distinct: int) -> tuple[bytes, bytes]:
    """A commit as Kafka writes it: key of type 1, value of version 3."""
    of = number % distinct
    group = b"group-%d" % (of // PARTITIONS)
    key = struct.pack(f">hh{len(group)}sh5si", 1, len(group), group, 5, b"bench", of % PARTITIONS)
    return key, struct.pack(">hqihq", 3, number, 7, 0, NOW_MS + number)


def fill(log: kcore.Log, distinct: int, per_batch: int) -> None:
    """Many batches go into one append: what is measured is reading them."""
    pending: list[bytes] = []
    for begin in range(0, RECORDS, per_batch):
        pairs = [record(number, distinct) for number in range(begin, begin + per_batch)]
        keys, values = zip(*pairs, strict=True)
        pending.append(kcore.encode(list(values), keys=list(keys), timestamps=NOW_MS))
        if len(pending) >= 2_000:
            log.append(b"".join(pending), verify=False)
            pending.clear()
    if pending:
        log.append(b"".join(pending), verify=False)


def spans(log: kcore.Log) -> Iterator[Any]:
    offset = 0
    while (span := log.read(offset, READ_BYTES)) is not None:
        yield span
        offset = span.next_offset


@pytest.fixture(scope="module", params=SHAPES)
def filled(request: Any, tmp_path_factory: Any) -> Iterator[tuple[str, kcore.Log]]:
    distinct, per_batch = SHAPES[request.param]
    log = kcore.Log.open(tmp_path_factory.mktemp("load") / "log", segment_bytes=1 << 30)
    fill(log, distinct, per_batch)
    yield request.param, log
    log.close(sync=False)


def test_load_ours(benchmark: Any, row: Any, filled: tuple[str, kcore.Log]) -> None:
    name, log = filled
    row(name, "ours", target=TARGETS[name])

    def run() -> None:
        shard = GroupShard(None, Timers(ManualClock(), lambda: None))  # type: ignore[arg-type]
        stats = load(shard, spans(log))
        assert stats.records == RECORDS
        assert shard.offsets.count == SHAPES[name][0]

    benchmark.pedantic(run, rounds=3)


def test_load_lmdb(benchmark: Any, row: Any, filled: tuple[str, kcore.Log], tmp_path: Path) -> None:
    """The last values only: that is what LMDB has kept."""
    import lmdb

    name, _ = filled
    distinct = SHAPES[name][0]
    row(name, "LMDB scan into a dict", work=1)
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 30, sync=False) as env:
        with env.begin(write=True) as txn:
            for number in range(RECORDS - distinct, RECORDS):
                txn.put(*record(number, distinct))

        def run() -> None:
            with env.begin() as txn:
                assert len(dict(iter(txn.cursor()))) == distinct

        benchmark.pedantic(run, rounds=3)


RESTART_ROW = "restart on 1 M offsets of 10,000 groups, until all answer"
RESTART_GROUPS = RECORDS // PARTITIONS
ASKED = 300  # groups; more than enough to meet every partition of the internal topic


def commit_all(port: int, bootstrap: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
    with driver.connections(port, 1) as (connection,):
        group_driver.wait_for_coordinator(connection, "group-0")
        frames = (
            group_driver.commit_frame(f"group-{i}", TOPIC, range(PARTITIONS), None)
            for i in range(RESTART_GROUPS)
        )
        ahead = 0
        for frame in frames:
            connection.send(frame)
            ahead += 1
            if ahead > 16:
                group_driver.check_commit(connection.receive())
                ahead -= 1
        for _ in range(ahead):
            group_driver.check_commit(connection.receive())


def restart(start: Callable[[], Any], port: Callable[[], int]) -> float:
    begin = time.perf_counter()
    start()
    with driver.connections(port(), 1) as (connection,):
        for i in range(RESTART_GROUPS - ASKED, RESTART_GROUPS):
            group_driver.wait_for_coordinator(connection, f"group-{i}")
    return time.perf_counter() - begin


def test_restart_ours(row: Any, record_value: Any, tmp_path: Path) -> None:
    row(RESTART_ROW, "ours")
    broker = BrokerProcess(tmp_path / "data", quiet=True)
    broker.start()
    try:
        commit_all(broker.port, broker.bootstrap)
        figures = []
        for _ in range(3):
            broker.stop()
            figures.append(restart(broker.start, lambda: broker.port))
    finally:
        broker.stop()
    record_value(sorted(figures)[1], "seconds")


@pytest.mark.skipif(not kafka_available(), reason="no JVM Kafka (python -m ci.peers)")
def test_restart_kafka(row: Any, record_value: Any) -> None:
    row(RESTART_ROW, "Apache Kafka")
    with running_kafka() as kafka:
        commit_all(kafka.port, kafka.bootstrap)
        kafka.stop()
        record_value(restart(kafka.start, lambda: kafka.port), "seconds")
