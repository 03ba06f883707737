"""DescribeTopicPartitions (75), version 0: topics page by page (KIP-966).

What Java clients describe topics with. Topics are in order of name. An answer holds at most
`response_partition_limit` partitions (and `max.request.partition.size.limit`); `next_cursor` is
where the next page starts, and comes back as `cursor`. An empty list of topics asks for all.

ACLs: Describe on topics.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.operations import TOPIC_OPERATIONS
from kbroker.broker.registry import handles
from kbroker.broker.topics import PartitionImage, TopicImage
from kbroker.wire import apis
from kbroker.wire.schema.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)

_NO_LEADER = -1


@handles(apis.DESCRIBE_TOPIC_PARTITIONS, 0, 0)
def handle(
    ctx: RequestContext, req: DescribeTopicPartitionsRequest
) -> DescribeTopicPartitionsResponse:
    names = sorted({asked.name for asked in req.topics})
    cursor = req.cursor
    if cursor is not None and cursor.partition_index < 0:
        return DescribeTopicPartitionsResponse(
            topics=[_failed(name, errors.INVALID_REQUEST) for name in names]
        )
    names = names or sorted(ctx.services.topics.image.topics)
    if cursor is not None:
        names = [name for name in names if name >= cursor.topic_name]
    limit = ctx.services.config.max_request_partition_size_limit
    room = max(1, min(req.response_partition_limit, limit))
    response = DescribeTopicPartitionsResponse()
    for name in names:
        topic = ctx.services.topics.image.topics.get(name)
        if topic is None:
            response.topics.append(_failed(name, _why_missing(ctx, name)))
            continue
        if room == 0:
            response.next_cursor = Cursor(topic_name=name, partition_index=0)
            break
        first = cursor.partition_index if cursor is not None and cursor.topic_name == name else 0
        page = topic.partitions[first : first + room]
        response.topics.append(_found(topic, page))
        room -= len(page)
        if first + len(page) < len(topic.partitions):
            response.next_cursor = Cursor(topic_name=name, partition_index=first + len(page))
            break
    return response


def _found(
    topic: TopicImage, page: tuple[PartitionImage, ...]
) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        partitions=[
            DescribeTopicPartitionsResponsePartition(
                error_code=(
                    errors.LEADER_NOT_AVAILABLE if partition.leader == _NO_LEADER else errors.NONE
                ),
                partition_index=partition.index,
                leader_id=partition.leader,
                leader_epoch=partition.leader_epoch,
                replica_nodes=list(partition.replicas),
                isr_nodes=list(partition.isr),
                eligible_leader_replicas=[],
                last_known_elr=[],
            )
            for partition in page
        ],
        topic_authorized_operations=TOPIC_OPERATIONS,
    )


def _failed(name: str, error_code: int) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(name=name, error_code=error_code)


def _why_missing(ctx: RequestContext, name: str) -> int:
    if ctx.services.topics.is_valid_name(name):
        return errors.UNKNOWN_TOPIC_OR_PARTITION
    return errors.INVALID_TOPIC_EXCEPTION
