"""An Apache Kafka broker takes over a partition that we wrote, and serves what we would have.

The partition is copied while its log is open: no final index entries, preallocated zeros behind the
last batch, as a kill leaves it. Kafka recovers it, cuts the zeros, and goes on appending.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

import kcore
from kcore.files import names
from kcore.files.epoch_checkpoint import EpochEntry, store_epoch_checkpoint
from kcore.verify import verify_dir
from tests.peers import KafkaProcess, require_peer
from tests.support.recent import RECENT_MS

pytestmark = pytest.mark.peer

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
START_MS = RECENT_MS
ROUNDS = 100
Pair = tuple[bytes | None, bytes | None]


def write_ours(directory: Path) -> list[Pair]:
    """A crash image of an open log, every codec in several segments."""
    pairs: list[Pair] = []
    live = directory.with_name("live-0")
    with kcore.Log.open(live, segment_bytes=8_000, index_interval_bytes=300) as log:
        for number in range(ROUNDS):
            keys = [b"k%d" % n if n else None for n in range(5)]
            values = [b"%d/%d" % (number, n) * (n + 1) if n != 2 else None for n in range(5)]
            timestamps = [START_MS + number] * 5
            codec = CODECS[number % 5]
            log.append(kcore.encode(values, keys=keys, timestamps=timestamps, codec=codec))
            pairs += zip(keys, values, strict=True)
        shutil.copytree(live, directory)
    store_epoch_checkpoint(directory / names.LEADER_EPOCH_CHECKPOINT, [EpochEntry(0, 0)])
    return pairs


def consume(bootstrap: str, count: int) -> list[Pair]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "g", "check.crcs": True, "log_level": 0}
    )
    consumer.assign([TopicPartition("orders", 0, 0)])
    try:
        messages = consumer.consume(count, timeout=60)
        assert [message.offset() for message in messages] == list(range(count))
        return [(message.key(), message.value()) for message in messages]
    finally:
        consumer.close()


def produce_one(bootstrap: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    producer.produce("orders", value)
    assert producer.flush(60) == 0


def test_kafka_goes_on_with_our_partition(tmp_path: Path) -> None:
    require_peer("kafka")
    pairs = write_ours(tmp_path / "ours" / "orders-0")
    with KafkaProcess(tmp_path) as kafka:
        produce_one(kafka.bootstrap, b"makes the topic")
        kafka.stop()
        partition = kafka.data_dir / "orders-0"
        topic_id = (partition / names.PARTITION_METADATA).read_bytes()
        shutil.rmtree(partition)
        shutil.copytree(tmp_path / "ours" / "orders-0", partition)
        (partition / names.PARTITION_METADATA).write_bytes(topic_id)
        (kafka.data_dir / names.CLEAN_MARKER).unlink()
        (kafka.data_dir / names.RECOVERY_POINT_CHECKPOINT).unlink()
        (kafka.data_dir / names.HIGH_WATERMARK_CHECKPOINT).unlink()
        kafka.start()
        assert consume(kafka.bootstrap, len(pairs)) == pairs
        produce_one(kafka.bootstrap, b"one more")
        assert consume(kafka.bootstrap, len(pairs) + 1)[-1] == (None, b"one more")
        kafka.stop()
    report = verify_dir(partition, deep=True)
    assert report.findings.count("error") == 0
    assert report.partitions[0].next_offset == len(pairs) + 1
    with kcore.Log.open(partition) as log:
        assert log.next_offset == len(pairs) + 1
