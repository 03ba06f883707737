"""k74_list_config_resources: what has a configuration, by type."""

from __future__ import annotations

import pytest
from kbroker.base import errors
from kbroker.base.config_ops import ConfigOp, OpType
from kbroker.wire import apis
from kbroker.wire.schema.list_config_resources import ListConfigResourcesRequest

from tests.broker.admin_support import Admin, run

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
EVERYTHING = [(TOPIC, "a"), (TOPIC, "b"), (BROKER, "1"), (LOGGER, "1"), (GROUP, "g")]


async def opened() -> Admin:
    admin = await Admin.open()
    await admin.topics.create_topic("b", 1)
    await admin.topics.create_topic("a", 1)
    session = ConfigOp(OpType.SET, "consumer.session.timeout.ms", "50000")
    await admin.topics.edit_group_configs("g", [session])
    return admin


async def listed(admin: Admin, version: int, types: list[int]) -> list[tuple[int, str]]:
    request = ListConfigResourcesRequest(resource_types=types)
    response = await admin.call(apis.LIST_CONFIG_RESOURCES, version, request)
    assert response.error_code == errors.NONE
    return [(found.resource_type, found.resource_name) for found in response.config_resources]


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ([], EVERYTHING),
        ([TOPIC], EVERYTHING[:2]),
        ([GROUP, BROKER, GROUP], [(GROUP, "g"), (BROKER, "1")]),
        ([LOGGER], [(LOGGER, "1")]),
        ([CLIENT_METRICS], []),
    ],
)
def test_types(types: list[int], expected: list[tuple[int, str]]) -> None:
    async def test() -> None:
        assert await listed(await opened(), 1, types) == expected

    run(test)


def test_the_older_version_is_about_client_metrics() -> None:
    async def test() -> None:
        assert await listed(await opened(), 0, []) == []

    run(test)


@pytest.mark.parametrize("number", [0, 1, 3, 99, -1])
def test_types_that_do_not_exist(number: int) -> None:
    async def test() -> None:
        request = ListConfigResourcesRequest(resource_types=[TOPIC, number])
        response = await (await opened()).call(apis.LIST_CONFIG_RESOURCES, 1, request)
        assert (response.error_code, response.config_resources) == (errors.UNSUPPORTED_VERSION, [])

    run(test)
