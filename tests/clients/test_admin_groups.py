"""Groups, their offsets and their configurations in the hands of Python's admin clients.

Goal: what one client did to a group every other one sees. Method: groups are made by librdkafka's
consumer; confluent-kafka's, kafka-python's and aiokafka's admin clients change them and look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import KafkaException
from kafka import KafkaAdminClient, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource as PyConfigResource
from kafka.admin import ConfigResourceType, OffsetSpec

from tests.clients.served import Broker

RECORDS = 30
SESSION = "consumer.session.timeout.ms"


@pytest.fixture(scope="module")
def confluent(broker: Broker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})


@pytest.fixture(scope="module")
def kafka_python(broker: Broker) -> Iterator[Any]:
    client = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    yield client
    client.close()


@pytest.fixture
def orders(broker: Broker, topic: str) -> str:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for number in range(RECORDS):
        producer.produce(topic, b"%d" % number)
    assert producer.flush(60) == 0
    return topic


def reader(broker: Broker, group: str, topic: str, count: int) -> Consumer:
    """A member that has read and committed `count` records."""
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
         "enable.auto.commit": False, "log_level": 0}
    )  # fmt: skip
    consumer.subscribe([topic])
    assert len(consumer.consume(count, timeout=60)) == count
    consumer.commit(asynchronous=False)
    return consumer


def results(futures: dict[Any, Any]) -> dict[Any, Any]:
    return {key: future.result(60) for key, future in futures.items()}


def test_who_is_there(
    broker: Broker, orders: str, confluent: AdminClient, kafka_python: Any
) -> None:
    idle, live = f"{orders}-idle", f"{orders}-live"
    reader(broker, idle, orders, 20).close()
    consumer = reader(broker, live, orders, 10)

    listed = {group["group_id"]: group for group in kafka_python.list_groups()}
    assert listed[idle]["group_state"] == "Empty" and listed[live]["group_state"] == "Stable"
    empty = {g["group_id"] for g in kafka_python.list_groups(states_filter=["Empty"])}
    assert idle in empty and live not in empty
    valid = {
        group.group_id: group.state
        for group in confluent.list_consumer_groups().result(60).valid
        if group.group_id in (idle, live)
    }
    assert valid == {idle: ConsumerGroupState.EMPTY, live: ConsumerGroupState.STABLE}

    described = kafka_python.describe_groups([live])[live]
    (member,) = described["members"]
    assert (described["protocol_data"], member["client_id"]) == ("range", "rdkafka")
    assigned = member["member_assignment"]["assigned_partitions"]
    assert assigned == [{"topic": orders, "partitions": [0]}]
    (seen,) = results(confluent.describe_consumer_groups([live])).values()
    assert seen.partition_assignor == "range" and len(seen.members) == 1
    (place,) = seen.members[0].assignment.topic_partitions
    assert (place.topic, place.partition) == (orders, 0)

    async def asynchronous() -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await client.start()
        try:
            assert {(idle, "consumer"), (live, "consumer")} <= set(
                await client.list_consumer_groups()
            )
            (response,) = await client.describe_consumer_groups([live])
            assert [(group[1], group[2]) for group in response.groups] == [(live, "Stable")]
            offsets = await client.list_consumer_group_offsets(live)
            assert {(tp.topic, tp.partition): at.offset for tp, at in offsets.items()} == {
                (orders, 0): 10
            }
        finally:
            await client.close()

    asyncio.run(asynchronous())
    consumer.close()


def test_offsets_changed_by_one_are_seen_by_the_other(
    broker: Broker, orders: str, confluent: AdminClient, kafka_python: Any
) -> None:
    group, tp = f"{orders}-group", TopicPartition(orders, 0)

    def seen_by_confluent() -> tuple[int, str | None]:
        asked = [ConsumerGroupTopicPartitions(group)]
        (found,) = results(confluent.list_consumer_group_offsets(asked)).values()
        (place,) = found.topic_partitions
        return place.offset, place.metadata

    kafka_python.alter_group_offsets(group, {tp: OffsetAndMetadata(4, "by hand", -1)})
    assert seen_by_confluent() == (4, "by hand")
    wanted = [ConsumerGroupTopicPartitions(group, [Place(orders, 0, 9)])]
    results(confluent.alter_consumer_group_offsets(wanted))
    assert kafka_python.list_group_offsets([group])[group][tp].offset == 9
    kafka_python.reset_group_offsets(group, {tp: OffsetSpec.LATEST})
    assert seen_by_confluent()[0] == RECORDS
    consumer = reader_at(broker, group, orders)
    assert consumer.committed([Place(orders, 0)], timeout=60)[0].offset == RECORDS
    consumer.close()
    kafka_python.delete_group_offsets(group, [tp])
    assert kafka_python.list_group_offsets([group])[group] == {}


def reader_at(broker: Broker, group: str, topic: str) -> Consumer:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group, "log_level": 0})
    consumer.assign([Place(topic, 0)])
    return consumer


def test_groups_are_deleted_when_nobody_is_in_them(
    broker: Broker, orders: str, confluent: AdminClient, kafka_python: Any
) -> None:
    first, second = f"{orders}-1", f"{orders}-2"
    consumer = reader(broker, first, orders, 1)
    reader(broker, second, orders, 1).close()
    with pytest.raises(KafkaException, match="NON_EMPTY_GROUP"):
        results(confluent.delete_consumer_groups([first]))
    consumer.close()
    results(confluent.delete_consumer_groups([first]))
    told = kafka_python.delete_groups([first, second])
    assert told == {first: "GroupIdNotFoundError", second: "OK"}
    left = {group["group_id"] for group in kafka_python.list_groups()}
    assert not left & {first, second}


def test_configurations_of_groups(
    topic_name: str, confluent: AdminClient, kafka_python: Any
) -> None:
    group = topic_name
    resource = ConfigResource(
        ResourceType.GROUP, group,
        incremental_configs=[
            ConfigEntry(SESSION, "50000", incremental_operation=AlterConfigOpType.SET)
        ],
    )  # fmt: skip
    results(confluent.incremental_alter_configs([resource]))
    asked = [PyConfigResource(ConfigResourceType.GROUP, group)]
    shown = kafka_python.describe_configs(asked)["group"][group]
    assert {name: entry["value"] for name, entry in shown.items()} == {SESSION: "50000"}
    assert shown[SESSION]["config_source"] == "DYNAMIC_GROUP_CONFIG"
    assert group in kafka_python.list_config_resources()["group"]
    low = [PyConfigResource(ConfigResourceType.GROUP, group, {SESSION: "1000"})]
    assert "group.consumer.min.session" in kafka_python.alter_configs(low)["group"][group]
    (described,) = results(
        confluent.describe_configs([ConfigResource(ResourceType.GROUP, group)])
    ).values()
    assert described[SESSION].value == "50000"
    assert described["consumer.heartbeat.interval.ms"].value == "5000"
    kafka_python.reset_configs([PyConfigResource(ConfigResourceType.GROUP, group, [SESSION])])
    assert group not in kafka_python.list_config_resources().get("group", [])


def test_what_else_they_ask_of_a_broker(orders: str, kafka_python: Any) -> None:
    assert kafka_python.list_partition_reassignments() == {}
    assert str(kafka_python.get_broker_version_data(1)) == "<BrokerVersionData 4.3>"
    asked = kafka_python.describe_producers([TopicPartition(orders, 0)])
    (state,) = asked.values()
    assert state.active_producers == [], "librdkafka's producer is not idempotent by default"
    features = kafka_python.describe_features()
    assert features["group.version"]["finalized"] == (1, 1)
