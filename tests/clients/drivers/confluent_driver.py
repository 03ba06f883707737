"""confluent-kafka (librdkafka) as a driver process: `confluent_driver.py BOOTSTRAP`."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import time
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    ConsumerGroupType,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from protocol import Record, event, from_headers, serve, to_bytes, to_headers, to_text

TIMEOUT_S = 60.0


class Driver:
    def __init__(self, bootstrap: str) -> None:
        self._common = {"bootstrap.servers": bootstrap, "log_level": 0, "socket.timeout.ms": 60_000}
        self._producers: dict[str, Producer] = {}
        self._admin_client: AdminClient | None = None

    @property
    def _admin(self) -> AdminClient:
        self._admin_client = self._admin_client or AdminClient(self._common)
        return self._admin_client

    def _producer(self, **config: Any) -> Producer:
        """One producer for each configuration, kept: it lives through a restart of the broker."""
        key = json.dumps(config, sort_keys=True)
        if key not in self._producers:
            limits = {"message.max.bytes": 2_000_000, "linger.ms": 20}
            self._producers[key] = Producer({**self._common, **limits, **config})
        return self._producers[key]

    def produce(
        self,
        topic: str,
        partition: int,
        records: list[Record],
        codec: str = "none",
        acks: int = -1,
        idempotent: bool = False,
    ) -> list[int]:
        config = {"compression.type": codec, "acks": acks, "enable.idempotence": idempotent}
        producer = self._producer(**config)
        offsets: dict[int, int] = {}
        errors: list[str] = []

        def delivered(index: int) -> Any:
            def on_delivery(error: KafkaError | None, message: Message) -> None:
                if error is not None:
                    errors.append(str(error))
                else:
                    offsets[index] = message.offset()

            return on_delivery

        for index, record in enumerate(records):
            producer.produce(
                topic,
                value=to_bytes(record["v"]),
                key=to_bytes(record["k"]),
                headers=from_headers(record["h"]),
                partition=partition,
                timestamp=record["t"] or 0,
                on_delivery=delivered(index),
            )
        left = producer.flush(TIMEOUT_S)
        if errors or left:
            raise RuntimeError(f"{left} records unsent; {errors[:3]}")
        return [offsets[index] for index in range(len(records))]

    def consume(
        self, topic: str, partition: int, start: str, count: int, value: int = 0
    ) -> list[Record]:
        consumer = self._consumer()
        try:
            where = TopicPartition(topic, partition, value)
            if start == "beginning":
                where.offset = OFFSET_BEGINNING
            elif start == "end":
                where.offset = OFFSET_END
            elif start == "timestamp":
                [where] = consumer.offsets_for_times([where], timeout=TIMEOUT_S)
            consumer.assign([where])
            return self._drain(consumer, count, start == "end")
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                **self._common,
                "group.id": "not-used",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "fetch.message.max.bytes": 4_000_000,
            }
        )

    def _drain(self, consumer: Consumer, count: int, tell_end: bool) -> list[Record]:
        records: list[Record] = []
        deadline = time.monotonic() + TIMEOUT_S
        while len(records) < count:
            message = consumer.poll(max(0.0, deadline - time.monotonic()))
            if message is None:
                raise TimeoutError(f"{len(records)} of {count} records in {TIMEOUT_S} s")
            error = message.error()
            if error is None:
                records.append(
                    {
                        "k": to_text(message.key()),
                        "v": to_text(message.value()),
                        "h": to_headers(message.headers() or []),
                        "t": message.timestamp()[1],
                        "o": message.offset(),
                    }
                )
            elif error.code() == KafkaError._PARTITION_EOF:
                if tell_end:
                    event("positioned")
                    tell_end = False
            else:
                raise KafkaException(error)
        return records

    def digest(self, topic: str, partition: int, count: int) -> str:
        """SHA-256 over size and bytes of `count` values from the beginning of a partition."""
        consumer = self._consumer()
        sha, seen = hashlib.sha256(), 0
        try:
            consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
            while seen < count:
                messages = consumer.consume(min(10_000, count - seen), timeout=TIMEOUT_S)
                if not messages:
                    raise TimeoutError(f"{seen} of {count} records")
                for message in messages:
                    if message.error() is None:
                        value = message.value() or b""
                        sha.update(len(value).to_bytes(4, "big") + value)
                        seen += 1
        finally:
            consumer.close()
        return sha.hexdigest()

    def load(
        self,
        topic: str,
        partitions: int,
        stop_file: str,
        report_every: int,
        acks: int,
        idempotent: bool,
    ) -> list[list[int]]:
        """Sends 0, 1, 2, ... through whatever happens to the broker until `stop_file` exists, and
        says "progress" after every so many acknowledged. Returns (number, partition, offset)."""
        producer = self._producer(
            **{
                "acks": acks,
                "enable.idempotence": idempotent,
                "linger.ms": 1,
                "queue.buffering.max.messages": 5_000,
                "message.timeout.ms": 90_000,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 200,
                "retry.backoff.ms": 20,
                "compression.type": "lz4",
            }
        )
        acked: list[list[int]] = []
        errors: list[str] = []

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                errors.append(str(error))
                return
            number = int(bytes(message.value() or b"").split(b" ", 1)[0])
            acked.append([number, message.partition(), message.offset()])
            if len(acked) % report_every == 0:
                event("progress")

        padding = b" " + b"x" * 90
        for number in itertools.count():
            if number % 500 == 0 and os.path.exists(stop_file):
                break
            while True:
                try:
                    value = b"%d" % number + padding
                    producer.produce(
                        topic, value, partition=number % partitions, on_delivery=on_delivery
                    )
                    break
                except BufferError:
                    producer.poll(1.0)
            producer.poll(0)
        left = producer.flush(2 * TIMEOUT_S)
        if errors or left:
            raise RuntimeError(f"{left} records unsent; {errors[:3]}")
        return acked

    def numbers(self, topic: str, partition: int) -> list[int]:
        """What `load` wrote to a partition, in its order, from the beginning to the end."""
        consumer = self._consumer()
        found: list[int] = []
        try:
            consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
            deadline = time.monotonic() + TIMEOUT_S
            while time.monotonic() < deadline:
                # It waits for that many, or for the time-out: the last ones are few.
                for message in consumer.consume(1_000, timeout=0.2):
                    error = message.error()
                    if error is None:
                        if message.offset() != len(found):
                            raise RuntimeError(f"offset {message.offset()} after {len(found) - 1}")
                        found.append(int(bytes(message.value() or b"").split(b" ", 1)[0]))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        return found
                    else:
                        raise KafkaException(error)
            raise TimeoutError(f"no end of the partition after {len(found)} records")
        finally:
            consumer.close()

    def fill(self, topic: str, partitions: int, first: int, count: int) -> None:
        """The numbers from `first` on, `count` of them, into every partition."""
        producer = self._producer(acks=-1)
        errors: list[str] = []

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                errors.append(str(error))

        for number in range(first, first + count):
            for index in range(partitions):
                producer.produce(topic, b"%d" % number, partition=index, on_delivery=on_delivery)
        left = producer.flush(TIMEOUT_S)
        if errors or left:
            raise RuntimeError(f"{left} records unsent; {errors[:3]}")

    def flow(self, topic: str, partitions: int, rate: int, stop_file: str) -> list[int]:
        """0, 1, 2, ... to the partitions in turn, so many a second, whatever happens to the broker,
        until `stop_file` exists. Returns how many records each partition has got."""
        producer = self._producer(
            **{
                "enable.idempotence": True,
                "linger.ms": 5,
                "reconnect.backoff.max.ms": 200,
                "message.timeout.ms": 90_000,
            }
        )
        counts = [0] * partitions
        errors: list[str] = []

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                errors.append(str(error))
            else:
                counts[message.partition() or 0] += 1

        begin = time.monotonic()
        for number in itertools.count():
            index = number % partitions
            producer.produce(topic, b"%d" % number, partition=index, on_delivery=on_delivery)
            if number % 10 == 0:
                while (early := begin + number / rate - time.monotonic()) > 0:
                    producer.poll(early)
                if os.path.exists(stop_file):
                    break
        left = producer.flush(2 * TIMEOUT_S)
        if errors or left:
            raise RuntimeError(f"{left} records unsent; {errors[:3]}")
        return counts

    # Administration

    def create_topic(self, topic: str, partitions: int, config: dict[str, str]) -> None:
        new = NewTopic(topic, partitions, 1, config=config)
        self._admin.create_topics([new])[topic].result(TIMEOUT_S)

    def delete_topic(self, topic: str) -> None:
        self._admin.delete_topics([topic])[topic].result(TIMEOUT_S)

    def create_partitions(self, topic: str, count: int) -> None:
        self._admin.create_partitions([NewPartitions(topic, count)])[topic].result(TIMEOUT_S)

    def list_topics(self) -> list[str]:
        return sorted(self._admin.list_topics(timeout=TIMEOUT_S).topics)

    def partition_count(self, topic: str) -> int:
        described = self._admin.describe_topics(TopicCollection([topic]))
        return len(described[topic].result(TIMEOUT_S).partitions)

    def describe_config(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        entries = self._admin.describe_configs([resource])[resource].result(TIMEOUT_S)
        return {name: entry.value for name, entry in entries.items()}

    def set_config(self, topic: str, config: dict[str, str]) -> None:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        self._admin.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)

    def replace_config(self, topic: str, config: dict[str, str]) -> None:
        resource = ConfigResource(ResourceType.TOPIC, topic, set_config=config)
        self._admin.alter_configs([resource])[resource].result(TIMEOUT_S)

    def delete_records(self, topic: str, partition: int, before: int) -> int:
        where = TopicPartition(topic, partition, before)
        deleted = self._admin.delete_records([where])[where].result(TIMEOUT_S)
        return int(deleted.low_watermark)

    def list_offset(self, topic: str, partition: int, which: str) -> int:
        spec = {
            "earliest": OffsetSpec.earliest,
            "latest": OffsetSpec.latest,
            "max_timestamp": OffsetSpec.max_timestamp,
        }[which]()
        where = TopicPartition(topic, partition)
        return int(self._admin.list_offsets({where: spec})[where].result(TIMEOUT_S).offset)

    # Groups

    def list_groups(self, states: list[str], types: list[str]) -> dict[str, list[str]]:
        found = self._admin.list_consumer_groups(
            states={ConsumerGroupState[state.upper()] for state in states},
            types={ConsumerGroupType[kind.upper()] for kind in types},
        ).result(TIMEOUT_S)
        if found.errors:
            raise RuntimeError(str(found.errors))
        return {
            group.group_id: [group.state.name.lower(), group.type.name.lower()]
            for group in found.valid
        }

    def describe_group(self, group: str) -> dict[str, Any]:
        [future] = self._admin.describe_consumer_groups([group]).values()
        described = future.result(TIMEOUT_S)
        return {
            "state": described.state.name.lower(),
            "type": described.type.name.lower(),
            "assignor": described.partition_assignor,
            "members": {
                member.member_id: {
                    "client": member.client_id,
                    "host": member.host,
                    "instance": member.group_instance_id,
                    "partitions": sorted(
                        [where.topic, where.partition]
                        for where in member.assignment.topic_partitions
                    ),
                }
                for member in described.members
            },
        }

    def committed(self, group: str, partitions: list[list[Any]] | None = None) -> list[list[Any]]:
        wanted = partitions and [TopicPartition(topic, index) for topic, index in partitions]
        asked = ConsumerGroupTopicPartitions(group, wanted)
        [future] = self._admin.list_consumer_group_offsets([asked]).values()
        rows = []
        for where in future.result(TIMEOUT_S).topic_partitions:
            if where.error is not None:
                raise KafkaException(where.error)
            # librdkafka's name for -1 is a number of its own.
            offset = max(where.offset, -1)
            epoch = -1 if where.leader_epoch is None else where.leader_epoch
            rows.append([where.topic, where.partition, offset, where.metadata or "", epoch])
        return sorted(rows)

    def commit_offsets(self, group: str, offsets: list[list[Any]]) -> None:
        rows = [
            TopicPartition(
                topic, index, offset, metadata, **({} if epoch < 0 else {"leader_epoch": epoch})
            )
            for topic, index, offset, metadata, epoch in offsets
        ]
        wanted = ConsumerGroupTopicPartitions(group, rows)
        [future] = self._admin.alter_consumer_group_offsets([wanted]).values()
        for where in future.result(TIMEOUT_S).topic_partitions:
            if where.error is not None:
                raise KafkaException(where.error)

    def delete_group(self, group: str) -> None:
        self._admin.delete_consumer_groups([group])[group].result(TIMEOUT_S)

    def cluster(self) -> dict[str, Any]:
        described = self._admin.describe_cluster().result(TIMEOUT_S)
        nodes = [[node.id, node.host, node.port] for node in described.nodes]
        return {"id": described.cluster_id, "nodes": nodes}


if __name__ == "__main__":
    driver = Driver(sys.argv[1])
    serve(lambda name: getattr(driver, name))
