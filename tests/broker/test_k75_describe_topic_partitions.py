"""k75_describe_topic_partitions: every partition exactly once, however small the pages."""

from __future__ import annotations

from typing import Any

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    TopicRequest,
)

from tests.broker.admin_support import NODE_ID, Admin, run


async def page(admin: Admin, *names: str, limit: int = 2000, cursor: Cursor | None = None) -> Any:
    request = DescribeTopicPartitionsRequest(
        topics=[TopicRequest(name=name) for name in names],
        response_partition_limit=limit,
        cursor=cursor,
    )
    return await admin.call(apis.DESCRIBE_TOPIC_PARTITIONS, 0, request)


async def some_topics() -> Admin:
    admin = await Admin.open()
    for name, count in (("b", 3), ("a", 2), ("c", 1)):
        await admin.topics.create_topic(name, count)
    return admin


@pytest.mark.parametrize("limit", [-1, 0, 1, 2, 3, 4, 5, 6, 7, 2000])
def test_pages_together_are_everything_once_and_in_order(limit: int) -> None:
    async def test() -> None:
        admin = await some_topics()
        seen = []
        cursor = None
        for _ in range(7):
            answer = await page(admin, limit=limit, cursor=cursor)
            for topic in answer.topics:
                assert topic.topic_id == admin.topics.image.topics[topic.name].topic_id
                for partition in topic.partitions:
                    assert (partition.leader_id, partition.replica_nodes) == (NODE_ID, [NODE_ID])
                    seen.append((topic.name, partition.partition_index))
            assert sum(len(topic.partitions) for topic in answer.topics) <= max(limit, 1)
            cursor = answer.next_cursor
            if cursor is None:
                break
        assert seen == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("c", 0)]

    run(test)


def test_named_topics_and_their_errors() -> None:
    async def test() -> None:
        admin = await some_topics()
        answer = await page(admin, "missing", "c", "../x", "c")
        assert [(topic.name, topic.error_code) for topic in answer.topics] == [
            ("../x", errors.INVALID_TOPIC_EXCEPTION),
            ("c", errors.NONE),
            ("missing", errors.UNKNOWN_TOPIC_OR_PARTITION),
        ]
        assert answer.next_cursor is None

    run(test)


def test_cursors_of_topics_that_went_away_or_never_were() -> None:
    async def test() -> None:
        admin = await some_topics()
        await admin.topics.delete_topic("b")
        answer = await page(admin, cursor=Cursor(topic_name="b", partition_index=1))
        assert [topic.name for topic in answer.topics] == ["c"]
        answer = await page(admin, cursor=Cursor(topic_name="a", partition_index=7))
        assert [(topic.name, len(topic.partitions)) for topic in answer.topics] == [
            ("a", 0),
            ("c", 1),
        ]
        answer = await page(admin, "a", cursor=Cursor(topic_name="a", partition_index=-1))
        assert answer.topics[0].error_code == errors.INVALID_REQUEST

    run(test)
