"""OffsetCommit: how far a group has read, by partition.

Who may commit: a member of the generation that goes on, or, while the group has no members, anybody
that names no generation (an administrator, a consumer that assigns partitions itself). The first
such commit makes the group. A commit of a member is a sign of life.

Partitions are refused one by one: topics and partitions that are not there, metadata that is too
long. The request keeps what becomes of each, and is its own answer and its own records.
"""

from __future__ import annotations

from typing import Final

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group import rebalance
from kbroker.coord.group.classic import ClassicGroup, State
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.group import Group
from kbroker.coord.group.limits import GROUPS_MAX
from kbroker.coord.group.offsets import NO_TIMESTAMP
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.result import Result
from kcore._native.offset_commit import OffsetCommits, TopicCommits

TOPIC_IDS_FROM: Final = 10
_GROUP_ID_NOT_FOUND_FROM: Final = 9
_NO_RETENTION: Final = -1
INT64_MAX: Final = (1 << 63) - 1
_SIGNS_OF_LIFE: Final = (State.STABLE, State.PREPARING)


def op_commit(shard: GroupShard, commits: OffsetCommits) -> Result[OffsetCommits]:
    group = shard.groups.get(commits.group_id)
    refused = errors.NONE
    try:
        _check_group(shard, group, commits)
    except KafkaError as error:
        refused = error.code
    for topic in commits.topics:
        _check_topic(shard, group, commits, topic, refused)
    now_ms = shard.env.clock.wall_ms()
    retention_ms = commits.retention_ms
    expires_ms = NO_TIMESTAMP
    if retention_ms != _NO_RETENTION:  # which only requests up to version 4 can say
        expires_ms = min(now_ms + max(0, retention_ms), INT64_MAX)
    commits.seal(now_ms, expires_ms)
    if refused:
        return Result(commits)
    if isinstance(group, ClassicGroup) and group.state in _SIGNS_OF_LIFE:
        rebalance.heard_of(shard, group, commits.member_id)
    return Result(commits, bulk=commits if len(commits) else None)


def _check_group(shard: GroupShard, group: Group | None, commits: OffsetCommits) -> None:
    if group is not None:
        group.check_commit(
            commits.member_id,
            commits.group_instance_id,
            commits.generation_or_epoch,
            commits.version,
        )
    elif commits.generation_or_epoch >= 0:
        if commits.version >= _GROUP_ID_NOT_FOUND_FROM:
            raise KafkaError(errors.GROUP_ID_NOT_FOUND)
        raise KafkaError(errors.ILLEGAL_GENERATION)
    elif len(shard.groups) >= GROUPS_MAX:
        raise KafkaError(errors.POLICY_VIOLATION, "This coordinator has too many groups.")


def _check_topic(
    shard: GroupShard,
    group: Group | None,
    commits: OffsetCommits,
    asked: TopicCommits,
    refused: int,
) -> None:
    """What is wrong with a partition goes before what stops all of them."""
    image = shard.env.image()
    if commits.version >= TOPIC_IDS_FROM:
        topic, unknown = image.topics_by_id.get(asked.topic_id), errors.UNKNOWN_TOPIC_ID
    else:
        topic, unknown = image.topics.get(asked.name), errors.UNKNOWN_TOPIC_OR_PARTITION
    if topic is None:
        asked.refuse(unknown)
        return
    asked.check(
        topic.name,
        len(topic.partitions),
        shard.env.config().offset_metadata_max_bytes,
        errors.UNKNOWN_TOPIC_OR_PARTITION,
        errors.OFFSET_METADATA_TOO_LARGE,
    )
    if refused:
        asked.refuse(refused)
    elif isinstance(group, ConsumerGroup):
        member_id, epoch = commits.member_id, commits.generation_or_epoch
        for position, partition in asked.accepted():
            code = group.check_partition(member_id, epoch, topic.topic_id, partition)
            if code:
                asked.refuse_at(position, code)
