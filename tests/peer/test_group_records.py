"""`__consumer_offsets` between Apache Kafka and us, both ways.

Kafka's DumpLogSegments prints every type of record that we write, field for field; and a directory
in which Kafka kept groups is served by us with the same groups and offsets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kbroker.coord.group import schema
from kbroker.coord.group.serde import decode_record, encode_record
from kbroker.coord.result import Record

import kcore
from tests.clients.served import ServedBroker
from tests.peers import KafkaProcess, require_peer, run_java

pytestmark = pytest.mark.peer

TOPIC_ID = bytes(range(16))
GROUP, TOPIC = "readers", "orders"


# Each type of record with every field away from its default, and one tombstone.


def classic_samples() -> list[Record]:
    return [
        Record(
            schema.OffsetCommitKey(group=GROUP, topic=TOPIC, partition=3),
            schema.OffsetCommitValue(
                offset=42, leader_epoch=7, metadata="note", commit_timestamp=1_700_000_000_000
            ),
        ),
        Record(
            schema.OffsetCommitKey(group=GROUP, topic=TOPIC, partition=4),
            schema.OffsetCommitValue(offset=43, commit_timestamp=5, expire_timestamp=6),
        ),
        Record(schema.OffsetCommitKey(group=GROUP, topic=TOPIC, partition=5), None),
        Record(
            schema.GroupMetadataKey(group=GROUP),
            schema.GroupMetadataValue(
                protocol_type="consumer", generation=9, protocol="range", leader="m-1",
                current_state_timestamp=8,
                members=[
                    schema.MemberMetadata(
                        member_id="m-1", group_instance_id="static-1", client_id="c",
                        client_host="/127.0.0.1", rebalance_timeout=60_000, session_timeout=10_000,
                        subscription=b"\0\1", assignment=b"\0\2\3",
                    )
                ],
            ),
        ),
    ]  # fmt: skip


def consumer_protocol_samples() -> list[Record]:
    member = {"group_id": GROUP, "member_id": "m-1"}
    assigned = schema.CurrentTopicPartitions(topic_id=TOPIC_ID, partitions=[0, 2])
    return [
        Record(
            schema.ConsumerGroupMetadataKey(group_id=GROUP),
            schema.ConsumerGroupMetadataValue(epoch=11, metadata_hash=-12),
        ),
        Record(
            schema.ConsumerGroupMemberMetadataKey(**member),
            schema.ConsumerGroupMemberMetadataValue(
                instance_id="static-1", rack_id="rack", client_id="c", client_host="/127.0.0.1",
                subscribed_topic_names=[TOPIC], subscribed_topic_regex="o.*",
                rebalance_timeout_ms=60_000, server_assignor="uniform",
                classic_member_metadata=schema.ClassicMemberMetadata(
                    session_timeout_ms=10_000,
                    supported_protocols=[schema.ClassicProtocol(name="range", metadata=b"\7")],
                ),
            ),
        ),
        Record(
            schema.ConsumerGroupTargetAssignmentMetadataKey(group_id=GROUP),
            schema.ConsumerGroupTargetAssignmentMetadataValue(
                assignment_epoch=11, assignment_timestamp=1_700_000_000_000
            ),
        ),
        Record(
            schema.ConsumerGroupTargetAssignmentMemberKey(**member),
            schema.ConsumerGroupTargetAssignmentMemberValue(
                topic_partitions=[
                    schema.TargetTopicPartitions(topic_id=TOPIC_ID, partitions=[0, 1])
                ]
            ),
        ),
        Record(
            schema.ConsumerGroupCurrentMemberAssignmentKey(**member),
            schema.ConsumerGroupCurrentMemberAssignmentValue(
                member_epoch=11, previous_member_epoch=10, state=1,
                assigned_partitions=[assigned],
                partitions_pending_revocation=[
                    schema.CurrentTopicPartitions(
                        topic_id=TOPIC_ID, partitions=[5], assignment_epochs=[9]
                    )
                ],
            ),
        ),
        Record(
            schema.ConsumerGroupRegularExpressionKey(group_id=GROUP, regular_expression="o.*"),
            schema.ConsumerGroupRegularExpressionValue(
                topics=[TOPIC], image_version=77, timestamp=1_700_000_000_000
            ),
        ),
    ]  # fmt: skip


def test_kafka_reads_every_record_that_we_write(tmp_path: Path) -> None:
    require_peer("kafka")
    written = classic_samples() + consumer_protocol_samples()
    assert {type(record.key) for record in written} == {
        key for key, _ in schema.RECORD_TYPES.values()
    }
    pairs = [encode_record(record) for record in written]
    for record, pair in zip(written, pairs, strict=True):
        assert decode_record(*pair) == record
    directory = tmp_path / "__consumer_offsets-0"
    with kcore.Log.open(directory) as log:
        log.append(kcore.encode([value for _, value in pairs], keys=[key for key, _ in pairs]))
    done = run_java(
        "org.apache.kafka.tools.DumpLogSegments", "--files", str(next(directory.glob("*.log"))),
        "--offsets-decoder",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    printed = re.findall(r"key: (\{.*?\})(?: payload: (.*))?$", done.stdout, re.M)
    assert len(printed) == len(written), done.stdout
    for record, (key, payload) in zip(written, printed, strict=True):
        said = json.loads(key)
        assert said["type"] == str(record.key.TYPE)
        assert fields(said["data"]) == values_of(record.key)
        if record.value is None:
            assert payload in ("<DELETE>", "", "null"), payload
            continue
        assert fields(json.loads(payload)["data"]) == values_of(record.value)


def fields(data: Any) -> Any:
    """Kafka's JSON without names: what it says, in order; bytes and ids are base64 there."""
    if isinstance(data, dict):
        return [fields(value) for value in data.values()]
    if isinstance(data, list):
        return [fields(value) for value in data]
    return data


def values_of(struct: Any) -> Any:
    """The same of our struct: tagged fields that hold their default are not printed."""
    import base64

    from kcore.files.topic_ids import encode_id

    if isinstance(struct, list):
        return [values_of(value) for value in struct]
    if isinstance(struct, bytes):
        return encode_id(struct) if len(struct) == 16 else base64.b64encode(struct).decode()
    if not hasattr(struct, "FIELDS"):
        return struct
    version = getattr(struct, "VERSION", None)
    if version is None:
        version = struct.version() if hasattr(struct, "version") else 0
    if isinstance(struct, schema.MemberMetadata):
        version = 3
    said = []
    for name, _, (first, last), _, tagged, default in struct.FIELDS:
        value = getattr(struct, name)
        if first <= version <= last and not (tagged and value == default):
            said.append(values_of(value))
    return said


@pytest.fixture
def kafka_with_groups(tmp_path: Path) -> Iterator[KafkaProcess]:
    require_peer("kafka")
    with KafkaProcess(tmp_path / "kafka") as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for future in admin.create_topics([NewTopic(TOPIC, 2)]).values():
            future.result(60)
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        for n in range(20):
            producer.produce(TOPIC, b"v%d" % n, partition=n % 2)
        assert producer.flush(60) == 0
        for protocol in ("classic", "consumer"):
            consume_and_commit(kafka.bootstrap, f"{protocol}-group", protocol)
        kafka.stop()
        yield kafka


def consume_and_commit(bootstrap: str, group: str, protocol: str) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap, "group.id": group, "group.protocol": protocol,
            "auto.offset.reset": "earliest", "enable.auto.commit": False,
        }
    )  # fmt: skip
    consumer.subscribe([TOPIC])
    seen = 0
    while seen < 20:
        message = consumer.poll(60)
        assert message is not None and message.error() is None
        seen += 1
    consumer.commit(asynchronous=False)
    consumer.commit(offsets=[TopicPartition(TOPIC, 1, 4, "a note")], asynchronous=False)
    consumer.close()


def test_groups_of_a_kafka_directory_are_served(
    kafka_with_groups: KafkaProcess, tmp_path: Path
) -> None:
    ours = ServedBroker(tmp_path / "ours", {"group.initial.rebalance.delay.ms": "0"})
    ours.data_dir = kafka_with_groups.data_dir
    with ours:
        admin = AdminClient({"bootstrap.servers": ours.bootstrap})
        listed = {group.group_id: group for group in admin.list_consumer_groups().result(60).valid}
        assert set(listed) == {"classic-group", "consumer-group"}
        assert {str(group.state) for group in listed.values()} == {"ConsumerGroupState.EMPTY"}
        for group in listed:
            request = [ConsumerGroupTopicPartitions(group)]
            answer = admin.list_consumer_group_offsets(request)[group].result(60)
            found = {
                (part.partition, part.offset, part.metadata) for part in answer.topic_partitions
            }
            assert found == {(0, 10, None), (1, 4, "a note")}
        # And the groups go on where they were.
        consumer = Consumer(
            {
                "bootstrap.servers": ours.bootstrap, "group.id": "classic-group",
                "auto.offset.reset": "error",
            }
        )  # fmt: skip
        consumer.subscribe([TOPIC])
        message = consumer.poll(60)
        assert message is not None and message.error() is None
        assert (message.partition(), message.offset()) == (1, 4)
        consumer.close()
