"""k44_incremental_alter_configs: sets, deletes, list edits, and loggers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)

from tests.broker.admin_support import Admin, run

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SESSION = "consumer.session.timeout.ms"
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


def resource(resource_type: int, name: str, *ops: tuple[int, str, str | None]) -> Any:
    return AlterConfigsResource(
        resource_type=resource_type,
        resource_name=name,
        configs=[
            AlterableConfig(config_operation=op, name=key, value=value) for op, key, value in ops
        ],
    )


async def alter(admin: Admin, *resources: Any, version: int = 1, **options: Any) -> list[int]:
    request = IncrementalAlterConfigsRequest(resources=list(resources), **options)
    results = (await admin.call(apis.INCREMENTAL_ALTER_CONFIGS, version, request)).responses
    assert all(bool(r.error_message) == bool(r.error_code) for r in results)
    return [result.error_code for result in results]


@pytest.mark.parametrize("version", range(2))
def test_operations(version: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1, configs={"segment.bytes": "2048"})
        codes = await alter(
            admin,
            resource(
                TOPIC,
                "a",
                (SET, "retention.ms", "5"),
                (DELETE, "segment.bytes", None),
                (APPEND, "cleanup.policy", "compact"),
            ),
            resource(BROKER, "", (SET, "log.roll.ms", "7000")),
            version=version,
        )
        assert codes == [errors.NONE] * 2
        assert dict(admin.topics.image.topics["a"].configs) == {
            "retention.ms": "5",
            "cleanup.policy": "delete,compact",
        }
        assert admin.logs.configured[-1][1].segment_ms == 7000
        codes = await alter(admin, resource(TOPIC, "a", (SUBTRACT, "cleanup.policy", "delete")))
        assert codes == [errors.NONE]
        assert admin.topics.topic_config("a").cleanup_policy == ("compact",)

    run(test)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (resource(TOPIC, "a", (SET, "retention.ms", "x")), errors.INVALID_CONFIG),
        (resource(TOPIC, "a", (APPEND, "retention.ms", "1")), errors.INVALID_CONFIG),
        (resource(TOPIC, "a", (SUBTRACT, "cleanup.policy", "delete")), errors.INVALID_CONFIG),
        (resource(TOPIC, "a", (SET, "retention.m", "1")), errors.INVALID_CONFIG),
        (resource(TOPIC, "a", (SET, "retention.ms", None)), errors.INVALID_REQUEST),
        (resource(TOPIC, "a", (9, "retention.ms", "1")), errors.INVALID_REQUEST),
        (
            resource(TOPIC, "a", (SET, "flush.ms", "1"), (DELETE, "flush.ms", None)),
            errors.INVALID_REQUEST,
        ),
        (resource(TOPIC, "b", (SET, "flush.ms", "1")), errors.UNKNOWN_TOPIC_OR_PARTITION),
        (resource(TOPIC, "..", (SET, "flush.ms", "1")), errors.INVALID_TOPIC_EXCEPTION),
        (resource(BROKER, "1", (SET, "node.id", "2")), errors.INVALID_REQUEST),
        (resource(BROKER, "2", (SET, "log.roll.ms", "2")), errors.INVALID_REQUEST),
        (resource(BROKER, "", (SET, "ssl.client.auth", "none")), errors.INVALID_REQUEST),
        (resource(GROUP, "g", (SET, "x", "1")), errors.INVALID_CONFIG),
        (resource(GROUP, "g", (SET, SESSION, "44999")), errors.INVALID_CONFIG),
        (resource(GROUP, "g", (SET, SESSION, "60001")), errors.INVALID_CONFIG),
        (resource(GROUP, "g", (SET, SESSION, "soon")), errors.INVALID_CONFIG),
        (resource(GROUP, "g", (APPEND, SESSION, "1")), errors.INVALID_CONFIG),
        (resource(GROUP, "", (SET, SESSION, "50000")), errors.INVALID_REQUEST),
        (resource(CLIENT_METRICS, "m", (SET, "interval.ms", "1000")), errors.INVALID_REQUEST),
        (
            resource(BROKER, "1", (SET, "group.consumer.session.timeout.ms", "50000")),
            errors.INVALID_REQUEST,
        ),
        (resource(LOGGER, "1", (SET, "no.such.logger", "INFO")), errors.INVALID_CONFIG),
        (resource(LOGGER, "1", (SET, "root", "LOUD")), errors.INVALID_CONFIG),
        (resource(LOGGER, "1", (DELETE, "root", None)), errors.INVALID_REQUEST),
        (resource(LOGGER, "1", (APPEND, "root", "INFO")), errors.INVALID_REQUEST),
        (resource(LOGGER, "2", (SET, "root", "INFO")), errors.INVALID_REQUEST),
    ],
)
def test_refusals_change_nothing(asked: Any, code: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1)
        assert await alter(admin, asked) == [code]
        assert admin.store.revision == 1 and not admin.logs.configured

    run(test)


def test_a_resource_twice_is_refused_and_the_others_are_not() -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1)
        codes = await alter(
            admin,
            resource(TOPIC, "a", (SET, "retention.ms", "1")),
            resource(TOPIC, "a", (SET, "retention.ms", "2")),
            resource(BROKER, "", (SET, "log.retention.ms", "3")),
        )
        assert codes == [errors.INVALID_REQUEST, errors.INVALID_REQUEST, errors.NONE]
        assert admin.topics.topic_config("a").retention_ms == 3

    run(test)


def test_a_group_need_not_exist_to_be_configured() -> None:
    async def test() -> None:
        admin = await Admin.open()
        heard: list[str] = []
        admin.topics.on_group_config.append(heard.append)
        asked = resource(GROUP, "g", (SET, SESSION, "50000"))
        assert await alter(admin, asked, validate_only=True) == [errors.NONE]
        assert admin.store.revision == 0 and not heard
        assert await alter(admin, asked) == [errors.NONE]
        assert await alter(admin, asked) == [errors.NONE], "the same again changes nothing"
        assert heard == ["g"]
        assert admin.topics.group_config("g").consumer_session_timeout_ms == 50_000
        assert admin.topics.group_config("h").consumer_session_timeout_ms == 45_000
        assert await alter(admin, resource(GROUP, "g", (DELETE, SESSION, None))) == [errors.NONE]
        assert heard == ["g", "g"]
        assert admin.topics.group_config("g") == admin.topics.group_config("h")
        assert not admin.topics.image.group_configs, "nothing is left of it"

    run(test)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger("kbroker.test_levels")
    yield found
    found.setLevel(logging.NOTSET)


def test_levels(logger: logging.Logger) -> None:
    async def test() -> None:
        admin = await Admin.open()
        asked = resource(LOGGER, "1", (SET, logger.name, "DEBUG"))
        assert await alter(admin, asked, validate_only=True) == [errors.NONE]
        assert logger.level == logging.NOTSET
        assert await alter(admin, asked) == [errors.NONE]
        assert logger.level == logging.DEBUG
        assert await alter(admin, resource(LOGGER, "1", (DELETE, logger.name, None))) == [0]
        assert logger.level == logging.NOTSET
        assert admin.store.revision == 0, "levels are of the process"

    run(test)
