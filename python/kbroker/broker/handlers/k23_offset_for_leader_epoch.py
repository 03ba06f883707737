"""OffsetForLeaderEpoch (23), versions 2 to 4: where a leader epoch ended (KIP-101, KIP-320).

A consumer that comes back asks with the epoch of its last record; an answer below its position
means that the log was cut and written anew. The answer is the largest epoch up to the one asked for
and its exclusive end; (-1, -1) when that epoch is not known. v4 is flexible.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)


@handles(apis.OFFSET_FOR_LEADER_EPOCH, 2, 4)
def handle(ctx: RequestContext, req: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse:
    response = OffsetForLeaderEpochResponse()
    for topic in req.topics:
        rows = [_answer(ctx, topic.topic, asked) for asked in topic.partitions]
        response.topics.append(OffsetForLeaderTopicResult(topic=topic.topic, partitions=rows))
    return response


def _answer(ctx: RequestContext, topic: str, asked: OffsetForLeaderPartition) -> EpochEndOffset:
    row = EpochEndOffset(partition=asked.partition)
    partition = ctx.services.logs.get(topic, asked.partition)
    current = asked.current_leader_epoch
    if partition is None:
        row.error_code = errors.UNKNOWN_TOPIC_OR_PARTITION
    elif 0 <= current < partition.leader_epoch:
        row.error_code = errors.FENCED_LEADER_EPOCH
    elif current > partition.leader_epoch:
        row.error_code = errors.UNKNOWN_LEADER_EPOCH
    else:
        row.leader_epoch, row.end_offset = partition.end_offset_for_epoch(asked.leader_epoch)
    return row
