"""S14. Goal: a broker killed in the middle of a compaction, again and again, keeps the last
acknowledged value of each key, brings no deleted key back, and its offsets go on.

Method: a keyed load with deletions through librdkafka; the kill comes when the directory of the
partition shows a compaction under way (files that are being made, or waiting for their removal).
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from kcore.verify import verify_dir
from tests.clients.served import ServedBroker

pytestmark = pytest.mark.client

WAIT_S = 60.0
KEYS = 500
KILLS = 4
SETTINGS = {"log.cleaner.backoff.ms": "0", "log.segment.delete.delay.ms": "0"}
TOPIC = {
    "cleanup.policy": "compact",
    "segment.bytes": "1048576",
    "min.cleanable.dirty.ratio": "0.01",
}


class Load:
    """What was acknowledged, and what may have been written since."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.rng = random.Random(5)
        self.acked: dict[bytes, bytes | None] = {}
        self.unsure: dict[bytes, set[bytes | None]] = {}
        self.count = 0

    def some(self, producer: Any, count: int = 100) -> None:
        for _ in range(count):
            key = b"k%d" % self.rng.randrange(KEYS)
            self.count += 1
            value = None if self.rng.randrange(8) == 0 else b"%d " % self.count * 40
            self.unsure.setdefault(key, set()).add(value)

            def told(
                error: object, _: object, key: bytes = key, value: bytes | None = value
            ) -> None:
                if error is None:
                    self.acked[key] = value
                    self.unsure[key] = set()

            producer.produce("t", value, key=key, on_delivery=told)  # type: ignore[attr-defined]
        assert producer.flush(WAIT_S) == 0  # type: ignore[attr-defined]

    def read(self) -> tuple[dict[bytes, bytes | None], int]:
        """What a reader of the whole topic ends with, and the end of it."""
        from confluent_kafka import Consumer, KafkaError, TopicPartition

        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": "g", "enable.partition.eof": True}
        )
        consumer.assign([TopicPartition("t", 0, 0)])
        found: dict[bytes, bytes | None] = {}
        last_offset = -1
        while True:
            message = consumer.poll(WAIT_S)
            assert message is not None
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    break
                continue  # the broker has only just come back
            assert message.offset() > last_offset
            last_offset = message.offset()
            found[message.key()] = message.value()
        _, end = consumer.get_watermark_offsets(TopicPartition("t", 0), WAIT_S)
        consumer.close()
        return found, end


def compaction_shows(partition: Path) -> bool:
    return any(path.suffix in (".cleaned", ".swap", ".deleted") for path in partition.iterdir())


def test_kills_in_the_middle_of_a_compaction(tmp_path: Path) -> None:
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    with ServedBroker(tmp_path, SETTINGS) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for future in admin.create_topics([NewTopic("t", 1, 1, config=TOPIC)]).values():
            future.result(WAIT_S)
        load = Load(broker.bootstrap)
        partition = broker.data_dir / "t-0"
        end_before = 0
        for _ in range(KILLS):
            producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
            for _ in range(20_000):
                load.some(producer)
                if compaction_shows(partition):
                    break
            else:
                pytest.fail("no compaction in sight")
            broker.kill()
            broker.start()
            found, end = load.read()
            assert end >= end_before
            end_before = end
            for key, value in load.acked.items():
                assert found.get(key) in {value, *load.unsure[key]}
        size = sum(path.stat().st_size for path in partition.glob("*.log"))
        assert size < load.count * 100  # most of what was written is gone
        broker.stop()
        report = verify_dir(broker.data_dir)
        assert [f for f in report.findings.items if f.level == "error"] == []
