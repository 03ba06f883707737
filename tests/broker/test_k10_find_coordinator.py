"""k10_find_coordinator: where groups and transactions are coordinated."""

from __future__ import annotations

from typing import Any

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.find_coordinator import FindCoordinatorRequest

from tests.broker.admin_support import NODE_ID, Admin, run


async def find(admin: Admin, version: int, **fields: Any) -> Any:
    request = FindCoordinatorRequest(**fields)
    return await admin.call(apis.FIND_COORDINATOR, version, request, listener="EXTERNAL")


@pytest.mark.parametrize("version", range(7))
@pytest.mark.parametrize("key_type", [0, 1])
def test_groups_and_transactions_are_here(version: int, key_type: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        asked_type = key_type if version >= 1 else 0
        if version < 4:
            found = await find(admin, version, key="g", key_type=asked_type)
        else:
            answer = await find(
                admin, version, coordinator_keys=["g", "h", "g"], key_type=asked_type
            )
            assert [entry.key for entry in answer.coordinators] == ["g", "h"]
            found = answer.coordinators[0]
        assert (found.error_code, found.node_id) == (errors.NONE, NODE_ID)
        assert (found.host, found.port) == ("external.test", 9092)

    run(test)


@pytest.mark.parametrize(("version", "key_type"), [(1, 3), (3, 2), (4, -1), (6, 2), (6, 9)])
def test_other_coordinators_are_not_served(version: int, key_type: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        if version < 4:
            found = await find(admin, version, key="g", key_type=key_type)
        else:
            answer = await find(admin, version, coordinator_keys=["g"], key_type=key_type)
            found = answer.coordinators[0]
        assert (found.error_code, found.node_id) == (errors.INVALID_REQUEST, -1)
        assert found.error_message

    run(test)


def test_the_internal_topic_is_made_at_the_first_question_about_a_group() -> None:
    async def test() -> None:
        admin = await Admin.open({"offsets.topic.num.partitions": "3"})
        await find(admin, 3, key="t", key_type=1)
        assert "__consumer_offsets" not in admin.topics.image.topics
        found = await find(admin, 3, key="g")
        assert (found.error_code, found.node_id) == (errors.NONE, NODE_ID)
        assert len(admin.topics.image.topics["__consumer_offsets"].partitions) == 3

    run(test)


def test_a_topic_that_cannot_be_made_is_a_coordinator_to_wait_for() -> None:
    async def test() -> None:
        admin = await Admin.open()
        admin.logs.fail_on = ("__consumer_offsets", 0)
        found = await find(admin, 3, key="g")
        assert (found.error_code, found.node_id) == (errors.COORDINATOR_NOT_AVAILABLE, -1)

    run(test)


def test_the_leader_of_the_keys_partition_is_asked_for_once_there_is_one() -> None:
    async def test() -> None:
        admin = await Admin.open({"offsets.topic.num.partitions": "3"})
        found = await find(admin, 3, key="g")
        assert (found.error_code, found.node_id) == (errors.NONE, NODE_ID)
        # A leader that is not among the live brokers is a coordinator to wait for.
        admin.services.endpoints = lambda listener: []
        found = await find(admin, 3, key="g")
        assert found.error_code == errors.COORDINATOR_NOT_AVAILABLE

    run(test)
