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
        code = errors.NONE
        if asked.name not in topics:
            code = errors.UNKNOWN_TOPIC_OR_PARTITION
        elif group.is_subscribed(asked.name):
            code = errors.GROUP_SUBSCRIBED_TO_TOPIC
        for part in asked.partitions:
            partition = part.partition_index
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
