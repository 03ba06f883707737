"""Goal: `__consumer_offsets` is compacted while groups commit, and a broker killed after it knows
every commit. Method: many commits through librdkafka into small segments, then a kill.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.served import ServedBroker

pytestmark = pytest.mark.client

WAIT_S = 60.0
SETTINGS = {
    "log.cleaner.backoff.ms": "0",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.segment.bytes": "1048576",
}


def compacted_below(partition: Path) -> int:
    """Largest base offset of a segment that a compaction has replaced."""
    return max((int(p.name[:20]) for p in partition.glob("*.log.deleted")), default=-1)


def test_commits_survive_their_compaction(tmp_path: Path) -> None:
    from confluent_kafka import Consumer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

    def consumer(group: str) -> Consumer:
        return Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})

    with ServedBroker(tmp_path, SETTINGS) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for future in admin.create_topics([NewTopic("t", 3, 1)]).values():
            future.result(WAIT_S)
        expected: dict[str, int] = {}
        consumers = {f"group-{n}": consumer(f"group-{n}") for n in range(5)}
        partition = broker.data_dir / "__consumer_offsets-0"
        metadata = "m" * 3000
        for offset in range(1, 20_000):
            for group, member in consumers.items():
                committed = TopicPartition("t", offset % 3, offset, metadata)
                member.commit(offsets=[committed], asynchronous=False)
                expected[f"{group}/{offset % 3}"] = offset
            if compacted_below(partition) > 500:
                break
        else:
            pytest.fail("no compaction in sight")
        for member in consumers.values():
            member.close()
        broker.kill()
        broker.start()
        for group in consumers:
            member = consumer(group)
            asked = [TopicPartition("t", index) for index in range(3)]
            found = member.committed(asked, timeout=WAIT_S)
            assert {f"{group}/{p.partition}": p.offset for p in found} == {
                key: offset for key, offset in expected.items() if key.startswith(f"{group}/")
            }
            member.close()
        broker.stop()
