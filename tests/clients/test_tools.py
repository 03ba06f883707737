"""The tools that come with Apache Kafka for groups and configurations, as people type them.

Goal: what they print about this broker is what they print about Kafka (`KCORE_TEST_BROKER=kafka`
runs the same tests there). Method: many calls of the tools in one JVM; groups are made by clients.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from tests.clients.served import Broker
from tests.clients.tools import CONFIGS, GROUPS, Tools
from tests.peers import require_peer

pytestmark = pytest.mark.peer
RECORDS = 30


@pytest.fixture(scope="module")
def tools(broker: Broker) -> Iterator[Tools]:
    require_peer("kafka")
    with Tools(broker.bootstrap) as opened:
        yield opened


@pytest.fixture
def orders(broker: Broker, topic: str) -> str:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for number in range(RECORDS):
        producer.produce(topic, b"%d" % number)
    assert producer.flush(60) == 0
    return topic


def reader(broker: Broker, group: str, topic: str, count: int, **options: Any) -> Consumer:
    """A member of the group that has read and committed `count` records."""
    common = {"auto.offset.reset": "earliest", "enable.auto.commit": False, "log_level": 0}
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": group, **common, **options}
    )
    consumer.subscribe([topic])
    assert len(consumer.consume(count, timeout=60)) == count
    consumer.commit(asynchronous=False)
    return consumer


def test_groups_listed_and_described(broker: Broker, tools: Tools, orders: str) -> None:
    idle, live, newer = (f"{orders}-{kind}" for kind in ("idle", "live", "newer"))
    reader(broker, idle, orders, 20).close()
    consumer = reader(broker, live, orders, 10)
    modern = reader(broker, newer, orders, 30, **{"group.protocol": "consumer"})
    mine = {idle, live, newer}

    def listed(*options: str) -> dict[str, list[str]]:
        return {
            row[0]: row[1:] for row in tools.table(GROUPS, "--list", *options) if row[0] in mine
        }

    assert listed("--state") == {idle: ["Empty"], live: ["Stable"], newer: ["Stable"]}
    assert listed("--type") == {idle: ["Classic"], live: ["Classic"], newer: ["Consumer"]}
    assert set(listed("--state", "Empty")) == {idle}
    assert set(listed("--type", "consumer")) == {newer}
    kinds = {row[0]: row[1:] for row in tools.table("GroupsCommand", "--list") if row[0] in mine}
    assert kinds == {
        idle: ["Classic", "consumer"],
        live: ["Classic", "consumer"],
        newer: ["Consumer", "consumer"],
    }

    described = tools(GROUPS, "--describe", "--group", idle)
    assert "has no active members" in described
    assert [idle, orders, "0", "20", "30", "10", "-", "-", "-"] in [
        line.split() for line in described.splitlines()
    ]
    ((*offsets, member, host, client),) = tools.table(GROUPS, "--describe", "--group", live)
    assert offsets == [live, orders, "0", "10", "30", "20"]
    assert (member.split("-")[0], host, client) == ("rdkafka", "/127.0.0.1", "rdkafka")
    members = tools.table(GROUPS, "--describe", "--group", live, "--members", "--verbose")
    assert members == [[live, member, host, client, "1", "-", f"{orders}:0", "-", "-"]]
    (state,) = tools.table(GROUPS, "--describe", "--group", live, "--state")
    assert state[-3:] == ["range", "Stable", "1"] and state[1] == broker.bootstrap
    ((*offsets, _, _, _),) = tools.table(GROUPS, "--describe", "--group", newer)
    assert offsets == [newer, orders, "0", "30", "30", "0"]
    (state,) = tools.table(GROUPS, "--describe", "--group", newer, "--state")
    assert state[-3:] == ["uniform", "Stable", "1"]
    assert "not found" in tools(GROUPS, "--describe", "--group", f"{orders}-none")
    consumer.close()
    modern.close()
    assert listed("--state") == {group: ["Empty"] for group in mine}


def test_offsets_reset_and_deleted(broker: Broker, tools: Tools, orders: str) -> None:
    group, busy = f"{orders}-idle", f"{orders}-busy"
    reader(broker, group, orders, 20).close()
    consumer = reader(broker, busy, orders, 1)

    def reset(*how: str, of: str = group) -> list[list[str]]:
        return tools.table(GROUPS, "--reset-offsets", "--group", of, *how)

    def committed() -> list[list[str]]:
        lines = tools(GROUPS, "--describe", "--group", group).splitlines()
        return [line.split()[1:4] for line in lines if line.startswith(group)]

    where = ("--topic", orders)
    assert reset(*where, "--to-offset", "5", "--dry-run") == [[group, orders, "0", "5"]]
    assert committed() == [[orders, "0", "20"]], "nothing is changed by a dry run"
    assert reset(*where, "--to-offset", "5", "--execute") == [[group, orders, "0", "5"]]
    assert reset("--all-topics", "--shift-by", "3", "--execute") == [[group, orders, "0", "8"]]
    assert committed() == [[orders, "0", "8"]]
    past, future = "2020-01-01T00:00:00.000", "2120-01-01T00:00:00.000"
    assert reset(*where, "--to-datetime", past, "--execute")[-1][-1] == "0"
    assert reset(*where, "--to-datetime", future, "--execute")[-1][-1] == str(RECORDS)
    assert reset(*where, "--to-earliest", "--execute")[-1][-1] == "0"
    fresh = f"{orders}-fresh"
    assert reset(*where, "--to-latest", "--execute", of=fresh) == [[fresh, orders, "0", "30"]]
    refused = tools(
        GROUPS, "--reset-offsets", "--group", busy, *where, "--to-earliest", "--execute"
    )
    assert "the current state is Stable" in refused

    kept = tools(GROUPS, "--delete-offsets", "--group", busy, *where)
    assert "GroupSubscribedToTopicException" in kept
    gone = tools(GROUPS, "--delete-offsets", "--group", group, *where)
    assert [orders, "0", "Successful"] in [line.split() for line in gone.splitlines()]
    assert "GroupNotEmptyException" in tools(GROUPS, "--delete", "--group", busy)
    consumer.close()
    assert "was successful" in tools(GROUPS, "--delete", "--group", busy)
    assert "GroupIdNotFoundException" in tools(GROUPS, "--delete", "--group", busy)


def test_configurations_of_groups_and_brokers(tools: Tools, topic_name: str) -> None:
    session = "consumer.session.timeout.ms"
    entity = ("--entity-type", "groups", "--entity-name", topic_name)
    tools(CONFIGS, "--alter", *entity, "--add-config", f"{session}=50000")
    described = tools(CONFIGS, "--describe", *entity)
    assert f"{session}=50000" in described
    assert f"DEFAULT_CONFIG:group.{session}=45000" in described
    assert "consumer.heartbeat" not in described, "only what was set"
    assert "consumer.heartbeat.interval.ms=5000" in tools(CONFIGS, "--describe", *entity, "--all")
    refused = tools(CONFIGS, "--alter", *entity, "--add-config", f"{session}=1000", code=1)
    assert "group.consumer.min.session.timeout.ms" in refused
    tools(CONFIGS, "--alter", *entity, "--delete-config", session)
    assert session not in tools(CONFIGS, "--describe", *entity)

    own, everybody = (
        ("--entity-type", "brokers", "--entity-name", "1"),
        ("--entity-type", "brokers", "--entity-default"),
    )
    tools(CONFIGS, "--alter", *everybody, "--add-config", "log.retention.ms=604800001")
    tools(CONFIGS, "--alter", *own, "--add-config", "log.retention.ms=604800002")
    tools("TopicCommand", "--create", "--topic", topic_name)
    topic = ("--entity-type", "topics", "--entity-name", topic_name)
    effective = tools(CONFIGS, "--describe", *topic, "--all")
    assert (
        "retention.ms=604800002 sensitive=false synonyms={"
        "DYNAMIC_BROKER_CONFIG:log.retention.ms=604800002, "
        "DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=604800001" in effective
    )
    refused = tools(CONFIGS, "--alter", *own, "--add-config", "log.retention.hours=1", code=1)
    assert "log.retention.hours" in refused
    for who in (own, everybody):
        tools(CONFIGS, "--alter", *who, "--delete-config", "log.retention.ms")
    assert "retention.ms=604800000" in tools(CONFIGS, "--describe", *topic, "--all")


def test_topics_by_what_is_special_about_them(tools: Tools, topic_name: str) -> None:
    config = ("--config", "retention.ms=5", "--config", "cleanup.policy=compact,delete")
    tools("TopicCommand", "--create", "--topic", topic_name, "--partitions", "2", *config)
    tools("TopicCommand", "--create", "--if-not-exists", "--topic", topic_name)
    assert "already exists" in tools("TopicCommand", "--create", "--topic", topic_name, code=1)
    overridden = tools("TopicCommand", "--describe", "--topics-with-overrides")
    (line,) = [line for line in overridden.splitlines() if f"Topic: {topic_name}\t" in line]
    assert "retention.ms=5" in line and "cleanup.policy=compact,delete" in line
    for question in ("--under-replicated-partitions", "--unavailable-partitions"):
        assert topic_name not in tools("TopicCommand", "--describe", question)
    offsets = tools("GetOffsetShell", "--topic-partitions", f"{topic_name}:1", "--time", "earliest")
    assert offsets.split() == [f"{topic_name}:1:0"]
    tools("TopicCommand", "--delete", "--topic", topic_name)
    assert "does not exist" in tools("TopicCommand", "--delete", "--topic", topic_name, code=1)


def test_tools_of_clusters_say_that_there_is_nothing_to_do(
    tools: Tools, topic: str, tmp_path: Path
) -> None:
    elected = tools(
        "LeaderElectionCommand",
        *("--election-type", "preferred", "--topic", topic, "--partition", "0"),
    )
    assert f"already elected for partitions {topic}-0" in elected
    tools("LeaderElectionCommand", "--election-type", "preferred", "--all-topic-partitions")
    reassign = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
    plan = tmp_path / "plan.json"
    plan.write_text(
        f'{{"version": 1, "partitions": [{{"topic": "{topic}", "partition": 0, "replicas": [1]}}]}}'
    )
    file = ("--reassignment-json-file", str(plan))
    assert "Successfully started" in tools(reassign, "--execute", *file)
    assert f"{topic}-0 is completed" in tools(reassign, "--verify", *file)
    assert "No partition reassignments found" in tools(reassign, "--list")
    producers = ("describe-producers", "--topic", topic, "--partition", "0")
    assert "ProducerEpoch" in tools("TransactionsCommand", *producers)
    assert "group.version" in tools("FeatureCommand", "describe")
    assert "No Authorizer" in tools("AclCommand", "--list", code=1)
    for entity in ("users", "clients", "ips"):
        assert "Error" not in tools(CONFIGS, "--describe", "--entity-type", entity)
