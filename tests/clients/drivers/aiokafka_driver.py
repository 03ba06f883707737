"""aiokafka as a driver process: `aiokafka_driver.py BOOTSTRAP`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment as Assignment
from protocol import Record, event, from_headers, serve, to_bytes, to_headers, to_text

TIMEOUT_S = 60.0


class Driver:
    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producers: dict[str, AIOKafkaProducer] = {}
        self._admin_client: AIOKafkaAdminClient | None = None

    async def _admin(self) -> AIOKafkaAdminClient:
        if self._admin_client is None:
            self._admin_client = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
            await self._admin_client.start()
        return self._admin_client

    async def _producer(self, **config: Any) -> AIOKafkaProducer:
        """One producer for each configuration, kept: it lives through a restart of the broker."""
        key = json.dumps(config, sort_keys=True)
        if key not in self._producers:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                linger_ms=20,
                max_request_size=2_000_000,
                **config,
            )
            await producer.start()
            self._producers[key] = producer
        return self._producers[key]

    async def produce(
        self,
        topic: str,
        partition: int,
        records: list[Record],
        codec: str = "none",
        acks: int = -1,
        idempotent: bool = False,
    ) -> list[int]:
        producer = await self._producer(
            compression_type=None if codec == "none" else codec,
            acks="all" if acks == -1 else acks,
            enable_idempotence=idempotent,
        )
        sent = [
            await producer.send(
                topic,
                value=to_bytes(record["v"]),
                key=to_bytes(record["k"]),
                headers=from_headers(record["h"]),
                partition=partition,
                timestamp_ms=record["t"],
            )
            for record in records
        ]
        done = await asyncio.wait_for(asyncio.gather(*sent), TIMEOUT_S)
        # With acks=0 nobody says where a record went.
        return [-1 if metadata is None else metadata.offset for metadata in done]

    async def consume(
        self, topic: str, partition: int, start: str, count: int, value: int = 0
    ) -> list[Record]:
        where = TopicPartition(topic, partition)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            max_partition_fetch_bytes=4_000_000,
        )
        await consumer.start()
        try:
            consumer.assign([where])
            if start == "beginning":
                await consumer.seek_to_beginning(where)
            elif start == "end":
                await consumer.seek_to_end(where)
            elif start == "timestamp":
                found = await consumer.offsets_for_times({where: value})
                consumer.seek(where, found[where].offset)
            else:
                consumer.seek(where, value)
            await consumer.position(where)
            if start == "end":
                event("positioned")
            return await self._drain(consumer, where, count)
        finally:
            await consumer.stop()

    async def _drain(
        self, consumer: AIOKafkaConsumer, where: TopicPartition, count: int
    ) -> list[Record]:
        records: list[Record] = []
        deadline = time.monotonic() + TIMEOUT_S
        while len(records) < count:
            left_ms = int(1000 * (deadline - time.monotonic()))
            if left_ms <= 0:
                raise TimeoutError(f"{len(records)} of {count} records in {TIMEOUT_S} s")
            found = await consumer.getmany(where, timeout_ms=left_ms)
            for message in found.get(where, []):
                records.append(
                    {
                        "k": to_text(message.key),
                        "v": to_text(message.value),
                        "h": to_headers(list(message.headers)),
                        "t": message.timestamp,
                        "o": message.offset,
                    }
                )
        return records[:count]

    # Administration

    async def create_topic(self, topic: str, partitions: int, config: dict[str, str]) -> None:
        new = NewTopic(topic, partitions, 1, topic_configs=config)
        done = await (await self._admin()).create_topics([new])
        _check((name, code) for name, code, *_ in done.topic_errors)

    async def delete_topic(self, topic: str) -> None:
        done = await (await self._admin()).delete_topics([topic])
        _check((name, code) for name, code, *_ in done.topic_error_codes)

    async def create_partitions(self, topic: str, count: int) -> None:
        done = await (await self._admin()).create_partitions({topic: NewPartitions(count)})
        _check((name, code) for name, code, *_ in done.topic_errors)

    async def list_topics(self) -> list[str]:
        return sorted(await (await self._admin()).list_topics())

    async def partition_count(self, topic: str) -> int:
        [described] = await (await self._admin()).describe_topics([topic])
        return len(described["partitions"])

    async def describe_config(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        [answer] = await (await self._admin()).describe_configs([resource])
        [(_code, _message, _kind, _name, entries)] = answer.resources
        return {entry[0]: entry[1] for entry in entries}

    async def replace_config(self, topic: str, config: dict[str, str]) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=config)
        [answer] = await (await self._admin()).alter_configs([resource])
        _check((name, code) for code, _message, _kind, name in answer.resources)

    async def delete_records(self, topic: str, partition: int, before: int) -> int:
        where = TopicPartition(topic, partition)
        done = await (await self._admin()).delete_records({where: RecordsToDelete(before)})
        return int(done[where])

    # Groups

    async def list_groups(self, states: list[str], types: list[str]) -> dict[str, list[str]]:
        if states or types:
            raise NotImplementedError("aiokafka has no filters")
        return {name: [] for name, *_ in await (await self._admin()).list_consumer_groups()}

    async def describe_group(self, group: str) -> dict[str, Any]:
        [answer] = await (await self._admin()).describe_consumer_groups([group])
        [(code, _group, state, _type, assignor, members, *_)] = answer.groups
        _check([(group, code)])
        return {
            "state": state.lower(),
            "assignor": assignor,
            "members": {
                member: {
                    "client": client,
                    "host": host,
                    "instance": None,
                    "partitions": sorted(
                        [topic, partition]
                        for topic, partitions in Assignment.decode(assignment).assignment
                        for partition in partitions
                    ),
                }
                for member, client, host, _metadata, assignment in members
            },
        }

    async def committed(
        self, group: str, partitions: list[list[Any]] | None = None
    ) -> list[list[Any]]:
        wanted = partitions and [TopicPartition(topic, index) for topic, index in partitions]
        admin = await self._admin()
        found = await admin.list_consumer_group_offsets(group, partitions=wanted)
        return sorted(
            [where.topic, where.partition, offset.offset, offset.metadata]
            for where, offset in found.items()
        )

    async def cluster(self) -> dict[str, Any]:
        described = await (await self._admin()).describe_cluster()
        nodes = [[b["node_id"], b["host"], b["port"]] for b in described["brokers"]]
        return {"id": described["cluster_id"], "nodes": nodes}


def _check(results: Any) -> None:
    failed = [(name, code) for name, code in results if code != 0]
    if failed:
        raise RuntimeError(f"error codes: {failed}")


def main() -> None:
    loop = asyncio.new_event_loop()
    driver = Driver(sys.argv[1])

    def operation(name: str) -> Callable[..., Any]:
        # The producers' tasks run only while a request is served; between two requests they rest.
        return lambda **arguments: loop.run_until_complete(getattr(driver, name)(**arguments))

    serve(operation)


if __name__ == "__main__":
    main()
