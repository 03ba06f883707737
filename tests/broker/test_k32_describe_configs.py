"""k32_describe_configs: the whole list, where each value comes from, and nothing secret."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.base.config import BrokerConfig, GroupConfig, TopicConfig
from kbroker.base.config_ops import ConfigOp, OpType
from kbroker.wire import apis
from kbroker.wire.schema.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
)

from tests.broker.admin_support import Admin, run

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32


async def describe(
    admin: Admin,
    resource_type: int,
    name: str,
    keys: list[str] | None = None,
    *,
    version: int = 4,
    **options: Any,
) -> Any:
    resource = DescribeConfigsResource(
        resource_type=resource_type, resource_name=name, configuration_keys=keys
    )
    request = DescribeConfigsRequest(resources=[resource], **options)
    (result,) = (await admin.call(apis.DESCRIBE_CONFIGS, version, request)).results
    assert (result.resource_type, result.resource_name) == (resource_type, name)
    return result


def by_name(result: Any) -> dict[str, Any]:
    assert result.error_code == errors.NONE, result.error_message
    return {config.name: config for config in result.configs}


@pytest.mark.parametrize("version", range(1, 5))
def test_a_topic_in_every_version(version: int) -> None:
    async def test() -> None:
        admin = await Admin.open({"log.retention.minutes": "3"})
        await admin.topics.create_topic("a", 1, configs={"segment.bytes": "2048"})
        result = await describe(
            admin, TOPIC, "a", version=version, include_synonyms=True, include_documentation=True
        )
        configs = by_name(result)
        assert list(configs) == list(TopicConfig.KEYS)
        segment, retention = configs["segment.bytes"], configs["retention.ms"]
        assert (segment.value, segment.config_source, segment.read_only) == ("2048", 1, False)
        assert [(s.name, s.value, s.source) for s in segment.synonyms] == [
            ("segment.bytes", "2048", 1),
            ("log.segment.bytes", "1073741824", 5),
        ]
        assert (retention.value, retention.config_source) == ("180000", 4)
        assert [(s.name, s.value, s.source) for s in retention.synonyms] == [
            ("log.retention.minutes", "3", 4),
            ("log.retention.ms", "604800000", 5),
        ]
        if version >= 3:
            assert (segment.config_type, configs["cleanup.policy"].config_type) == (3, 7)
            assert segment.documentation == TopicConfig.KEYS["segment.bytes"].doc

    run(test)


def test_only_what_is_asked_for() -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1)
        result = await describe(admin, TOPIC, "a", ["retention.ms", "no.such.key"])
        (config,) = result.configs
        assert (config.name, config.synonyms, config.documentation) == ("retention.ms", [], None)
        assert len((await describe(admin, TOPIC, "a", [])).configs) == len(TopicConfig.KEYS)

    run(test)


def test_this_broker_and_the_default_of_all() -> None:
    async def test() -> None:
        admin = await Admin.open({"num.partitions": "3", "ssl.key.password": "secret"})
        await admin.topics.edit_broker_configs("", [ConfigOp(OpType.SET, "log.retention.ms", "5")])
        configs = by_name(await describe(admin, BROKER, "1", include_synonyms=True))
        assert list(configs) == list(BrokerConfig.KEYS)
        partitions, secret = configs["num.partitions"], configs["ssl.key.password"]
        assert (partitions.value, partitions.config_source, partitions.read_only) == ("3", 4, True)
        assert (secret.value, secret.is_sensitive) == (None, True)
        assert all(synonym.value is None for synonym in secret.synonyms)
        assert (configs["log.retention.ms"].value, configs["log.retention.ms"].config_source) == (
            "5", 3,
        )  # fmt: skip
        (default,) = (await describe(admin, BROKER, "")).configs
        assert (default.name, default.value, default.config_source) == ("log.retention.ms", "5", 3)

    run(test)


def test_loggers() -> None:
    async def test() -> None:
        admin = await Admin.open()
        logging.getLogger("kbroker.topics").setLevel(logging.NOTSET)
        configs = by_name(await describe(admin, LOGGER, "1"))
        assert {"root", "kbroker.topics"} <= set(configs)
        assert configs["root"].value == "WARN" and configs["root"].config_source == 6

    run(test)


def test_a_group_shows_every_key_and_its_source() -> None:
    async def test() -> None:
        session, heartbeat = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
        admin = await Admin.open({"group.consumer.heartbeat.interval.ms": "7000"})
        await admin.topics.edit_group_configs("g", [ConfigOp(OpType.SET, session, "50000")])
        configs = by_name(await describe(admin, GROUP, "g", include_synonyms=True))
        assert list(configs) == list(GroupConfig.KEYS)
        assert not any(config.read_only for config in configs.values())
        shown = {
            name: [(s.name, s.value, s.source) for s in configs[name].synonyms]
            for name in (session, heartbeat)
        }
        assert shown == {
            session: [(session, "50000", 8), (f"group.{session}", "45000", 5)],
            heartbeat: [(f"group.{heartbeat}", "7000", 4), (f"group.{heartbeat}", "5000", 5)],
        }
        assert (configs[session].value, configs[session].config_source) == ("50000", 8)
        other = by_name(await describe(admin, GROUP, "never heard of", [session]))
        assert (other[session].value, other[session].config_source) == ("45000", 5)

    run(test)


def test_client_metrics_have_nothing_yet() -> None:
    async def test() -> None:
        assert by_name(await describe(await Admin.open(), CLIENT_METRICS, "x")) == {}

    run(test)


@pytest.mark.parametrize(
    ("resource_type", "name", "code"),
    [
        (TOPIC, "missing", errors.UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "../x", errors.INVALID_TOPIC_EXCEPTION),
        (BROKER, "2", errors.INVALID_REQUEST),
        (BROKER, "one", errors.INVALID_REQUEST),
        (LOGGER, "2", errors.INVALID_REQUEST),
        (LOGGER, "", errors.INVALID_REQUEST),
        (GROUP, "", errors.INVALID_REQUEST),
        (CLIENT_METRICS, "", errors.INVALID_REQUEST),
        (0, "x", errors.INVALID_REQUEST),
        (99, "x", errors.INVALID_REQUEST),
    ],
)
def test_resources_that_are_not_there(resource_type: int, name: str, code: int) -> None:
    async def test() -> None:
        result = await describe(await Admin.open(), resource_type, name)
        assert (result.error_code, result.configs) == (code, []) and result.error_message

    run(test)
