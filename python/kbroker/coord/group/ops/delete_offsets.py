"""OffsetDelete: forgets offsets of topics that the group does not read (any more)."""

from __future__ import annotations

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group import records
from kbroker.coord.group.env import Caller
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.result import Record, Result
from kbroker.wire.schema.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)


def op_delete_offsets(
    shard: GroupShard, caller: Caller, request: OffsetDeleteRequest
) -> Result[OffsetDeleteResponse]:
    group_id = request.group_id
    if not group_id:
        raise KafkaError(errors.INVALID_GROUP_ID)
    group = shard.groups.get(group_id)
    if group is None:
        raise KafkaError(errors.GROUP_ID_NOT_FOUND)
    group.check_delete_offsets()
    topics = shard.env.image().topics
    response = OffsetDeleteResponse()
    written: dict[tuple[str, int], Record] = {}
    for asked in request.topics:
        told = OffsetDeleteResponseTopic(name=asked.name)
        response.topics.append(told)
        topic = topics.get(asked.name)
        subscribed = topic is not None and group.is_subscribed(asked.name)
        for part in asked.partitions:
            partition = part.partition_index
            code = errors.NONE
            if topic is None or not 0 <= partition < len(topic.partitions):
                code = errors.UNKNOWN_TOPIC_OR_PARTITION
            elif subscribed:
                code = errors.GROUP_SUBSCRIBED_TO_TOPIC
            told.partitions.append(
                OffsetDeleteResponsePartition(partition_index=partition, error_code=code)
            )
            if code:
                continue
            known = shard.offsets.get(group_id, asked.name, partition) is not None
            if known or shard.offsets.is_pending(group_id, asked.name, partition):
                written[asked.name, partition] = records.offset_tombstone(
                    group_id, asked.name, partition
                )
    return Result(response, list(written.values()))
