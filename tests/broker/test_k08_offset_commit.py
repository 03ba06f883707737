"""k08_offset_commit, k09_offset_fetch and k47_offset_delete: what is on the wire, by version."""

from __future__ import annotations

from typing import Any

import pytest
from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.wire import apis
from kbroker.wire.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kbroker.wire.schema.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from kbroker.wire.schema.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from kbroker.wire.struct import ZERO_ID

from tests.broker.group_support import Edge

COMMIT, FETCH, DELETE = apis.OFFSET_COMMIT, apis.OFFSET_FETCH, apis.OFFSET_DELETE


def commit(edge: Edge, version: int, *topics: str, **fields: Any) -> Any:
    request = OffsetCommitRequest(group_id="g", **fields)
    for name in topics:
        part = OffsetCommitRequestPartition(partition_index=1, committed_offset=42)
        if version >= 6:
            part.committed_leader_epoch = 3
        part.committed_metadata = "m"
        topic = OffsetCommitRequestTopic(partitions=[part])
        if version >= 10:
            known = edge.kit.image.topics.get(name)
            topic.topic_id = known.topic_id if known else name.encode().ljust(16)
        else:
            topic.name = name
        request.topics.append(topic)
    return edge.ask(COMMIT, version, request)


@pytest.mark.parametrize("version", range(2, 11))
def test_a_commit_of_each_version(version: int) -> None:
    edge = Edge()
    told = commit(edge, version, "t", "none")
    good, bad = told.topics
    assert good.partitions[0].partition_index == 1
    assert good.partitions[0].error_code == errors.NONE
    unknown = errors.UNKNOWN_TOPIC_ID if version >= 10 else errors.UNKNOWN_TOPIC_OR_PARTITION
    assert bad.partitions[0].error_code == unknown
    if version >= 10:
        assert good.topic_id == edge.kit.image.topics["t"].topic_id
    else:
        assert good.name == "t"
    committed = edge.kit.shard.offsets.get("g", "t", 1)
    assert committed is not None
    assert (committed.offset, committed.metadata) == (42, "m")
    assert committed.leader_epoch == (3 if version >= 6 else -1)


@pytest.mark.parametrize("version", range(2, 11))
def test_what_stops_all_of_a_commit_is_told_for_each_partition(version: int) -> None:
    edge = Edge()
    told = commit(edge, version, "t", "u", generation_id_or_member_epoch=3, member_id="m")
    expected = errors.GROUP_ID_NOT_FOUND if version >= 9 else errors.ILLEGAL_GENERATION
    assert [topic.partitions[0].error_code for topic in told.topics] == [expected] * 2
    edge.groups.refuses = errors.NOT_COORDINATOR
    told = commit(edge, version, "t", "u")
    codes = [topic.partitions[0].error_code for topic in told.topics]
    assert codes == [errors.NOT_COORDINATOR] * 2


def fetched(answer: Any) -> dict[str, list[tuple[int, int, int, str, int]]]:
    return {
        topic.name: [
            (p.partition_index, p.committed_offset, p.committed_leader_epoch, p.metadata,
             p.error_code)
            for p in topic.partitions
        ]
        for topic in answer.topics
    }  # fmt: skip


@pytest.mark.parametrize("version", range(1, 8))
def test_one_groups_offsets(version: int) -> None:
    edge = Edge()
    commit(edge, 6, "t")
    request = OffsetFetchRequest(
        group_id="g", topics=[OffsetFetchRequestTopic(name="t", partition_indexes=[1, 0])]
    )
    if version >= 7:
        request.require_stable = True
    epoch = 3 if version >= 5 else -1
    told = edge.ask(FETCH, version, request)
    assert fetched(told) == {"t": [(1, 42, epoch, "m", 0), (0, -1, -1, "", 0)]}
    if version >= 2:
        request.topics = None  # type: ignore[assignment]
        assert fetched(edge.ask(FETCH, version, request)) == {"t": [(1, 42, epoch, "m", 0)]}
        request.topics = []
        assert fetched(edge.ask(FETCH, version, request)) == {}
    edge.groups.refuses = errors.NOT_COORDINATOR
    request.topics = [OffsetFetchRequestTopic(name="t", partition_indexes=[1])]
    told = edge.ask(FETCH, version, request)
    if version >= 2:
        assert (told.error_code, told.topics) == (errors.NOT_COORDINATOR, [])
    else:
        assert fetched(told) == {"t": [(1, -1, -1, "", errors.NOT_COORDINATOR)]}


@pytest.mark.parametrize("version", range(8, 11))
def test_many_groups_offsets(version: int) -> None:
    edge = Edge()
    commit(edge, 6, "t")
    topic = OffsetFetchRequestTopics(partition_indexes=[1])
    topic_id = edge.kit.image.topics["t"].topic_id
    if version >= 10:
        topic.topic_id = topic_id
    else:
        topic.name = "t"
    request = OffsetFetchRequest(
        groups=[
            OffsetFetchRequestGroup(group_id="g", topics=[topic]),
            OffsetFetchRequestGroup(group_id="g", topics=None),  # type: ignore[arg-type]
            OffsetFetchRequestGroup(group_id="none", topics=None),  # type: ignore[arg-type]
            OffsetFetchRequestGroup(group_id="none", topics=[topic]),
        ]
    )
    named, everything, empty, unknown = edge.ask(FETCH, version, request).groups
    for group in (named, everything):
        (told,) = group.topics
        assert told.topic_id == (topic_id if version >= 10 else ZERO_ID)
        assert told.name == ("" if version >= 10 else "t")
        (part,) = told.partitions
        assert (part.partition_index, part.committed_offset, part.metadata) == (1, 42, "m")
        assert part.committed_leader_epoch == 3
    assert (empty.group_id, empty.topics, empty.error_code) == ("none", [], errors.NONE)
    assert unknown.topics[0].partitions[0].committed_offset == -1
    edge.groups.refuses = errors.COORDINATOR_LOAD_IN_PROGRESS
    told = edge.ask(FETCH, version, request)
    assert [g.error_code for g in told.groups] == [errors.COORDINATOR_LOAD_IN_PROGRESS] * 4


def test_an_id_that_no_topic_has() -> None:
    edge = Edge()
    topic = OffsetFetchRequestTopics(topic_id=b"x" * 16, partition_indexes=[0])
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="g", topics=[topic])])
    (group,) = edge.ask(FETCH, 10, request).groups
    assert (group.topics[0].topic_id, group.topics[0].partitions[0].error_code) == (
        b"x" * 16, errors.UNKNOWN_TOPIC_ID,
    )  # fmt: skip


def test_offsets_are_deleted() -> None:
    edge = Edge()
    commit(edge, 6, "t")
    part = OffsetDeleteRequestPartition(partition_index=1)
    request = OffsetDeleteRequest(
        group_id="g", topics=[OffsetDeleteRequestTopic(name="t", partitions=[part])]
    )
    told = edge.ask(DELETE, 0, request)
    assert told.topics[0].partitions[0].error_code == errors.NONE
    assert edge.kit.shard.groups == {}
    with pytest.raises(KafkaError) as refused:  # told at the top of the answer
        edge.ask(DELETE, 0, request)
    assert refused.value.code == errors.GROUP_ID_NOT_FOUND


def test_all_offsets_of_a_group_are_told_once() -> None:
    edge = Edge()
    commit(edge, 6, "t")
    again = [OffsetFetchRequestGroup(group_id="g", topics=None) for _ in range(50)]  # type: ignore[arg-type]
    (told,) = edge.ask(FETCH, 8, OffsetFetchRequest(groups=again)).groups
    assert told.topics[0].partitions[0].committed_offset == 42


@pytest.mark.parametrize("retention_ms", [(1 << 63) - 1, -2])
def test_a_retention_beyond_all_time(retention_ms: int) -> None:
    edge = Edge()
    part = OffsetCommitRequestPartition(partition_index=0, committed_offset=7)
    request = OffsetCommitRequest(
        group_id="g", generation_id_or_member_epoch=-1, retention_time_ms=retention_ms,
        topics=[OffsetCommitRequestTopic(name="t", partitions=[part])],
    )  # fmt: skip
    (topic,) = edge.ask(COMMIT, 4, request).topics
    assert topic.partitions[0].error_code == errors.NONE
    assert edge.kit.committed() == 7
