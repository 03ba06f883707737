"""kafka-python as a driver process: `kafka_python_driver.py BOOTSTRAP`."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from protocol import Record, event, from_headers, serve, to_bytes, to_headers, to_text

TIMEOUT_S = 60.0


class Driver:
    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producers: dict[str, KafkaProducer] = {}
        self._admin_client: KafkaAdminClient | None = None

    @property
    def _admin(self) -> KafkaAdminClient:
        if self._admin_client is None:
            self._admin_client = KafkaAdminClient(bootstrap_servers=self._bootstrap)
        return self._admin_client

    def _producer(self, **config: Any) -> KafkaProducer:
        """One producer for each configuration, kept: it lives through a restart of the broker."""
        key = json.dumps(config, sort_keys=True)
        if key not in self._producers:
            self._producers[key] = KafkaProducer(
                bootstrap_servers=self._bootstrap,
                linger_ms=20,
                max_request_size=2_000_000,
                **config,
            )
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
        compression = None if codec == "none" else codec
        producer = self._producer(
            compression_type=compression, acks=acks, enable_idempotence=idempotent
        )
        sent = [
            producer.send(
                topic,
                value=to_bytes(record["v"]),
                key=to_bytes(record["k"]),
                headers=from_headers(record["h"]),
                partition=partition,
                timestamp_ms=record["t"],
            )
            for record in records
        ]
        producer.flush(TIMEOUT_S)
        return [future.get(TIMEOUT_S).offset for future in sent]

    def consume(
        self, topic: str, partition: int, start: str, count: int, value: int = 0
    ) -> list[Record]:
        where = TopicPartition(topic, partition)
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=None,
            enable_auto_commit=False,
            max_partition_fetch_bytes=4_000_000,
        )
        try:
            consumer.assign([where])
            if start == "beginning":
                consumer.seek_to_beginning(where)
            elif start == "end":
                consumer.seek_to_end(where)
            elif start == "timestamp":
                consumer.seek(where, consumer.offsets_for_times({where: value})[where].offset)
            else:
                consumer.seek(where, value)
            consumer.position(where)
            if start == "end":
                event("positioned")
            return self._drain(consumer, where, count)
        finally:
            consumer.close()

    def _drain(self, consumer: KafkaConsumer, where: TopicPartition, count: int) -> list[Record]:
        records: list[Record] = []
        deadline = time.monotonic() + TIMEOUT_S
        while len(records) < count:
            left_ms = int(1000 * (deadline - time.monotonic()))
            if left_ms <= 0:
                raise TimeoutError(f"{len(records)} of {count} records in {TIMEOUT_S} s")
            for message in consumer.poll(left_ms).get(where, []):
                records.append(
                    {
                        "k": to_text(message.key),
                        "v": to_text(message.value),
                        "h": to_headers(message.headers),
                        "t": message.timestamp,
                        "o": message.offset,
                    }
                )
        return records[:count]

    # Administration

    def create_topic(self, topic: str, partitions: int, config: dict[str, str]) -> None:
        options = {"num_partitions": partitions, "replication_factor": 1, "configs": config}
        self._admin.create_topics({topic: options})

    def delete_topic(self, topic: str) -> None:
        self._admin.delete_topics([topic])

    def create_partitions(self, topic: str, count: int) -> None:
        self._admin.create_partitions({topic: count})

    def list_topics(self) -> list[str]:
        return sorted(self._admin.list_topics())

    def partition_count(self, topic: str) -> int:
        [described] = self._admin.describe_topics([topic])
        return len(described["partitions"])

    def describe_config(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        described = self._admin.describe_configs([resource], config_filter="all")
        return {name: entry["value"] for name, entry in described["topic"][topic].items()}

    def set_config(self, topic: str, config: dict[str, str]) -> None:
        self._alter(topic, config, incremental=True)

    def replace_config(self, topic: str, config: dict[str, str]) -> None:
        self._alter(topic, config, incremental=False)

    def _alter(self, topic: str, config: dict[str, str], incremental: bool) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=config)
        done = self._admin.alter_configs([resource], incremental=incremental)
        if done["topic"][topic] != "OK":
            raise RuntimeError(str(done))

    def delete_records(self, topic: str, partition: int, before: int) -> int:
        where = TopicPartition(topic, partition)
        return int(self._admin.delete_records({where: before})[where]["low_watermark"])

    def list_offset(self, topic: str, partition: int, which: str) -> int:
        where = TopicPartition(topic, partition)
        timestamp = {"latest": -1, "earliest": -2, "max_timestamp": -3}[which]
        return int(self._admin.list_partition_offsets({where: timestamp})[where].offset)

    def log_dirs(self) -> dict[str, int]:
        return {
            f"{topic['name']}-{partition['partition_index']}": partition["partition_size"]
            for node in self._admin.describe_log_dirs()
            for folder in node["log_dirs"]
            for topic in folder["topics"]
            for partition in topic["partitions"]
        }

    # Groups

    def list_groups(self, states: list[str], types: list[str]) -> dict[str, list[str]]:
        found = self._admin.list_groups(states_filter=states or None, types_filter=types or None)
        return {
            group["group_id"]: [group["group_state"].lower(), group["group_type"].lower()]
            for group in found
        }

    def describe_group(self, group: str) -> dict[str, Any]:
        described = self._admin.describe_groups([group])[group]
        if described["error"] is not None:
            raise RuntimeError(described["error"])
        return {
            "state": described["group_state"].lower(),
            "assignor": described["protocol_data"],
            "members": {
                member["member_id"]: {
                    "client": member["client_id"],
                    "host": member["client_host"],
                    "instance": member["group_instance_id"],
                    "partitions": sorted(
                        [topic["topic"], partition]
                        for topic in member["member_assignment"]["assigned_partitions"]
                        for partition in topic["partitions"]
                    ),
                }
                for member in described["members"]
            },
        }

    def committed(self, group: str, partitions: list[list[Any]] | None = None) -> list[list[Any]]:
        wanted = partitions and [TopicPartition(topic, index) for topic, index in partitions]
        found = self._admin.list_group_offsets({group: wanted})[group]
        return sorted(
            [where.topic, where.partition, offset.offset, offset.metadata, offset.leader_epoch]
            for where, offset in found.items()
        )

    def commit_offsets(self, group: str, offsets: list[list[Any]]) -> None:
        wanted = {
            TopicPartition(topic, index): OffsetAndMetadata(offset, metadata, epoch)
            for topic, index, offset, metadata, epoch in offsets
        }
        for error in self._admin.alter_group_offsets(group, wanted).values():
            if error.errno != 0:
                raise error()

    def delete_offsets(self, group: str, partitions: list[list[Any]]) -> None:
        wanted = [TopicPartition(topic, index) for topic, index in partitions]
        for error in self._admin.delete_group_offsets(group, wanted).values():
            if error.errno != 0:
                raise error()

    def delete_group(self, group: str) -> None:
        done = self._admin.delete_groups([group])[group]
        if done != "OK":
            raise RuntimeError(done)

    def set_group_config(self, group: str, config: dict[str, str]) -> None:
        resource = ConfigResource(ConfigResourceType.GROUP, group, configs=config)
        done = self._admin.alter_configs([resource], incremental=True)
        if done["group"][group] != "OK":
            raise RuntimeError(str(done))

    def cluster(self) -> dict[str, Any]:
        described = self._admin.describe_cluster()
        nodes = [[b["broker_id"], b["host"], b["port"]] for b in described["brokers"]]
        return {"id": described["cluster_id"], "nodes": nodes}


if __name__ == "__main__":
    driver = Driver(sys.argv[1])
    serve(lambda name: getattr(driver, name))
