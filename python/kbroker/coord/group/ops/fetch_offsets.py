"""OffsetFetch: what a group has committed. A read; one group at a time.

What was never committed is offset -1, which is no error; nor is a group that does not exist. A
reader that asks for stable offsets is told UNSTABLE_OFFSET_COMMIT where a transaction may still
change one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from kbroker.base import errors
from kbroker.coord.group.env import Caller
from kbroker.coord.group.shard import GroupShard

TOPIC_IDS_FROM: Final = 10


class AskedTopic(NamedTuple):
    """By `name`, or by `topic_id` from version 10 on."""

    name: str
    topic_id: bytes
    partitions: Sequence[int]


class FetchedOffset(NamedTuple):
    partition: int
    offset: int
    leader_epoch: int
    metadata: str
    error_code: int


class FetchedTopic(NamedTuple):
    name: str
    topic_id: bytes
    partitions: list[FetchedOffset]


def op_fetch_offsets(
    shard: GroupShard,
    caller: Caller,
    group_id: str,
    asked: Sequence[AskedTopic] | None,
    *,
    member_id: str | None = None,
    member_epoch: int = -1,
    require_stable: bool = False,
) -> list[FetchedTopic]:
    """`asked` None: all that the group has. Raises KafkaError of the whole group."""
    group = shard.groups.get(group_id)
    if group is not None:
        group.check_fetch(member_id, member_epoch)
    by_id = caller.api_version >= TOPIC_IDS_FROM
    image = shard.env.image()
    fetched: list[FetchedTopic] = []
    if asked is None:
        asked = _all(shard, group_id, by_id)
    for topic in asked:
        name: str | None = topic.name
        if by_id:
            known = image.topics_by_id.get(topic.topic_id)
            name = None if known is None else known.name
        told = FetchedTopic(name or "", topic.topic_id, [])
        fetched.append(told)
        for partition in topic.partitions:
            if name is None:
                told.partitions.append(_none(partition, errors.UNKNOWN_TOPIC_ID))
            else:
                told.partitions.append(_one(shard, group_id, name, partition, require_stable))
    return fetched


def _all(shard: GroupShard, group_id: str, by_id: bool) -> list[AskedTopic]:
    """By id only topics that still have one."""
    partitions: dict[str, list[int]] = {}
    for topic, partition in shard.offsets.of_group(group_id):
        partitions.setdefault(topic, []).append(partition)
    topics = shard.env.image().topics
    asked = []
    for name, indexes in partitions.items():
        topic_view = topics.get(name)
        if topic_view is not None:
            asked.append(AskedTopic(name, topic_view.topic_id, indexes))
        elif not by_id:
            asked.append(AskedTopic(name, bytes(16), indexes))
    return asked


def _one(
    shard: GroupShard, group_id: str, topic: str, partition: int, require_stable: bool
) -> FetchedOffset:
    if require_stable and shard.offsets.is_pending(group_id, topic, partition):
        return _none(partition, errors.UNSTABLE_OFFSET_COMMIT)
    committed = shard.offsets.get(group_id, topic, partition)
    if committed is None:
        return _none(partition, errors.NONE)
    return FetchedOffset(
        partition, committed.offset, committed.leader_epoch, committed.metadata, errors.NONE
    )


def _none(partition: int, error_code: int) -> FetchedOffset:
    return FetchedOffset(partition, -1, -1, "", error_code)
