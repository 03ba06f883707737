"""k45_alter_partition_reassignments: on one broker there is nowhere to go. Codes are Kafka's."""

from __future__ import annotations

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)

from tests.broker.admin_support import Admin, run


@pytest.mark.parametrize("version", range(2))
@pytest.mark.parametrize(
    ("topic", "index", "replicas", "code"),
    [
        ("a", 0, [1], errors.NONE),
        ("a", 1, [1], errors.NONE),
        ("a", 0, [2], errors.INVALID_REPLICA_ASSIGNMENT),
        ("a", 0, [1, 2], errors.INVALID_REPLICA_ASSIGNMENT),
        ("a", 0, [1, 1], errors.INVALID_REPLICA_ASSIGNMENT),
        ("a", 0, [-1], errors.INVALID_REPLICA_ASSIGNMENT),
        ("a", 1, [], errors.INVALID_REPLICA_ASSIGNMENT),
        ("a", 0, None, errors.NO_REASSIGNMENT_IN_PROGRESS),
        ("a", 7, [1], errors.UNKNOWN_TOPIC_OR_PARTITION),
        ("a", -1, [1], errors.UNKNOWN_TOPIC_OR_PARTITION),
        ("b", 0, [1], errors.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
def test_reassignments(
    topic: str, index: int, replicas: list[int] | None, code: int, version: int
) -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 2)
        before = admin.topics.image
        asked = ReassignablePartition(partition_index=index, replicas=replicas)
        request = AlterPartitionReassignmentsRequest(
            topics=[ReassignableTopic(name=topic, partitions=[asked])]
        )
        response = await admin.call(apis.ALTER_PARTITION_REASSIGNMENTS, version, request)
        ((result,),) = [answer.partitions for answer in response.responses]
        assert (response.error_code, result.partition_index) == (errors.NONE, index)
        assert result.error_code == code
        assert admin.topics.image is before

    run(test)
