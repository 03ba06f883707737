"""Configuration: precedence, typing, messages, what DescribeConfigs is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kbroker.base.config import (
    BrokerConfig,
    ConfigEntry,
    ConfigError,
    ConfigSource,
    Endpoint,
    TopicConfig,
    UpdateMode,
    WireType,
)
from kbroker.base.config_types import INT, LONG, STRING, declare

# Kafka's defaults, as its documentation of topic configurations lists them.
TOPIC_DEFAULTS = {
    "cleanup.policy": "delete",
    "compression.gzip.level": "-1",
    "compression.lz4.level": "9",
    "compression.type": "producer",
    "compression.zstd.level": "3",
    "delete.retention.ms": "86400000",
    "file.delete.delay.ms": "60000",
    "flush.messages": "9223372036854775807",
    "flush.ms": "9223372036854775807",
    "follower.replication.throttled.replicas": "",
    "index.interval.bytes": "4096",
    "leader.replication.throttled.replicas": "",
    "local.retention.bytes": "-2",
    "local.retention.ms": "-2",
    "max.compaction.lag.ms": "9223372036854775807",
    "max.message.bytes": "1048588",
    "message.timestamp.after.max.ms": "3600000",
    "message.timestamp.before.max.ms": "9223372036854775807",
    "message.timestamp.type": "CreateTime",
    "min.cleanable.dirty.ratio": "0.5",
    "min.compaction.lag.ms": "0",
    "min.insync.replicas": "1",
    "preallocate": "false",
    "remote.log.copy.disable": "false",
    "remote.log.delete.on.disable": "false",
    "remote.storage.enable": "false",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "segment.bytes": "1073741824",
    "segment.index.bytes": "10485760",
    "segment.jitter.ms": "0",
    "segment.ms": "604800000",
    "unclean.leader.election.enable": "false",
}


def entry(config: BrokerConfig | TopicConfig, name: str) -> ConfigEntry:
    return next(found for found in config.describe() if found.name == name)


def sources(found: ConfigEntry) -> list[tuple[str, str | None, int]]:
    return [(synonym.name, synonym.value, synonym.source) for synonym in found.synonyms]


def test_topic_defaults_are_kafkas() -> None:
    described = {found.name: found for found in TopicConfig(BrokerConfig()).describe()}
    ours = {"flush.policy"}
    assert {name: found.value for name, found in described.items() if name not in ours} == (
        TOPIC_DEFAULTS
    )
    assert set(described) == set(TOPIC_DEFAULTS) | ours
    assert {found.source for found in described.values()} == {ConfigSource.DEFAULT}


def test_attributes_are_typed_and_frozen() -> None:
    config = BrokerConfig({"num.partitions": "3", "log.cleanup.policy": "compact, delete"})
    assert config.num_partitions == 3
    assert config.log_cleanup_policy == ("compact", "delete")
    assert config.auto_create_topics_enable is True
    assert config.log_cleaner_min_cleanable_ratio == 0.5
    assert config.broker_rack is None
    with pytest.raises(AttributeError, match="frozen"):
        config.num_partitions = 4  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        TopicConfig(config).segment_bytes = 4  # type: ignore[misc]


def test_the_order_of_layers() -> None:
    """topic > dynamic broker > dynamic default > static > default."""
    config = BrokerConfig()
    layers: list[tuple[str, dict[str, Any]]] = [
        ("log.segment.bytes=5000", {}),
        ("static", {"static": {"log.segment.bytes": "4000"}}),
        ("dynamic default", {"dynamic_default": {"log.segment.bytes": "3000"}}),
        ("dynamic broker", {"dynamic_broker": {"log.segment.bytes": "2000"}}),
    ]
    given: dict[str, Any] = {}
    seen = []
    for _, layer in layers:
        given.update(layer)
        config = BrokerConfig(**given)
        seen.append(TopicConfig(config).segment_bytes)
    assert seen == [1 << 30, 4000, 3000, 2000]
    topic = TopicConfig(config, {"segment.bytes": "1024"})
    assert topic.segment_bytes == 1024
    assert sources(entry(topic, "segment.bytes")) == [
        ("segment.bytes", "1024", ConfigSource.TOPIC),
        ("log.segment.bytes", "2000", ConfigSource.DYNAMIC_BROKER),
        ("log.segment.bytes", "3000", ConfigSource.DYNAMIC_DEFAULT_BROKER),
        ("log.segment.bytes", "4000", ConfigSource.STATIC_BROKER),
        ("log.segment.bytes", "1073741824", ConfigSource.DEFAULT),
    ]


@pytest.mark.parametrize(
    ("static", "expected_ms", "acting"),
    [
        ({}, 604_800_000, "log.retention.ms"),
        ({"log.retention.hours": "2"}, 7_200_000, "log.retention.hours"),
        ({"log.retention.hours": "2", "log.retention.minutes": "5"}, 300_000,
         "log.retention.minutes"),
        ({"log.retention.hours": "2", "log.retention.minutes": "5", "log.retention.ms": "7"}, 7,
         "log.retention.ms"),
        ({"log.retention.hours": "-1"}, -1, "log.retention.hours"),
        ({"log.retention.minutes": "-1", "log.retention.hours": "9"}, -1,
         "log.retention.minutes"),
    ],
)  # fmt: skip
def test_the_finest_unit_wins(static: dict[str, str], expected_ms: int, acting: str) -> None:
    config = BrokerConfig(static)
    assert config.log_retention_ms == TopicConfig(config).retention_ms == expected_ms
    found = entry(TopicConfig(config), "retention.ms")
    assert found.value == str(expected_ms)
    assert found.synonyms[0].name == acting
    assert found.source == (ConfigSource.STATIC_BROKER if static else ConfigSource.DEFAULT)


def test_a_dynamic_value_beats_a_static_one_of_a_finer_layer() -> None:
    config = BrokerConfig({"log.retention.hours": "2"}, dynamic_default={"log.retention.ms": "9"})
    assert TopicConfig(config).retention_ms == 9
    assert entry(TopicConfig(config), "retention.ms").source == ConfigSource.DYNAMIC_DEFAULT_BROKER


def test_file_then_environment_then_overrides(tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    path.write_text("num.partitions=1\nlog.segment.bytes=2000\nfetch.max.bytes=3000\n")
    config = BrokerConfig.load(
        str(path),
        overrides={"fetch.max.bytes": "5000"},
        env={
            "KCORE_LOG_SEGMENT_BYTES": "4000",
            "KCORE_FETCH_MAX_BYTES": "1",
            "KCORE_BOOTSTRAP": "127.0.0.1:9092",
            "KCORE_DEBUG": "1",
            "HOME": "/",
        },
    )
    assert (config.num_partitions, config.log_segment_bytes, config.fetch_max_bytes) == (
        1, 4000, 5000,
    )  # fmt: skip
    assert config.warnings == ()


def test_an_unknown_key_is_a_warning_with_the_nearest_name() -> None:
    config = BrokerConfig.load(overrides={"log.retention.hour": "1", "zzz": "1"})
    assert config.warnings == (
        "unknown configuration key log.retention.hour: did you mean log.retention.hours?",
        "unknown configuration key zzz",
    )
    assert config.log_retention_ms == 604_800_000


def test_a_known_key_without_effect_says_so() -> None:
    config = BrokerConfig.load(overrides={"num.io.threads": "16"})
    assert config.warnings == ("num.io.threads is known but has no effect in this version",)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("num.partitions", "x", "an integer of 32 bits, at least 1"),
        ("num.partitions", "1_000", "an integer of 32 bits, at least 1"),
        ("num.partitions", "0", "an integer of 32 bits, at least 1"),
        ("num.partitions", "2147483648", "an integer of 32 bits, at least 1"),
        ("log.segment.bytes", "1023", "an integer of 32 bits, from 1024 to 2147483647"),
        ("auto.create.topics.enable", "yes", "true or false"),
        ("flush.policy", "fsync", "one of os, sync"),
        ("log.cleanup.policy", "delete,delete", "a list of compact, delete, not empty"),
        ("log.cleanup.policy", "", "a list of compact, delete, not empty"),
        ("log.cleaner.min.cleanable.ratio", "nan", "a number, from 0 to 1"),
        ("log.retention.ms", "-2", "an integer of 64 bits, at least -1"),
    ],
)
def test_a_wrong_value_names_key_value_and_what_is_allowed(
    key: str, value: str, allowed: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        BrokerConfig({key: value})
    assert str(refused.value) == f"{key} = {value!r}: must be {allowed}"


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        BrokerConfig({"num.partitions": "x", "flush.policy": "y", "num.partition": "3"})
    lines = str(refused.value).splitlines()
    assert len(lines) == 3 and lines[2].endswith("did you mean num.partitions?")


def test_secrets_are_not_shown() -> None:
    config = BrokerConfig({"ssl.keystore.password": "hunter2"})
    assert config.ssl_keystore_password == "hunter2"
    found = entry(config, "ssl.keystore.password")
    assert found.sensitive and found.value is None and found.type is WireType.PASSWORD
    assert all(synonym.value is None for synonym in found.synonyms)
    assert "hunter2" not in repr(config)


def test_read_only_is_what_cannot_change_while_running() -> None:
    config = BrokerConfig()
    assert entry(config, "num.partitions").read_only
    assert not entry(config, "log.retention.ms").read_only
    assert BrokerConfig.KEYS["log.retention.ms"].mode is UpdateMode.CLUSTER_WIDE


@pytest.mark.parametrize(
    ("static", "complaint"),
    [
        ({"listeners": "PLAINTEXT://:9092"}, "allow.insecure.listener=true"),
        ({"listeners": "PLAINTEXT://0.0.0.0:9092"}, "allow.insecure.listener=true"),
        ({"listeners": "PLAINTEXT://example.org:9092"}, "allow.insecure.listener=true"),
        ({"listeners": "SSL://127.0.0.1:9092"}, "SSL is not supported"),
        ({"listeners": "FOO://127.0.0.1:9092"}, "no entry in listener.security.protocol.map"),
        ({"listeners": "PLAINTEXT://b\u00fccher:9092"}, "must be ASCII"),
        ({"listeners": "PLAINTEXT://127.example.com:9092"}, "not on loopback"),
        ({"listeners": "PLAINTEXT://127.0.0.1:99999"}, "a port from 0 to 65535"),
        ({"listeners": "PLAINTEXT://127.0.0.1"}, "NAME://host:port"),
        ({"listeners": "127.0.0.1:9092"}, "NAME://host:port"),
        ({"listeners": "PLAINTEXT://127.0.0.1:1,PLAINTEXT://127.0.0.1:2"}, "there twice"),
        ({"listeners": ""}, "at least one listener"),
        ({"advertised.listeners": "EXTERNAL://a:1"}, "no entry in listener.security"),
        ({"advertised.listeners": "SSL://a:1"}, "SSL is not in listeners"),
        ({"advertised.listeners": "PLAINTEXT://0.0.0.0:1"}, "a host that clients can reach"),
        ({"listener.security.protocol.map": "A:B"}, "must be NAME:PROTOCOL"),
        ({"log.dirs": "/a,/b"}, "must be one directory, not 2"),
        ({"metrics.listener": "9404"}, "must be host:port or empty"),
        ({"group.min.session.timeout.ms": "1800001"}, "must be at most group.max.session"),
    ],
)
def test_rules_between_keys(static: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        BrokerConfig(static)


def test_listeners() -> None:
    config = BrokerConfig(
        {
            "listeners": "INTERNAL://127.0.0.1:0,EXTERNAL://[::]:9093,CONTROLLER://:9094",
            "advertised.listeners": "EXTERNAL://broker.test:19093",
            "listener.security.protocol.map": "INTERNAL:PLAINTEXT,external:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "allow.insecure.listener": "true",
        }
    )
    assert config.bind_endpoints == (
        Endpoint("INTERNAL", "127.0.0.1", 0, "PLAINTEXT"),
        Endpoint("EXTERNAL", "::", 9093, "PLAINTEXT"),
    )
    assert config.advertised_endpoints == (Endpoint("EXTERNAL", "broker.test", 19093, "PLAINTEXT"),)
    assert str(config.bind_endpoints[1]) == "EXTERNAL://[::]:9093"
    assert BrokerConfig().advertised_endpoints == BrokerConfig().bind_endpoints


def test_older_names() -> None:
    config = BrokerConfig({"broker.id": "7", "log.dir": "/data"})
    assert (config.node_id, config.data_dir) == (7, "/data")
    assert BrokerConfig({"broker.id": "7", "node.id": "8"}).node_id == 8


def test_stored_values_of_another_version_do_not_stop_the_start() -> None:
    config, ignored = BrokerConfig().with_stored(
        dynamic_default={"log.retention.ms": "5", "no.such.key": "1"},
        dynamic_broker={"log.segment.bytes": "tiny"},
    )
    assert config.log_retention_ms == 5 and config.log_segment_bytes == 1 << 30
    assert len(ignored) == 2
    topic = TopicConfig.of_stored(config, {"segment.bytes": "x", "y": "z", "retention.ms": "9"})
    assert topic.retention_ms == 9 and dict(topic.overrides) == {"retention.ms": "9"}


def test_topic_configs_are_equal_when_their_values_are() -> None:
    base = BrokerConfig()
    assert TopicConfig(base) == TopicConfig(base, {"retention.ms": "604800000"})
    assert TopicConfig(base) != TopicConfig(base, {"retention.ms": "1"})


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"retention.m": "1"}, "did you mean retention.ms"),
        ({"remote.storage.enable": "true"}, "no tiered storage"),
        ({"min.compaction.lag.ms": "5", "max.compaction.lag.ms": "4"}, "must be at most"),
    ],
)
def test_topic_rules(overrides: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        TopicConfig(BrokerConfig(), overrides)


def test_a_key_must_be_the_attribute_it_is_named_after() -> None:
    with pytest.raises((RuntimeError, TypeError)) as failed:
        type("Bad", (), {"wrong": declare("right.name", INT, 1, doc="")})
    # Python before 3.12 wraps what __set_name__ raises.
    assert "right_name" in str(failed.value.__cause__ or failed.value)


def test_every_key_is_documented_and_its_default_is_allowed() -> None:
    for keys in (BrokerConfig.KEYS, TopicConfig.KEYS):
        for key in keys.values():
            assert key.doc.endswith(".") and key.doc[0].isascii()
            if key.default is not None:
                text = key.format(key.default)
                assert text is not None and key.parse(text) == key.default
            for fallback in key.fallbacks:
                assert fallback.name in keys
    assert {key.type for key in TopicConfig.KEYS.values()} >= {INT, LONG, STRING}
