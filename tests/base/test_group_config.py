"""GroupConfig: what a group may be given under which broker, and where its values come from.

Numbers are what Apache Kafka 4.3.1 answered to the same requests.
"""

from __future__ import annotations

import pytest
from kbroker.base.config import BrokerConfig, ConfigError, ConfigSource, GroupConfig

SESSION, HEARTBEAT = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
DEFAULTS = BrokerConfig()
QUICK = BrokerConfig(
    {
        "group.consumer.min.session.timeout.ms": "100",
        "group.consumer.session.timeout.ms": "1000",
        "group.consumer.min.heartbeat.interval.ms": "10",
        "group.consumer.heartbeat.interval.ms": "200",
    }
)


def test_a_group_has_what_the_broker_has() -> None:
    config = GroupConfig(QUICK)
    assert (config.consumer_session_timeout_ms, config.consumer_heartbeat_interval_ms) == (
        1_000,
        200,
    )
    assert config == GroupConfig.of_stored(QUICK, {})
    config = GroupConfig(QUICK, {SESSION: "300"})
    assert config.consumer_session_timeout_ms == 300
    assert dict(config.overrides) == {SESSION: "300"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({SESSION: "44999"}, "at least group.consumer.min.session.timeout.ms = 45000"),
        ({SESSION: "60001"}, "at most group.consumer.max.session.timeout.ms = 60000"),
        ({HEARTBEAT: "4999"}, "at least group.consumer.min.heartbeat.interval.ms = 5000"),
        ({HEARTBEAT: "15001"}, "at most group.consumer.max.heartbeat.interval.ms = 15000"),
        ({SESSION: "soon"}, "an integer of 32 bits"),
        ({SESSION: "0"}, "at least 1"),
        ({"consumer.session.timeout": "50000"}, f"did you mean {SESSION}"),
        ({"retention.ms": "1"}, "unknown configuration key retention.ms"),
        ({"share.auto.offset.reset": "none"}, "latest, earliest or by_duration"),
        ({"share.auto.offset.reset": "by_duration:P"}, "latest, earliest or by_duration"),
        ({"share.auto.offset.reset": "by_duration:PT"}, "latest, earliest or by_duration"),
        ({"share.isolation.level": "serializable"}, "read_committed, read_uncommitted"),
        ({"share.record.lock.duration.ms": "14999"}, "at least group.share.min.record.lock"),
        ({"share.partition.max.record.locks": "4001"}, "at most group.share.max.partition"),
        ({"streams.num.standby.replicas": "3"}, "at most group.streams.max.standby.replicas = 2"),
        ({"streams.session.timeout.ms": "1"}, "at least group.streams.min.session.timeout.ms"),
    ],
)
def test_what_a_group_may_not_have(overrides: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GroupConfig(DEFAULTS, overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        {SESSION: "45000", HEARTBEAT: "15000"},
        {SESSION: "60000"},
        {"share.auto.offset.reset": "by_duration:PT1H30M"},
        {"share.auto.offset.reset": "by_duration:P1DT0.5S"},
        {"share.renew.acknowledge.enable": "false"},
        {"streams.num.standby.replicas": "2"},
        {"consumer.assignment.interval.ms": "0"},
    ],
)
def test_what_a_group_may_have(overrides: dict[str, str]) -> None:
    assert GroupConfig(DEFAULTS, overrides).overrides == overrides
    assert GroupConfig.of_stored(DEFAULTS, overrides) == GroupConfig(DEFAULTS, overrides)


def test_a_session_is_longer_than_a_heartbeat_interval() -> None:
    with pytest.raises(ConfigError, match=f"{SESSION} = 200: must be greater than {HEARTBEAT}"):
        GroupConfig(QUICK, {SESSION: "200"})


@pytest.mark.parametrize(
    ("stored", "session_ms", "heartbeat_ms"),
    [
        ({SESSION: "300"}, 45_000, 5_000),  # below what the broker allows now
        ({SESSION: "90000"}, 60_000, 5_000),
        ({SESSION: "x", HEARTBEAT: "6000", "of.another.version": "1"}, 45_000, 6_000),
    ],
)
def test_stored_values_are_brought_in_range(
    stored: dict[str, str], session_ms: int, heartbeat_ms: int
) -> None:
    config = GroupConfig.of_stored(DEFAULTS, stored)
    assert config.consumer_session_timeout_ms == session_ms
    assert config.consumer_heartbeat_interval_ms == heartbeat_ms


def test_stored_values_that_leave_no_time_for_a_heartbeat_do_not_act() -> None:
    config = GroupConfig.of_stored(QUICK, {SESSION: "150", HEARTBEAT: "150"})
    assert config == GroupConfig(QUICK)


def test_sources() -> None:
    broker = BrokerConfig(
        {"group.consumer.session.timeout.ms": "47000"},
        dynamic_default={"group.consumer.assignment.interval.ms": "500"},
    )
    config = GroupConfig(broker, {HEARTBEAT: "6000"})
    shown = {entry.name: entry for entry in config.describe()}
    assert list(shown) == sorted(GroupConfig.KEYS)
    values = {
        name: (shown[name].value, shown[name].source)
        for name in (SESSION, HEARTBEAT, "consumer.assignment.interval.ms", "share.isolation.level")
    }
    assert values == {
        SESSION: ("47000", ConfigSource.STATIC_BROKER),
        HEARTBEAT: ("6000", ConfigSource.GROUP),
        "consumer.assignment.interval.ms": ("500", ConfigSource.DYNAMIC_DEFAULT_BROKER),
        "share.isolation.level": ("read_uncommitted", ConfigSource.DEFAULT),
    }
    assert [tuple(synonym) for synonym in shown[HEARTBEAT].synonyms] == [
        (HEARTBEAT, "6000", ConfigSource.GROUP),
        ("group.consumer.heartbeat.interval.ms", "5000", ConfigSource.DEFAULT),
    ]


@pytest.mark.parametrize(
    ("static", "said"),
    [
        (
            {"group.consumer.session.timeout.ms": "10000"},
            "group.consumer.min.session.timeout.ms = 45000: must be at most "
            "group.consumer.session.timeout.ms = 10000",
        ),
        (
            {"group.consumer.heartbeat.interval.ms": "20000"},
            "must be at most group.consumer.max.heartbeat.interval.ms = 15000",
        ),
        (
            {"group.consumer.min.session.timeout.ms": "70000"},
            "must be at most group.consumer.max.session.timeout.ms = 60000",
        ),
        (
            {
                "group.consumer.min.session.timeout.ms": "1",
                "group.consumer.session.timeout.ms": "5000",
            },
            "group.consumer.heartbeat.interval.ms = 5000: must be less than "
            "group.consumer.session.timeout.ms = 5000",
        ),
        ({"group.streams.num.standby.replicas": "5"}, "group.streams.max.standby.replicas = 2"),
        ({"group.share.delivery.count.limit": "3", "group.share.min.delivery.count.limit": "4"},
         "group.share.min.delivery.count.limit = 4: must be at most"),
        ({"group.min.session.timeout.ms": "2000000"}, "group.max.session.timeout.ms = 1800000"),
    ],
)  # fmt: skip
def test_the_brokers_own_values_obey_its_bounds(static: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        BrokerConfig(static)
