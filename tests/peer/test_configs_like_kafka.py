"""Our configuration keys are Apache Kafka's: names, types and defaults, asked of a running one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kbroker.base.config import BrokerConfig, GroupConfig, TopicConfig, UpdateMode

from tests.peers import KafkaProcess, require_peer

pytestmark = pytest.mark.peer

# Ours alone, or Kafka's of another version, or not shown by Kafka.
OURS_ALONE = {
    "allow.everyone.if.no.acl.found",
    "allow.insecure.listener",
    "auto.include.jmx.reporter",
    "flush.policy",
    "follower.replication.throttled.rate",
    "group.consumer.regex.refresh.interval.ms",
    "kcore.storage",
    "leader.imbalance.per.broker.percentage",
    "leader.replication.throttled.rate",
    "metrics.listener",
    "producer.id.expiration.check.interval.ms",
    "replica.alter.log.dirs.io.max.bytes.per.second",
    "segment.append.mode",
    "super.users",
}
# Defaults that differ on purpose; each declaration says why.
OTHER_DEFAULTS = {
    "listeners",
    "log.dir",
    "log.dirs",
    "log.flush.scheduler.interval.ms",
    "node.id",
}
# Listeners do not change while the broker runs.
OTHER_MODES = {"listener.security.protocol.map", "listeners"}
# Kafka has null where another key gives the value; here the key itself has that value.
NULL_IN_KAFKA = {
    "log.flush.interval.ms",
    "log.retention.ms",
    "log.roll.jitter.ms",
    "log.roll.ms",
}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    require_peer("kafka")
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

    # What the fixture's broker sets for quick tests is set to its default again.
    usual = {"group.initial.rebalance.delay.ms": "3000"}
    with KafkaProcess(tmp_path_factory.mktemp("kafka"), usual) as kafka:
        client = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        client.create_topics([NewTopic("t", 1, 1)])
        found = client.describe_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, "t"),
                ConfigResource(ConfigResourceType.BROKER, "1"),
                ConfigResource(ConfigResourceType.GROUP, "g"),
            ],
            config_filter="all",
        )
        client.close()
    yield {
        "topic": found["topic"]["t"],
        "broker": found["broker"]["1"],
        "group": found["group"]["g"],
    }


def differences(keys: Any, theirs: dict[str, Any]) -> list[str]:
    wrong = []
    for key in keys:
        their = theirs[key.name]
        if their["config_type"] != key.type.wire.name:
            wrong.append(f"{key.name} is a {their['config_type']}, not a {key.type.wire.name}")
        read_only = key.mode is UpdateMode.READ_ONLY
        if their["read_only"] != read_only and key.name not in OTHER_MODES:
            wrong.append(f"{key.name}: read-only is {their['read_only']}")
        if their["is_sensitive"] != key.sensitive:
            wrong.append(f"{key.name}: sensitive is {their['is_sensitive']}")
        if their["config_source"] != "DEFAULT_CONFIG" or key.name in OTHER_DEFAULTS:
            continue
        ours = None if key.name in NULL_IN_KAFKA else key.format(key.default)
        if (their["value"] or "").lower() != (ours or "").lower().replace("e+", "e"):
            wrong.append(f"{key.name} is {their['value']!r} by default, not {ours!r}")
    return wrong


def test_topics(described: dict[str, dict[str, Any]]) -> None:
    ours = {name: key for name, key in TopicConfig.KEYS.items() if name not in OURS_ALONE}
    assert set(ours) == set(described["topic"])
    assert not differences(ours.values(), described["topic"])


def test_brokers(described: dict[str, dict[str, Any]]) -> None:
    ours = {name: key for name, key in BrokerConfig.KEYS.items() if name not in OURS_ALONE}
    assert set(ours) <= set(described["broker"])
    assert not differences(ours.values(), described["broker"])


def test_groups(described: dict[str, dict[str, Any]]) -> None:
    assert set(GroupConfig.KEYS) == set(described["group"])
    assert not differences(GroupConfig.KEYS.values(), described["group"])
