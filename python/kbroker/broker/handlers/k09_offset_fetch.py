"""OffsetFetch (9), versions 1 to 10: what groups have committed.

* v2: all of a group's offsets (topics null), an error of the whole. v5: leader epochs (KIP-320).
* v7: require_stable (KIP-447). v8: many groups, each with an error of its own (KIP-709).
* v9: member and epoch, checked in groups of the consumer protocol (KIP-848). v10: topic ids.

What was never committed is offset -1 without an error. ACLs: Describe on the group and the topics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.groups import caller_of
from kbroker.broker.registry import handles
from kbroker.coord.group.ops.fetch_offsets import AskedTopic, FetchedTopic, op_fetch_offsets
from kbroker.wire import apis
from kbroker.wire.schema.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from kbroker.wire.struct import ZERO_ID

_TOP_LEVEL_ERROR_FROM = 2
_MANY_GROUPS_FROM = 8


@handles(apis.OFFSET_FETCH, 1, 10)
async def handle(ctx: RequestContext, req: OffsetFetchRequest) -> OffsetFetchResponse:
    if ctx.api_version >= _MANY_GROUPS_FROM:
        groups = [await _group(ctx, asked, req.require_stable) for asked in _once(req.groups)]
        return OffsetFetchResponse(groups=groups)
    asked = None
    if req.topics is not None:
        asked = [AskedTopic(t.name, ZERO_ID, t.partition_indexes) for t in req.topics]
    try:
        fetched = await _fetch(ctx, req.group_id, asked, require_stable=req.require_stable)
    except KafkaError as refused:
        if ctx.api_version >= _TOP_LEVEL_ERROR_FROM:
            return OffsetFetchResponse(error_code=refused.code)
        return OffsetFetchResponse(topics=[_refused(topic, refused.code) for topic in asked or ()])
    return OffsetFetchResponse(
        topics=[
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=part.partition,
                        committed_offset=part.offset,
                        committed_leader_epoch=part.leader_epoch,
                        metadata=part.metadata,
                        error_code=part.error_code,
                    )
                    for part in topic.partitions
                ],
            )
            for topic in fetched
        ]
    )


def _once(groups: Sequence[OffsetFetchRequestGroup]) -> Iterator[OffsetFetchRequestGroup]:
    """Without those that ask for all of a group again: that answer is many times its question."""
    seen: set[str] = set()
    for asked in groups:
        if asked.topics is None:
            if asked.group_id in seen:
                continue
            seen.add(asked.group_id)
        yield asked


async def _group(
    ctx: RequestContext, req: OffsetFetchRequestGroup, require_stable: bool
) -> OffsetFetchResponseGroup:
    asked = None
    if req.topics is not None:
        asked = [AskedTopic(t.name, t.topic_id, t.partition_indexes) for t in req.topics]
    try:
        fetched = await _fetch(
            ctx,
            req.group_id,
            asked,
            member_id=req.member_id,
            member_epoch=req.member_epoch,
            require_stable=require_stable,
        )
    except KafkaError as refused:
        return OffsetFetchResponseGroup(group_id=req.group_id, error_code=refused.code)
    return OffsetFetchResponseGroup(
        group_id=req.group_id,
        topics=[
            OffsetFetchResponseTopics(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetFetchResponsePartitions(
                        partition_index=part.partition,
                        committed_offset=part.offset,
                        committed_leader_epoch=part.leader_epoch,
                        metadata=part.metadata,
                        error_code=part.error_code,
                    )
                    for part in topic.partitions
                ],
            )
            for topic in fetched
        ],
    )


async def _fetch(
    ctx: RequestContext,
    group_id: str,
    asked: list[AskedTopic] | None,
    *,
    member_id: str | None = None,
    member_epoch: int = -1,
    require_stable: bool,
) -> list[FetchedTopic]:
    caller = caller_of(ctx)
    return await ctx.services.groups.read(
        group_id,
        lambda shard: op_fetch_offsets(
            shard,
            caller,
            group_id,
            asked,
            member_id=member_id,
            member_epoch=member_epoch,
            require_stable=require_stable,
        ),
    )


def _refused(topic: AskedTopic, error_code: int) -> OffsetFetchResponseTopic:
    return OffsetFetchResponseTopic(
        name=topic.name,
        partitions=[
            OffsetFetchResponsePartition(
                partition_index=partition, committed_offset=-1, error_code=error_code
            )
            for partition in topic.partitions
        ],
    )
