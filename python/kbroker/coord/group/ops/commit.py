"""OffsetCommit: how far a group has read, by partition.

Who may commit: a member of the generation that goes on, or, while the group has no members, anybody
that names no generation (an administrator, a consumer that assigns partitions itself). The first
such commit makes the group. A commit of a member is a sign of life.

Partitions are refused one by one: topics and partitions that are not there, metadata that is too
long.
"""

from __future__ import annotations

from typing import Final

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group import rebalance, records
from kbroker.coord.group.classic import ClassicGroup, State
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.env import Caller, TopicView
from kbroker.coord.group.limits import GROUPS_MAX, STRING_BYTES_MAX
from kbroker.coord.group.offsets import NO_TIMESTAMP
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.result import Record, Result
from kbroker.wire.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

TOPIC_IDS_FROM: Final = 10
_GROUP_ID_NOT_FOUND_FROM: Final = 9
_RETENTION_UNTIL: Final = 4
_NO_RETENTION: Final = -1
INT64_MAX: Final = (1 << 63) - 1
_SIGNS_OF_LIFE: Final = (State.STABLE, State.PREPARING)


def op_commit(
    shard: GroupShard, caller: Caller, request: OffsetCommitRequest
) -> Result[OffsetCommitResponse]:
    refused = errors.NONE
    try:
        _check_group(shard, caller, request)
    except KafkaError as error:
        refused = error.code
    response = OffsetCommitResponse()
    written: list[Record] = []
    now_ms = shard.env.clock.wall_ms()
    expires_ms = NO_TIMESTAMP
    retention_ms = request.retention_time_ms
    if caller.api_version <= _RETENTION_UNTIL and retention_ms != _NO_RETENTION:
        expires_ms = min(now_ms + max(0, retention_ms), INT64_MAX)
    group = shard.groups.get(request.group_id)
    consumers = group if isinstance(group, ConsumerGroup) else None
    for asked in request.topics:
        topic, unknown = find_topic(shard, caller, asked)
        told = OffsetCommitResponseTopic(name=asked.name, topic_id=asked.topic_id)
        response.topics.append(told)
        for part in asked.partitions:
            index = part.partition_index
            code = _check(shard, topic, part) if topic is not None else unknown
            code = code or refused
            if consumers is not None and topic is not None and not code:
                code = consumers.check_partition(
                    request.member_id,
                    request.generation_id_or_member_epoch,
                    topic.topic_id,
                    index,
                )
            told.partitions.append(
                OffsetCommitResponsePartition(partition_index=index, error_code=code)
            )
            if not code and topic is not None:
                written.append(
                    records.offset_commit(
                        request.group_id,
                        topic.name,
                        index,
                        offset=part.committed_offset,
                        leader_epoch=part.committed_leader_epoch,
                        metadata=part.committed_metadata or "",
                        now_ms=now_ms,
                        expire_timestamp_ms=expires_ms,
                    )
                )
    if not refused:
        _note_life(shard, request)
    return Result(response, written)


def find_topic(
    shard: GroupShard, caller: Caller, asked: OffsetCommitRequestTopic
) -> tuple[TopicView | None, int]:
    """The topic, or None and the error that says so in the request's version."""
    image = shard.env.image()
    if caller.api_version >= TOPIC_IDS_FROM:
        return image.topics_by_id.get(asked.topic_id), errors.UNKNOWN_TOPIC_ID
    return image.topics.get(asked.name), errors.UNKNOWN_TOPIC_OR_PARTITION


def _check_group(shard: GroupShard, caller: Caller, request: OffsetCommitRequest) -> None:
    group = shard.groups.get(request.group_id)
    if group is not None:
        group.check_commit(
            request.member_id,
            request.group_instance_id,
            request.generation_id_or_member_epoch,
            caller.api_version,
        )
    elif request.generation_id_or_member_epoch >= 0:
        if caller.api_version >= _GROUP_ID_NOT_FOUND_FROM:
            raise KafkaError(errors.GROUP_ID_NOT_FOUND)
        raise KafkaError(errors.ILLEGAL_GENERATION)
    elif len(request.group_id.encode()) > STRING_BYTES_MAX:
        raise KafkaError(errors.INVALID_GROUP_ID)
    elif len(shard.groups) >= GROUPS_MAX:
        raise KafkaError(errors.POLICY_VIOLATION, "This coordinator has too many groups.")


def _check(shard: GroupShard, topic: TopicView, part: OffsetCommitRequestPartition) -> int:
    if not 0 <= part.partition_index < len(topic.partitions):
        return errors.UNKNOWN_TOPIC_OR_PARTITION
    metadata = part.committed_metadata
    if not metadata:
        return errors.NONE
    if len(metadata) > shard.env.config().offset_metadata_max_bytes:
        return errors.OFFSET_METADATA_TOO_LARGE
    if len(metadata) * 4 > STRING_BYTES_MAX and len(metadata.encode()) > STRING_BYTES_MAX:
        return errors.OFFSET_METADATA_TOO_LARGE
    return errors.NONE


def _note_life(shard: GroupShard, request: OffsetCommitRequest) -> None:
    group = shard.groups.get(request.group_id)
    if isinstance(group, ClassicGroup) and group.state in _SIGNS_OF_LIFE:
        rebalance.heard_of(shard, group, request.member_id)
