"""k46_list_partition_reassignments: nothing moves."""

from __future__ import annotations

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)

from tests.broker.admin_support import Admin, run

NAMED = [ListPartitionReassignmentsTopics(name="a", partition_indexes=[0])]


@pytest.mark.parametrize("topics", [None, NAMED], ids=["all", "named"])
def test_nothing_moves(topics: list[ListPartitionReassignmentsTopics] | None) -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1)
        request = ListPartitionReassignmentsRequest(topics=topics)
        response = await admin.call(apis.LIST_PARTITION_REASSIGNMENTS, 0, request)
        assert (response.error_code, response.topics) == (errors.NONE, [])

    run(test)
