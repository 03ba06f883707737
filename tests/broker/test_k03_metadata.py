"""k03_metadata: who is asked for, who is created by asking, what each version carries."""

from __future__ import annotations

from typing import Any

import pytest
from kbroker.base import errors
from kbroker.broker.operations import NOT_REQUESTED
from kbroker.broker.topic_entries import KINDS_MAX
from kbroker.wire import apis
from kbroker.wire.schema.metadata import MetadataRequest, MetadataRequestTopic
from kbroker.wire.struct import ZERO_ID

from tests.broker.admin_support import CLUSTER_ID, NODE_ID, Admin, run


def asking(*names: str, **options: Any) -> MetadataRequest:
    return MetadataRequest(topics=[MetadataRequestTopic(name=name) for name in names], **options)


async def metadata(admin: Admin, version: int, request: MetadataRequest, **where: Any) -> Any:
    return await admin.call(apis.METADATA, version, request, **where)


@pytest.mark.parametrize("version", range(14))
def test_brokers_are_those_of_the_listener_the_request_came_by(version: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        for listener in ("PLAINTEXT", "EXTERNAL"):
            answer = await metadata(admin, version, asking("a"), listener=listener)
            (broker,) = answer.brokers
            assert (broker.node_id, broker.port) == (NODE_ID, 9092)
            assert broker.host == f"{listener.lower()}.test"
            if version >= 1:
                assert (broker.rack, answer.controller_id) == ("rack-a", NODE_ID)
            if version >= 2:
                assert answer.cluster_id == CLUSTER_ID

    run(test)


def test_v0_asks_for_all_with_an_empty_list_and_v1_with_null() -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1)
        await admin.topics.create_topic("b", 2)
        everything = await metadata(admin, 0, asking())
        assert [topic.name for topic in everything.topics] == ["a", "b"]
        for version in range(1, 14):
            assert (await metadata(admin, version, asking())).topics == []
            answer = await metadata(admin, version, MetadataRequest(topics=None))
            assert [len(topic.partitions) for topic in answer.topics] == [1, 2]

    run(test)


@pytest.mark.parametrize("version", range(14))
def test_an_unknown_topic_is_created_before_the_answer(version: int) -> None:
    async def test() -> None:
        admin = await Admin.open({"num.partitions": "3"})
        answer = await metadata(admin, version, asking("new", "new"))
        (topic,) = answer.topics
        assert (topic.name, topic.error_code) == ("new", errors.NONE)
        assert [partition.leader_id for partition in topic.partitions] == [NODE_ID] * 3
        assert set(admin.logs.ids) == {("new", 0), ("new", 1), ("new", 2)}
        if version >= 10:
            assert topic.topic_id == admin.topics.image.topics["new"].topic_id != ZERO_ID

    run(test)


def test_nothing_is_created_where_the_client_or_the_broker_does_not_want_it() -> None:
    async def test() -> None:
        admin = await Admin.open()
        request = asking("new", allow_auto_topic_creation=False)
        answer = await metadata(admin, 4, request)
        assert answer.topics[0].error_code == errors.UNKNOWN_TOPIC_OR_PARTITION
        closed = await Admin.open({"auto.create.topics.enable": "false"})
        answer = await metadata(closed, 3, asking("new"))
        assert answer.topics[0].error_code == errors.UNKNOWN_TOPIC_OR_PARTITION
        assert not admin.topics.image.topics and not closed.topics.image.topics

    run(test)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\0b", "x" * 250, "\u00e9", "a b"])
def test_bad_names_are_invalid_whether_or_not_they_would_be_created(name: str) -> None:
    async def test() -> None:
        admin = await Admin.open()
        for allowed in (True, False):
            request = asking(name, allow_auto_topic_creation=allowed)
            answer = await metadata(admin, 9, request)
            assert answer.topics[0].error_code == errors.INVALID_TOPIC_EXCEPTION
        assert not admin.topics.image.topics and not admin.logs.ids

    run(test)


def test_creation_that_fails_says_why() -> None:
    async def test() -> None:
        admin = await Admin.open({"default.replication.factor": "3"})
        answer = await metadata(admin, 12, asking("new"))
        assert answer.topics[0].error_code == errors.INVALID_REPLICATION_FACTOR
        # The failure is not remembered: what failed may work the next time.
        assert (await metadata(admin, 12, asking("new"))).topics[0].error_code != errors.NONE

    run(test)


def test_topics_by_id() -> None:
    async def test() -> None:
        admin = await Admin.open()
        topic = await admin.topics.create_topic("a", 1)
        unknown = b"\x07" * 16
        request = MetadataRequest(
            topics=[
                MetadataRequestTopic(topic_id=topic.topic_id, name=None),
                MetadataRequestTopic(topic_id=unknown, name=None),
            ]
        )
        for version in (12, 13):
            known, missing = (await metadata(admin, version, request)).topics
            assert (known.name, known.topic_id, known.error_code) == ("a", topic.topic_id, 0)
            assert (missing.name, missing.topic_id) == (None, unknown)
            assert missing.error_code == errors.UNKNOWN_TOPIC_ID
        for version in (10, 11):
            for answer in (await metadata(admin, version, request)).topics:
                assert answer.error_code == errors.INVALID_REQUEST

    run(test)


def test_authorized_operations_only_on_request() -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1)
        answer = await metadata(admin, 8, asking("a"))
        assert answer.cluster_authorized_operations == NOT_REQUESTED
        assert answer.topics[0].topic_authorized_operations == NOT_REQUESTED
        request = asking(
            "a",
            include_cluster_authorized_operations=True,
            include_topic_authorized_operations=True,
        )
        answer = await metadata(admin, 8, request)
        # What Apache Kafka answers without an authorizer.
        assert answer.cluster_authorized_operations == 8096
        assert answer.topics[0].topic_authorized_operations == 3576

    run(test)


def test_an_answer_is_encoded_once_for_each_state_of_the_cluster() -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1)
        everything = MetadataRequest(topics=None)
        before = await metadata(admin, 12, everything)
        admin.services.cluster_id = "changed behind its back"
        assert await metadata(admin, 12, everything) == before
        await admin.topics.create_topic("b", 1)
        after = await metadata(admin, 12, everything)
        assert [topic.name for topic in after.topics] == ["a", "b"]
        await admin.topics.delete_topic("a")
        after = await metadata(admin, 12, everything)
        assert [topic.name for topic in after.topics] == ["b"]
        await admin.topics.create_partitions("b", 4)
        after = await metadata(admin, 12, everything)
        assert len(after.topics[0].partitions) == 4

    run(test)


def test_internal_topics_come_with_their_own_configuration() -> None:
    async def test() -> None:
        admin = await Admin.open({"offsets.topic.num.partitions": "5"})
        answer = await metadata(admin, 12, asking("__consumer_offsets", "__cluster_metadata"))
        offsets, raft = answer.topics
        assert offsets.is_internal and len(offsets.partitions) == 5
        assert raft.error_code == errors.INVALID_TOPIC_EXCEPTION
        config = admin.topics.topic_config("__consumer_offsets")
        assert config.cleanup_policy == ("compact",)

    run(test)


@pytest.mark.parametrize("version", range(14))
def test_all_topics_are_told_as_each_of_them_is(version: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        everything = MetadataRequest(
            topics=[] if version == 0 else None, include_topic_authorized_operations=version >= 8
        )

        async def same_as_one_by_one() -> None:
            names = list(admin.topics.image.topics)
            asked = asking(*names, include_topic_authorized_operations=version >= 8)
            all_of_them = await metadata(admin, version, everything)
            one_by_one = await metadata(admin, version, asked)
            assert [topic.name for topic in all_of_them.topics] == names
            assert repr(all_of_them) == repr(one_by_one)

        for n in range(130):  # a count of two bytes
            await admin.topics.create_topic(f"t-{n}", 1 + n % 3)
        await same_as_one_by_one()
        await admin.topics.delete_topic("t-7")
        await admin.topics.create_topic("t-7", 2)
        await admin.topics.create_partitions("t-9", 5)
        await same_as_one_by_one()
        for n in range(130):
            await admin.topics.delete_topic(f"t-{n}")
        assert (await metadata(admin, version, everything)).topics == []

    run(test)


def test_entries_of_few_kinds_are_kept_and_none_of_topics_that_are_gone() -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1)
        await admin.topics.create_topic("b", 1)
        for version in range(1, 14):
            await metadata(admin, version, MetadataRequest(topics=None))
        kept = admin.topics.answers.entries
        assert len(kept) == KINDS_MAX and (13, NOT_REQUESTED) in kept
        await admin.topics.delete_topic("a")
        await metadata(admin, 13, MetadataRequest(topics=None))
        assert [topic.name for topic, _ in kept[13, NOT_REQUESTED].values()] == ["b"]

    run(test)
