"""k20_delete_topics: by name, by id, and not both."""

from __future__ import annotations

from typing import Any

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.delete_topics import DeleteTopicsRequest, DeleteTopicState
from kbroker.wire.struct import ZERO_ID

from tests.broker.admin_support import Admin, run


async def delete(admin: Admin, version: int, *topics: str | DeleteTopicState) -> Any:
    if version < 6:
        request = DeleteTopicsRequest(topic_names=[str(topic) for topic in topics])
    else:
        states = [DeleteTopicState(name=t) if isinstance(t, str) else t for t in topics]
        request = DeleteTopicsRequest(topics=states)
    return (await admin.call(apis.DELETE_TOPICS, version, request)).responses


@pytest.mark.parametrize("version", range(1, 7))
def test_by_name(version: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 2)
        await admin.topics.create_topic("kept", 1)
        results = await delete(admin, version, "a", "missing")
        codes = {result.name: result.error_code for result in results}
        assert codes == {"a": errors.NONE, "missing": errors.UNKNOWN_TOPIC_OR_PARTITION}
        assert list(admin.topics.image.topics) == ["kept"]
        assert list(admin.logs.ids) == [("kept", 0)]

    run(test)


def test_by_id() -> None:
    async def test() -> None:
        admin = await Admin.open()
        topic = await admin.topics.create_topic("a", 1)
        unknown = DeleteTopicState(topic_id=b"\x01" * 16)
        known, missing = await delete(admin, 6, DeleteTopicState(topic_id=topic.topic_id), unknown)
        assert (known.name, known.topic_id, known.error_code) == ("a", topic.topic_id, 0)
        assert (missing.name, missing.error_code) == (None, errors.UNKNOWN_TOPIC_ID)
        assert not admin.topics.image.topics

    run(test)


def test_ambiguous_requests_delete_nothing() -> None:
    async def test() -> None:
        admin = await Admin.open()
        topic = await admin.topics.create_topic("a", 1)
        other = await admin.topics.create_topic("b", 1)
        results = await delete(
            admin,
            6,
            "a",
            DeleteTopicState(topic_id=topic.topic_id),
            DeleteTopicState(name="b", topic_id=other.topic_id),
            DeleteTopicState(name=None, topic_id=ZERO_ID),
        )
        assert [result.error_code for result in results] == [errors.INVALID_REQUEST] * 4
        assert sorted(admin.topics.image.topics) == ["a", "b"]

    run(test)


def test_protected() -> None:
    async def test() -> None:
        admin = await Admin.open({"delete.topic.enable": "false"})
        await admin.topics.create_topic("a", 1)
        (result,) = await delete(admin, 5, "a")
        assert result.error_code == errors.TOPIC_DELETION_DISABLED and result.error_message

    run(test)
