"""k37_create_partitions: totals, assignments, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)

from tests.broker.admin_support import Admin, run


async def grow(admin: Admin, version: int, *topics: Any, **options: Any) -> Any:
    request = CreatePartitionsRequest(
        topics=[
            CreatePartitionsTopic(
                name=name,
                count=count,
                assignments=None
                if assignments is None
                else [CreatePartitionsAssignment(broker_ids=ids) for ids in assignments],
            )
            for name, count, assignments in topics
        ],
        **options,
    )
    return (await admin.call(apis.CREATE_PARTITIONS, version, request)).results


@pytest.mark.parametrize("version", range(4))
def test_growing(version: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1)
        await admin.topics.create_topic("b", 1)
        results = await grow(admin, version, ("a", 3, None), ("b", 2, [[1]]), ("c", 2, None))
        assert [(r.name, r.error_code) for r in results] == [
            ("a", errors.NONE),
            ("b", errors.NONE),
            ("c", errors.UNKNOWN_TOPIC_OR_PARTITION),
        ]
        assert results[0].error_message is None and results[2].error_message
        assert len(admin.logs.ids) == 5

    run(test)


def test_refusals_and_validation() -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 2)
        cases: list[tuple[list[tuple[str, int, Any]], int]] = [
            ([("a", 2, None)], errors.INVALID_PARTITIONS),
            ([("a", 1, None)], errors.INVALID_PARTITIONS),
            ([("a", 3, [[9]])], errors.INVALID_REPLICA_ASSIGNMENT),
            ([("a", 3, None), ("a", 4, None)], errors.INVALID_REQUEST),
        ]
        for topics, code in cases:
            (result,) = await grow(admin, 3, *topics)
            assert result.error_code == code and result.error_message
        (result,) = await grow(admin, 3, ("a", 9, None), validate_only=True)
        assert result.error_code == errors.NONE
        assert len(admin.topics.image.topics["a"].partitions) == 2

    run(test)
