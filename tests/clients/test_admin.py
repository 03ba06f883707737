"""Administration by every client that can: topics, partitions, configs, records, cluster.

Goal: what an admin call says is true for every other client at once (creation and deletion are
visible before the answer). Method: one client changes, another one looks. What is written to a
topic that is deleted comes from kcat, whose process ends: a producer that lives on asks for the
topic now and then, and has it made again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.conftest import DRIVEN_CLIENTS
from tests.clients.driven import ClientError, DrivenClient, KcatClient, Sent
from tests.clients.served import Broker
from tests.support.recent import RECENT_MS

Clients = Callable[[str], DrivenClient]

# aiokafka has only the call that replaces a topic's whole configuration, Java only the other one.
CAN_SET = ("confluent", "kafka_python", "java")
CAN_REPLACE = ("confluent", "kafka_python", "aiokafka")
CAN_LIST_OFFSETS = ("confluent", "kafka_python", "java")
CAN_LOG_DIRS = ("kafka_python", "java")


def looker(name: str) -> str:
    return "kafka_python" if name == "confluent" else "confluent"


@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_topic_from_creation_to_deletion(
    name: str, clients: Clients, kcat: KcatClient, topic_name: str
) -> None:
    client, other = clients(name), clients(looker(name))
    config = {"retention.ms": "86400000", "segment.bytes": "1048576"}
    client.call("create_topic", topic=topic_name, partitions=3, config=config)
    assert topic_name in other.call("list_topics")
    assert other.call("partition_count", topic=topic_name) == 3
    described = other.call("describe_config", topic=topic_name)
    assert {key: described[key] for key in config} == config

    client.call("create_partitions", topic=topic_name, count=5)
    assert other.call("partition_count", topic=topic_name) == 5
    kcat.produce_lines(topic_name, [b"in the new one"], partition=4)
    (record,) = client.consume(topic_name, 1, partition=4)
    assert (record.offset, record.value) == (0, b"in the new one")

    client.call("delete_topic", topic=topic_name)
    assert topic_name not in other.call("list_topics")


@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_a_topic_made_again_is_empty(
    name: str, clients: Clients, kcat: KcatClient, topic_name: str
) -> None:
    client, other = clients(name), clients(looker(name))
    client.call("create_topic", topic=topic_name, partitions=1, config={})
    kcat.produce_lines(topic_name, [b"old"] * 7)
    assert other.call("list_offset", topic=topic_name, partition=0, which="latest") == 7
    client.call("delete_topic", topic=topic_name)
    client.call("create_topic", topic=topic_name, partitions=1, config={})
    assert other.call("list_offset", topic=topic_name, partition=0, which="latest") == 0


@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_refusals_reach_the_caller(name: str, clients: Clients, topic: str) -> None:
    client = clients(name)
    with pytest.raises(ClientError, match=r"(?i)exists|\b36\b"):
        client.call("create_topic", topic=topic, partitions=1, config={})
    with pytest.raises(ClientError, match=r"(?i)invalid|\b17\b"):
        client.call("create_topic", topic="no/slashes", partitions=1, config={})
    with pytest.raises(ClientError, match=r"(?i)config|\b40\b"):
        client.call(
            "create_topic", topic="bad-config", partitions=1, config={"retention.ms": "soon"}
        )
    with pytest.raises(ClientError, match=r"(?i)partition|\b37\b"):
        client.call("create_partitions", topic=topic, count=1)
    with pytest.raises(ClientError, match=r"(?i)unknown|does not host|\b3\b"):
        client.call("delete_topic", topic="never-made")


@pytest.mark.parametrize("name", CAN_SET)
def test_incremental_change_of_a_config(name: str, clients: Clients, topic: str) -> None:
    client, other = clients(name), clients(looker(name))
    client.call("set_config", topic=topic, config={"max.message.bytes": "2000"})
    client.call("set_config", topic=topic, config={"retention.ms": "60000"})
    described = other.call("describe_config", topic=topic)
    assert (described["max.message.bytes"], described["retention.ms"]) == ("2000", "60000")
    # It acts at once.
    with pytest.raises(ClientError, match=r"(?i)too large|size|MSG_SIZE"):
        other.produce(topic, [Sent(b"x" * 5_000)])
    assert other.produce(topic, [Sent(b"x" * 500)]) == [0]


@pytest.mark.parametrize("name", CAN_REPLACE)
def test_replacing_a_whole_config(name: str, clients: Clients, topic_name: str) -> None:
    client, other = clients(name), clients(looker(name))
    client.call("create_topic", topic=topic_name, partitions=1, config={"retention.ms": "60000"})
    default = other.call("describe_config", topic=topic_name)["segment.bytes"]
    client.call("replace_config", topic=topic_name, config={"segment.bytes": "2097152"})
    described = other.call("describe_config", topic=topic_name)
    assert described["segment.bytes"] == "2097152" != default
    # What is not named goes back to its default; kafka-python asks first and names everything.
    expected = "60000" if name == "kafka_python" else "604800000"
    assert described["retention.ms"] == expected


@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_delete_records(name: str, clients: Clients, topic: str) -> None:
    client, other = clients(name), clients(looker(name))
    for begin in range(0, 100, 20):
        other.produce(topic, [Sent(b"%d" % i) for i in range(begin, begin + 20)])
    assert client.call("delete_records", topic=topic, partition=0, before=50) == 50
    assert other.call("list_offset", topic=topic, partition=0, which="earliest") == 50
    assert [r.offset for r in client.consume(topic, 50)] == list(range(50, 100))
    # -1 means all there is.
    assert client.call("delete_records", topic=topic, partition=0, before=-1) == 100
    assert other.call("list_offset", topic=topic, partition=0, which="earliest") == 100
    assert other.produce(topic, [Sent(b"goes on")]) == [100]


@pytest.mark.parametrize("name", CAN_LIST_OFFSETS)
def test_listed_offsets(name: str, clients: Clients, topic: str) -> None:
    client = clients(name)
    times = [0, 50, 10, 20]
    clients("confluent").produce(topic, [Sent(b"v", None, (), RECENT_MS + t) for t in times])
    listed = {
        which: client.call("list_offset", topic=topic, partition=0, which=which)
        for which in ("earliest", "latest", "max_timestamp")
    }
    assert listed == {"earliest": 0, "latest": 4, "max_timestamp": 1}


@pytest.mark.parametrize("name", CAN_LOG_DIRS)
def test_log_dirs_know_the_size(name: str, clients: Clients, topic: str) -> None:
    clients("confluent").produce(topic, [Sent(b"x" * 10_000)] * 10)
    size = clients(name).call("log_dirs")[f"{topic}-0"]
    assert 100_000 < size < 110_000


@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_cluster(name: str, clients: Clients, broker: Broker) -> None:
    described: dict[str, Any] = clients(name).call("cluster")
    host, _, port = broker.bootstrap.rpartition(":")
    assert [node[1:] for node in described["nodes"]] == [[host, int(port)]]
    assert len(described["id"]) == 22  # a UUID in URL-safe base64 without padding
    assert described["id"] == clients(looker(name)).call("cluster")["id"]


@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_a_topic_is_made_by_the_first_producer(
    name: str, clients: Clients, topic_name: str
) -> None:
    client = clients(name)
    assert client.produce(topic_name, [Sent(b"first")]) == [0]
    assert [r.value for r in clients(looker(name)).consume(topic_name, 1)] == [b"first"]
