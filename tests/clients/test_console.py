"""The command-line tools that come with Apache Kafka, run as their scripts run them.

Goal: what people type works. Method: each tool's main class on the published jars, its exit code
and what it printed. Tools run in one JVM each, so each test runs as few as it can.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.driven import DrivenClient, Sent
from tests.clients.served import Broker
from tests.peers import require_peer, run_java
from tests.support.recent import RECENT_MS

Clients = Callable[[str], DrivenClient]

pytestmark = pytest.mark.peer


@pytest.fixture(autouse=True)
def kafka_tools() -> None:
    require_peer("kafka")


def run_tool(name: str, broker: Broker, *arguments: str, input_text: str = "") -> str:
    """What the tool printed; it must have ended well."""
    main_class = name if "." in name else f"org.apache.kafka.tools.{name}"
    done = run_java(
        main_class, "--bootstrap-server", broker.bootstrap, *arguments, input_text=input_text
    )
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    return done.stdout


def test_topics_tool(broker: Broker, topic_name: str, clients: Clients) -> None:
    run_tool(
        "TopicCommand",
        broker,
        *("--create", "--topic", topic_name, "--partitions", "2"),
        *("--config", "retention.ms=60000"),
    )
    run_tool("TopicCommand", broker, "--alter", "--topic", topic_name, "--partitions", "4")
    described = run_tool("TopicCommand", broker, "--describe", "--topic", topic_name)
    assert "PartitionCount: 4" in described
    assert "ReplicationFactor: 1" in described
    assert "retention.ms=60000" in described
    assert re.search(r"Partition: 1\s+Leader: (\d+)\s+Replicas: \1\s+Isr: \1", described)
    assert topic_name in run_tool("TopicCommand", broker, "--list").split()
    run_tool("TopicCommand", broker, "--delete", "--topic", topic_name)
    assert topic_name not in clients("confluent").call("list_topics")


def test_console_producer_and_consumer(broker: Broker, topic: str) -> None:
    lines = "".join(f"key{i}:value {i}\n" for i in range(50))
    run_tool(
        "ConsoleProducer",
        broker,
        *("--topic", topic, "--reader-property", "parse.key=true"),
        *("--reader-property", "key.separator=:"),
        input_text=lines,
    )
    printed = run_tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        broker,
        *("--topic", topic, "--partition", "0", "--offset", "earliest", "--max-messages", "50"),
        *("--formatter-property", "print.key=true"),
        *("--formatter-property", "key.separator=:"),
        *("--timeout-ms", "20000"),
    )
    assert printed == lines


def test_console_consumer_from_an_offset(broker: Broker, topic: str, clients: Clients) -> None:
    clients("confluent").produce(topic, [Sent(b"%d" % i) for i in range(30)], codec="zstd")
    printed = run_tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        broker,
        *("--topic", topic, "--partition", "0", "--offset", "17", "--max-messages", "3"),
        *("--formatter-property", "print.offset=true", "--timeout-ms", "20000"),
    )
    assert printed.splitlines() == ["Offset:17\t17", "Offset:18\t18", "Offset:19\t19"]


def test_offsets_tool(broker: Broker, topic: str, clients: Clients) -> None:
    records = [Sent(b"v", None, (), RECENT_MS + 10 * i) for i in range(20)]
    clients("confluent").produce(topic, records)
    for time, expected in (("-1", 20), (str(RECENT_MS + 95), 10)):
        printed = run_tool("GetOffsetShell", broker, "--topic", topic, "--time", time)
        assert printed.split() == [f"{topic}:0:{expected}"]


def test_configs_tool(broker: Broker, topic: str) -> None:
    entity = ("--entity-type", "topics", "--entity-name", topic)
    name = "kafka.admin.ConfigCommand"
    run_tool(name, broker, "--alter", *entity, "--add-config", "max.message.bytes=4321")
    described = run_tool(name, broker, "--describe", *entity)
    assert "max.message.bytes=4321" in described
    run_tool(name, broker, "--alter", *entity, "--delete-config", "max.message.bytes")
    everything = run_tool(name, broker, "--describe", "--all", *entity)
    assert "max.message.bytes=1048588" in everything
    assert "DEFAULT_CONFIG:log.message.timestamp.type=CreateTime" in everything


def test_delete_records_and_log_dirs_tools(
    broker: Broker, topic: str, clients: Clients, tmp_path: Path
) -> None:
    clients("confluent").produce(topic, [Sent(b"v" * 100)] * 40)
    wanted = tmp_path / "offsets.json"
    wanted.write_text(
        f'{{"partitions": [{{"topic": "{topic}", "partition": 0, "offset": 25}}], "version": 1}}'
    )
    printed = run_tool("DeleteRecordsCommand", broker, "--offset-json-file", str(wanted))
    assert f"partition: {topic}-0\tlow_watermark: 25" in printed
    printed = run_tool("LogDirsCommand", broker, "--describe", "--topic-list", topic)
    assert f'"partition":"{topic}-0"' in printed


def test_versions_and_cluster_tools(broker: Broker) -> None:
    versions = run_tool("BrokerApiVersionsCommand", broker)
    assert "Produce(0): 0 to " in versions
    assert "UNKNOWN" not in versions
    done = run_java(
        *("org.apache.kafka.tools.ClusterTool", "cluster-id"),
        *("--bootstrap-server", broker.bootstrap),
    )
    assert re.search(r"Cluster ID: \S{22}\n", done.stdout)


def test_performance_tool_produces_with_idempotence(broker: Broker, topic: str) -> None:
    properties = f"bootstrap.servers={broker.bootstrap}"
    done = run_java(
        "org.apache.kafka.tools.ProducerPerformance",
        *("--topic", topic, "--num-records", "50000", "--record-size", "200"),
        *("--throughput", "-1", "--producer-props", properties, "compression.type=lz4"),
    )
    assert "50000 records sent" in done.stdout, done.stdout + done.stderr
    printed = run_tool("GetOffsetShell", broker, "--topic", topic)
    assert printed.split() == [f"{topic}:0:50000"]
