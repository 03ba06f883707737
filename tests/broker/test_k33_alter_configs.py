"""k33_alter_configs: replaces every override of a resource."""

from __future__ import annotations

from typing import Any

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.alter_configs import (
    AlterableConfig,
    AlterConfigsRequest,
    AlterConfigsResource,
)

from tests.broker.admin_support import Admin, run

TOPIC, BROKER, LOGGER, GROUP = 2, 4, 8, 32


def resource(resource_type: int, name: str, *configs: tuple[str, str | None]) -> Any:
    return AlterConfigsResource(
        resource_type=resource_type,
        resource_name=name,
        configs=[AlterableConfig(name=key, value=value) for key, value in configs],
    )


async def alter(admin: Admin, *resources: Any, version: int = 2, **options: Any) -> list[int]:
    request = AlterConfigsRequest(resources=list(resources), **options)
    results = (await admin.call(apis.ALTER_CONFIGS, version, request)).responses
    assert [(r.resource_type, r.resource_name) for r in results] == [
        (r.resource_type, r.resource_name) for r in resources
    ]
    assert all(bool(r.error_message) == bool(r.error_code) for r in results)
    return [result.error_code for result in results]


@pytest.mark.parametrize("version", range(3))
def test_what_is_not_named_goes(version: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1, configs={"segment.bytes": "2048"})
        codes = await alter(admin, resource(TOPIC, "a", ("retention.ms", "5")), version=version)
        assert codes == [errors.NONE]
        assert dict(admin.topics.image.topics["a"].configs) == {"retention.ms": "5"}
        assert admin.logs.configured[-1][1].segment_bytes == 1 << 30

    run(test)


def test_groups() -> None:
    async def test() -> None:
        admin = await Admin.open()
        session, heartbeat = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
        assert await alter(admin, resource(GROUP, "g", (session, "50000"))) == [errors.NONE]
        assert await alter(admin, resource(GROUP, "g", (heartbeat, "6000"))) == [errors.NONE]
        assert dict(admin.topics.image.group_configs["g"]) == {heartbeat: "6000"}
        assert await alter(admin, resource(GROUP, "g", (session, "1"))) == [errors.INVALID_CONFIG]
        assert await alter(admin, resource(GROUP, "", (session, "50000"))) == [
            errors.INVALID_REQUEST
        ]

    run(test)


def test_brokers() -> None:
    async def test() -> None:
        admin = await Admin.open()
        codes = await alter(
            admin,
            resource(BROKER, "", ("log.retention.ms", "5"), ("log.segment.bytes", "2048")),
            resource(BROKER, "1", ("log.retention.ms", "6")),
        )
        assert codes == [errors.NONE] * 2
        assert admin.services.config.log_retention_ms == 6
        assert await alter(admin, resource(BROKER, "1")) == [errors.NONE]
        assert admin.services.config.log_retention_ms == 5
        assert admin.services.config.log_segment_bytes == 2048

    run(test)


def test_refusals_change_nothing() -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1, configs={"segment.bytes": "2048"})
        codes = await alter(
            admin,
            resource(TOPIC, "a", ("retention.ms", "5"), ("flush.ms", "x")),
            resource(TOPIC, "missing", ("retention.ms", "5")),
            resource(BROKER, "1", ("num.partitions", "5")),
            resource(BROKER, "9"),
            resource(LOGGER, "1", ("root", "INFO")),
            resource(GROUP, "g", ("consumer.session.timeout.ms", "1")),
            resource(77, "x"),
        )
        assert codes == [
            errors.INVALID_CONFIG,
            errors.UNKNOWN_TOPIC_OR_PARTITION,
            *[errors.INVALID_REQUEST] * 3,
            errors.INVALID_CONFIG,
            errors.INVALID_REQUEST,
        ]
        for refused in (
            [resource(TOPIC, "a", ("retention.ms", None))],
            [resource(TOPIC, "a", ("retention.ms", "1"), ("retention.ms", "2"))],
            [resource(TOPIC, "a"), resource(TOPIC, "a")],
        ):
            assert set(await alter(admin, *refused)) == {errors.INVALID_REQUEST}
        assert await alter(admin, resource(TOPIC, "a"), validate_only=True) == [errors.NONE]
        assert dict(admin.topics.image.topics["a"].configs) == {"segment.bytes": "2048"}

    run(test)
