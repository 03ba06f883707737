"""Committing, fetching and deleting offsets: goal: what was acknowledged is what is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.coord.group.classic import State
from kbroker.coord.group.ops.commit import op_commit
from kbroker.coord.group.ops.delete_offsets import op_delete_offsets
from kbroker.coord.group.ops.fetch_offsets import AskedTopic, op_fetch_offsets
from kbroker.coord.group.schema import OffsetCommitKey, OffsetCommitValue
from kbroker.coord.result import Record
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

from tests.coord.commits import parsed
from tests.coord.group_kit import GROUP, SESSION_MS, GroupKit, caller, code


@pytest.fixture
def kit() -> Iterator[GroupKit]:
    kit = GroupKit()
    yield kit
    kit.check()


def fetch(kit: GroupKit, asked: list[AskedTopic] | None, version: int = 8, **more: Any) -> Any:
    return kit.read(
        lambda shard: op_fetch_offsets(shard, caller(version), GROUP, asked, **more)
    ).result()


def test_a_commit_is_a_record_and_is_read_back(kit: GroupKit) -> None:
    assert kit.commit_code(42, metadata="why", leader_epoch=3) == errors.NONE
    now_ms = kit.clock.wall_ms()
    assert kit.written() == [
        Record(
            OffsetCommitKey(group=GROUP, topic="t", partition=0),
            OffsetCommitValue(offset=42, leader_epoch=3, metadata="why", commit_timestamp=now_ms),
        )
    ]
    (topic,) = fetch(kit, [AskedTopic("t", bytes(16), [0, 1])])
    assert topic.name == "t" and topic.partitions == [(0, 42, 3, "why", 0), (1, -1, -1, "", 0)]
    assert kit.commit_code(43, metadata=None) == errors.NONE
    assert fetch(kit, None)[0].partitions == [(0, 43, -1, "", 0)]
    assert kit.shard.offsets.count == 1


def test_a_commit_is_acknowledged_when_it_is_safe(kit: GroupKit) -> None:
    kit.log.holds = True
    answer = kit.commit(1)
    assert not answer.done
    read = kit.read(
        lambda shard: op_fetch_offsets(shard, caller(8), GROUP, [AskedTopic("t", bytes(16), [0])])
    )
    assert not read.done, "a reader waits for what it saw"
    kit.advance()
    assert answer.done and read.result()[0].partitions[0].offset == 1


def test_a_refused_commit_changes_nothing(kit: GroupKit) -> None:
    kit.commit(1)
    kit.log.failures = [errors.MESSAGE_TOO_LARGE]
    assert code(kit.commit(2, topic="u")) == errors.UNKNOWN_SERVER_ERROR
    assert kit.committed() == 1 and kit.committed("u") == -1 and kit.shard.offsets.count == 1
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    assert code(kit.commit(2, group_id="new")) == errors.COORDINATOR_NOT_AVAILABLE
    assert list(kit.shard.groups) == [GROUP]


@pytest.mark.parametrize("before", [0, 1])
def test_a_refused_commit_that_names_a_partition_twice(kit: GroupKit, before: int) -> None:
    for _ in range(before):
        kit.commit(1)
    parts = [OffsetCommitRequestPartition(committed_offset=offset) for offset in (2, 3)]
    request = OffsetCommitRequest(
        group_id=GROUP, topics=[OffsetCommitRequestTopic(name="t", partitions=parts)]
    )
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    assert kit.write(lambda shard: op_commit(shard, parsed(request))).error is not None
    assert kit.committed() == (1 if before else -1) and kit.shard.offsets.count == before
    assert len(kit.shard.groups) == before
    assert kit.write(lambda shard: op_commit(shard, parsed(request))).error is None
    assert kit.committed() == 3 and kit.shard.offsets.count == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"topic": "none"}, errors.UNKNOWN_TOPIC_OR_PARTITION),
        ({"topic": "none", "version": 10}, errors.UNKNOWN_TOPIC_ID),
        ({"version": 10}, errors.NONE),
        ({"partition": 4}, errors.UNKNOWN_TOPIC_OR_PARTITION),
        ({"partition": -1}, errors.UNKNOWN_TOPIC_OR_PARTITION),
        ({"metadata": "x" * 4_096}, errors.NONE),
        ({"metadata": "x" * 4_097}, errors.OFFSET_METADATA_TOO_LARGE),
        ({"generation": 0}, errors.GROUP_ID_NOT_FOUND),
        ({"generation": 0, "version": 8}, errors.ILLEGAL_GENERATION),
        ({"group_id": "x" * 32_767}, errors.NONE),
        ({"group_id": ""}, errors.NONE),
    ],
)  # fmt: skip
def test_what_a_commit_is_told(kit: GroupKit, fields: dict[str, Any], expected: int) -> None:
    assert kit.commit_code(**fields) == expected
    assert len(kit.written()) == (expected == errors.NONE)


def test_the_longest_metadata() -> None:
    kit = GroupKit(offset_metadata_max_bytes=1_000_000)
    assert kit.commit_code(metadata="\u00e9" * 16_383) == errors.NONE
    kit.check()


def test_groups_are_bounded(kit: GroupKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbroker.coord.group.ops.commit.GROUPS_MAX", 1)
    assert kit.commit_code() == errors.NONE
    assert kit.commit_code(group_id="other") == errors.POLICY_VIOLATION


def test_members_commit_in_their_generation(kit: GroupKit) -> None:
    a, b = kit.member(), kit.member()
    kit.stable(a, b)
    assert a.commit(7) == errors.NONE and kit.committed() == 7
    assert a.commit(8, generation=2) == errors.ILLEGAL_GENERATION
    assert a.commit(8, generation=0) == errors.ILLEGAL_GENERATION
    assert a.commit(8, member_id="ghost") == errors.UNKNOWN_MEMBER_ID
    assert a.commit(8, generation=-1) == errors.ILLEGAL_GENERATION
    assert a.commit(8, generation=-1, member_id="") == errors.UNKNOWN_MEMBER_ID
    assert a.commit(8, instance_id="i") == errors.UNKNOWN_MEMBER_ID
    waits = b.join() if kit.group().leader == b.member_id else a.join()
    assert kit.state is State.PREPARING
    other = a if kit.group().leader == b.member_id else b
    assert other.commit(8) == errors.NONE, "a last commit before it joins again"
    other.joined(other.join().result())
    assert waits.done and kit.state is State.COMPLETING
    assert other.commit(9) == errors.REBALANCE_IN_PROGRESS
    assert kit.committed() == 8
    a.leave()
    b.leave()
    assert kit.state is State.EMPTY
    assert kit.commit_code(100) == errors.NONE, "an administrator resets an empty group"
    assert other.commit(9) == errors.UNKNOWN_MEMBER_ID


def test_a_commit_is_a_sign_of_life(kit: GroupKit) -> None:
    a, b = kit.member(), kit.member()
    kit.stable(a, b)
    for _ in range(3):
        kit.sleep(SESSION_MS - 1)
        assert a.commit() == errors.NONE and b.commit() == errors.NONE
    kit.sleep(SESSION_MS - 1)
    assert kit.state is State.STABLE and len(kit.group().members) == 2


def test_all_of_a_groups_offsets(kit: GroupKit) -> None:
    for topic, partition in (("t", 1), ("u", 0), ("t", 0)):
        kit.commit(5, topic=topic, partition=partition)
    told = {topic.name: [p.partition for p in topic.partitions] for topic in fetch(kit, None)}
    assert told == {"t": [1, 0], "u": [0]}
    by_id = fetch(kit, None, 10)
    assert {t.topic_id for t in by_id} == {t.topic_id for t in kit.image.topics.values()}
    gone = kit.image.remove("u")
    assert [topic.name for topic in fetch(kit, None)] == ["t", "u"]
    assert [topic.name for topic in fetch(kit, None, 10)] == ["t"], "it has no id any more"
    (unknown,) = fetch(kit, [AskedTopic("", gone.topic_id, [0])], 10)
    assert unknown.topic_id == gone.topic_id
    assert unknown.partitions == [(0, -1, -1, "", errors.UNKNOWN_TOPIC_ID)]


def test_a_group_that_is_not_there_has_no_offsets(kit: GroupKit) -> None:
    assert fetch(kit, None) == []
    assert fetch(kit, [AskedTopic("t", bytes(16), [3])], member_epoch=5, member_id="m")[
        0
    ].partitions == [(3, -1, -1, "", 0)]


def test_offsets_outlive_members_and_restarts(kit: GroupKit) -> None:
    a = kit.member()
    kit.stable(a)
    a.commit(9)
    a.leave()
    kit.runtime.deactivate(7)
    kit.start()
    assert kit.committed() == 9 and kit.state is State.EMPTY


def delete_offsets(kit: GroupKit, *topics: tuple[str, int], group: str = GROUP) -> Any:
    request = OffsetDeleteRequest(
        group_id=group,
        topics=[
            OffsetDeleteRequestTopic(
                name=name, partitions=[OffsetDeleteRequestPartition(partition_index=index)]
            )
            for name, index in topics
        ],
    )
    return kit.write(lambda shard: op_delete_offsets(shard, caller(0), request))


def codes(response: Any) -> list[int]:
    return [topic.partitions[0].error_code for topic in response.topics]


def test_offsets_are_deleted_one_by_one(kit: GroupKit) -> None:
    assert code(delete_offsets(kit, ("t", 0))) == errors.GROUP_ID_NOT_FOUND
    assert code(delete_offsets(kit, ("t", 0), group="")) == errors.INVALID_GROUP_ID
    kit.commit(1)
    kit.commit(2, topic="u")
    kit.written()
    told = delete_offsets(kit, ("t", 0), ("t", 1), ("none", 0), ("t", 0), ("t", 99)).result()
    unknown = errors.UNKNOWN_TOPIC_OR_PARTITION
    assert codes(told) == [0, 0, unknown, 0, unknown]
    assert kit.written() == [Record(OffsetCommitKey(group=GROUP, topic="t", partition=0), None)]
    assert kit.committed() == -1 and kit.committed("u") == 2
    delete_offsets(kit, ("u", 0))
    assert kit.shard.groups == {} and kit.shard.offsets.count == 0


def test_offsets_of_topics_that_are_read_stay(kit: GroupKit) -> None:
    a = kit.member(topics=("t",))
    kit.stable(a)
    a.commit(1)
    a.commit(2, topic="u")
    told = delete_offsets(kit, ("t", 0), ("u", 0)).result()
    assert codes(told) == [errors.GROUP_SUBSCRIBED_TO_TOPIC, 0]
    assert kit.committed() == 1 and kit.committed("u") == -1
    a.leave()
    assert codes(delete_offsets(kit, ("t", 0)).result()) == [0]


def test_what_members_of_other_protocol_types_read_is_not_known(kit: GroupKit) -> None:
    a = kit.member(protocol_type="connect")
    kit.stable(a)
    a.commit(1)
    assert code(delete_offsets(kit, ("t", 0))) == errors.NON_EMPTY_GROUP
    assert kit.group().subscribed is None
    a.leave()
    assert codes(delete_offsets(kit, ("t", 0)).result()) == [0]


def test_bytes_that_are_no_subscription_may_mean_any_topic(kit: GroupKit) -> None:
    a = kit.member()
    a.protocols = {"range": b"\0\1garbage"}
    kit.stable(a)
    a.commit(1)
    assert codes(delete_offsets(kit, ("t", 0)).result()) == [errors.GROUP_SUBSCRIBED_TO_TOPIC]
