"""OffsetCommit (8), versions 2 to 10: how far a group has read.

* v2-v4: retention_time_ms, how long these offsets are kept. v6: leader epochs (KIP-320).
* v7: static members. v9: member epochs of the consumer protocol (KIP-848). v10: topic ids.

There is no error of the whole request: what stops all of it is told for each partition. ACLs: Read
on the group and on each topic.
"""

from __future__ import annotations

from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.groups import caller_of
from kbroker.broker.registry import handles
from kbroker.coord.group.ops.commit import op_commit
from kbroker.wire import apis
from kbroker.wire.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)


@handles(apis.OFFSET_COMMIT, 2, 10)
async def handle(ctx: RequestContext, req: OffsetCommitRequest) -> OffsetCommitResponse:
    caller = caller_of(ctx)
    try:
        return await ctx.services.groups.write(
            req.group_id, lambda shard: op_commit(shard, caller, req)
        )
    except KafkaError as refused:
        return _refused(req, refused.code)


def _refused(req: OffsetCommitRequest, error_code: int) -> OffsetCommitResponse:
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitResponsePartition(
                        partition_index=part.partition_index, error_code=error_code
                    )
                    for part in topic.partitions
                ],
            )
            for topic in req.topics
        ]
    )
