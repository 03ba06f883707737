"""Goal: in a running broker a compacted topic is compacted, keyless records are refused with the
record named, and the metrics say what was done. Method: a broker in this process, a real client."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from kbroker.broker.node import Node

from tests.broker.support import WAIT_S
from tests.broker.test_metrics_http import scrape, with_node

TOPIC = {
    "cleanup.policy": "compact",
    "segment.bytes": "1048576",
    "max.compaction.lag.ms": "1",
    "min.cleanable.dirty.ratio": "0.01",
}


def on_disk(directory: Path) -> dict[str, str]:
    return {"kcore_storage": "disk", "log_dirs": str(directory)}


def client(bootstrap: str) -> dict[bytes, bytes | None]:
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic("t", 1, 1, config=TOPIC)]).values():
        future.result(WAIT_S)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": "0"})
    for n in range(300):
        producer.produce("t", b"v%d" % n, key=b"k%d" % (n % 5))
        assert producer.flush(WAIT_S) == 0
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "g", "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition("t", 0, 0)])
    found: dict[bytes, bytes | None] = {}
    while True:
        message = consumer.poll(WAIT_S)
        assert message is not None
        if message.error():
            break
        key = message.key()
        assert isinstance(key, bytes)
        found[key] = message.value()
    consumer.close()
    return found


@pytest.mark.client
def test_a_compacted_topic_is_compacted(tmp_path: Path) -> None:
    expected = {b"k%d" % (n % 5): b"v%d" % n for n in range(300)}

    async def test(node: Node) -> None:
        assert await asyncio.to_thread(client, node.bootstrap) == expected
        logs = node._logs
        assert logs is not None
        partition = logs.get("t", 0)
        assert partition is not None
        cleaner = logs.housekeeping.cleaner
        for _ in range(3):  # at least once more after the last record
            cleaner._next_look_ms = 0
            rounds = cleaner.stats.rounds
            logs.tick(node._clock.wall_ms() + 10)
            async with asyncio.timeout(WAIT_S):
                while cleaner._running:
                    await asyncio.sleep(0)
        assert cleaner.stats.rounds == rounds  # nothing is dirty any more
        assert partition.size_bytes < 10_000 and partition.next_offset == 300
        page = await scrape(node)
        assert page["kafka_log_logcleaner_rounds_total", ()] >= 1
        assert page["kafka_log_logcleaner_bytes_read_total", ()] > 10_000
        assert 0 < page["kafka_log_logcleaner_cleaner_recopy_percent", ()] < 50
        assert page["kafka_log_logcleanermanager_uncleanable_partitions_count", ()] == 0
        assert page["kafka_log_logcleanermanager_max_dirty_percent", ()] == 0
        assert page["kafka_log_logmanager_housekeeping_seconds_total", ()] > 0

    with_node(test, **on_disk(tmp_path))


@pytest.mark.client
def test_a_record_without_a_key_is_refused_and_named(tmp_path: Path) -> None:
    def produce(bootstrap: str) -> list[str]:
        from confluent_kafka import Producer
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": bootstrap})
        for future in admin.create_topics([NewTopic("t", 1, 1, config=TOPIC)]).values():
            future.result(WAIT_S)
        producer = Producer({"bootstrap.servers": bootstrap})
        told: list[str] = []
        producer.produce("t", b"v", on_delivery=lambda error, _: told.append(error.name()))
        assert producer.flush(WAIT_S) == 0
        return told

    async def test(node: Node) -> None:
        told = await asyncio.to_thread(produce, node.bootstrap)
        assert told == ["INVALID_RECORD"]

    with_node(test, **on_disk(tmp_path))
